#!/usr/bin/env python3
"""Exit status 0 while the service of this container works; a sentence and 1 where it does not.

    healthcheck http PORT        its /readyz answers 200
    healthcheck consumer GROUP   a consumer of this container has read or renewed within the last lease

A consumer reads every second while it has a free slot, and renews its lease every third of one while it has
none. So a loop that hangs, or that cannot reach Redis, shows, and a long detection does not.
"""

from __future__ import annotations

import socket
import sys
import urllib.request

TIMEOUT_S = 5


def http(port: str) -> None:
    """Ask a server of this container whether it is ready.

    Raises:
        OSError: It does not answer, or says that it is not.
    """
    urllib.request.urlopen(f"http://127.0.0.1:{int(port)}/readyz", timeout=TIMEOUT_S).close()


def consumer(group: str) -> None:
    """Ask Redis when a consumer of this container last spoke.

    Raises:
        SystemExit: Too long ago, or never.
        redis.exceptions.RedisError: Redis is away, or has no such group.
    """
    from redis import Redis  # noqa: PLC0415 - the mail catcher's check needs neither

    from pipeline.keys import NOTIFIERS, PROCESSORS  # noqa: PLC0415
    from pipeline.settings import PipelineSettings, load  # noqa: PLC0415

    settings = load(PipelineSettings)
    stream = {PROCESSORS: settings.keys.scans, NOTIFIERS: settings.keys.results}[group]
    with Redis.from_url(settings.redis_url, decode_responses=True, socket_timeout=TIMEOUT_S) as client:
        consumers = client.xinfo_consumers(stream, group)
    ours = [each["idle"] for each in consumers if each["name"].startswith(f"{socket.gethostname()}-")]
    if min(ours, default=settings.lease_ms) >= settings.lease_ms:
        raise SystemExit(
            f"Expected a consumer of {group} in this container that spoke within {settings.lease_ms} ms, "
            f"found {f'one silent for {min(ours)} ms' if ours else 'none'}."
        )


def main() -> None:
    """Run the check that the arguments name."""
    check, subject = sys.argv[1:]
    {"http": http, "consumer": consumer}[check](subject)


if __name__ == "__main__":
    main()
