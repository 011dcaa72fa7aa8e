#!/usr/bin/env python3
"""Exit status 0 while the service of this container works; a sentence and 1 where it does not.

    healthcheck server PORT   its /readyz answers 200
    healthcheck worker        Redis has heard from it within the last lease

A worker reads every second while it has a free slot, and renews its lease every third of one while it has
none. So a loop that hangs or cannot reach Redis shows, and a long detection does not. What XINFO CONSUMERS
says would not do: before Redis 7.2 a read that finds nothing leaves no trace there.
"""

from __future__ import annotations

import math
import sys
import urllib.request
from collections.abc import Mapping
from typing import Any

TIMEOUT_S = 5


def server(port: str) -> None:
    """Ask a server of this container whether it is ready.

    Raises:
        OSError: It does not answer, or says that it is not.
    """
    urllib.request.urlopen(f"http://127.0.0.1:{int(port)}/readyz", timeout=TIMEOUT_S).close()


def worker() -> None:
    """Ask Redis when it last heard from this container, this check's own connection aside.

    Raises:
        SystemExit: Too long ago, or never.
        redis.exceptions.RedisError: Redis is away.
    """
    from redis import Redis  # noqa: PLC0415 - the check of a server does without

    from pipeline.settings import PipelineSettings, load  # noqa: PLC0415

    settings = load(PipelineSettings)
    with Redis.from_url(settings.redis_url, decode_responses=True, socket_timeout=TIMEOUT_S) as client:
        mine = client.client_info()
        others = [each for each in client.client_list() if each["id"] != str(mine["id"])]
    silent_s = [int(each["idle"]) for each in others if _host(each) == _host(mine)]
    if min(silent_s, default=math.inf) * 1000 > settings.lease_ms:
        raise SystemExit(
            f"Expected Redis to have heard from this worker within {settings.lease_ms / 1000:g} s; "
            + (f"its last word is {min(silent_s)} s old." if silent_s else "it is not connected.")
        )


def _host(client: Mapping[str, Any]) -> str:
    return str(client["addr"]).rpartition(":")[0]


def main() -> None:
    """Run the check that the arguments name."""
    match sys.argv[1:]:
        case ["server", port]:
            server(port)
        case ["worker"]:
            worker()
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
