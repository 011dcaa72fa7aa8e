"""Who lives: consumers that say so regularly.

What XINFO CONSUMERS tells would not do: before Redis 7.2 a read that finds nothing leaves no trace there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

log = structlog.get_logger()

FORGOTTEN_AFTER_S = 3600
"""How long the silence of one that did not say goodbye is on record."""
BEATS_PER_LEASE = 3

# KEYS: presence. ARGV: name, seconds after which others are forgotten. The server's clock, for all the same.
_BEAT = """
local now = redis.call('TIME')
local at_s = tonumber(now[1]) + tonumber(now[2]) / 1e6
redis.call('ZADD', KEYS[1], tostring(at_s), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', tostring(at_s - tonumber(ARGV[2])))
"""


class Presence:
    """A sorted set of names, by when each was last heard of.

    Args:
        client: From `connect`.
        key: Of the set.
    """

    def __init__(self, client: Redis, key: str) -> None:
        self._client = client
        self._key = key
        self._beat: Any = client.register_script(_BEAT)

    @asynccontextmanager
    async def announced(self, name: str, lease_ms: int) -> AsyncIterator[None]:
        """Say that `name` lives, several times a lease, until the block ends; then that it has left.

        A Redis that is away is no reason to stop: it hears of the name again when it is back.
        """
        stop = asyncio.Event()
        beating = asyncio.create_task(self._beat_until(stop, name, lease_ms / 1000 / BEATS_PER_LEASE))
        try:
            yield
        finally:
            stop.set()  # a flag and no cancellation, which redis-py can swallow while it connects
            await beating

    async def silence_s(self) -> dict[str, float]:
        """Return for each name the seconds since it was last heard of.

        Raises:
            redis.exceptions.RedisError: Redis is away.
        """
        pipe = self._client.pipeline(transaction=True)
        pipe.time()
        pipe.zrange(self._key, 0, -1, withscores=True)
        (seconds, micros), heard = await pipe.execute()
        now_s = seconds + micros / 1e6
        return {name: max(0.0, now_s - at_s) for name, at_s in cast("list[tuple[str, float]]", heard)}

    async def _beat_until(self, stop: asyncio.Event, name: str, every_s: float) -> None:
        while not stop.is_set():
            with suppress(RedisError, OSError):  # whoever consumes logs that Redis is away
                await self._beat(keys=[self._key], args=[name, FORGOTTEN_AFTER_S])
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), every_s)
        with suppress(RedisError, OSError):
            await self._client.zrem(self._key, name)
