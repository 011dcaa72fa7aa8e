"""Writing entries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError


async def ensure_group(client: Redis, stream: str, group: str) -> None:
    """Create the group, and the stream with it, unless they exist.

    Producer and consumer both call it. The group starts at `0`: what was published before it existed is
    delivered too, and the server can always tell the group's lag.

    Raises:
        redis.exceptions.RedisError: Redis is away, or the key holds something else than a stream.
    """
    try:
        await client.xgroup_create(stream, group, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise


async def publish(client: Redis, stream: str, fields: Mapping[str, str]) -> str:
    """Append one entry and return its id.

    Raises:
        redis.exceptions.RedisError: Redis is away. Not retried: when the connection breaks the entry may be
            there or not, and only the caller knows whether a second one does harm.
    """
    return cast("str", await client.xadd(stream, dict(fields)))  # type: ignore[arg-type]  # dict is invariant
