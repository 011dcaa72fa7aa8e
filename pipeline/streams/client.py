"""Connections to Redis, and what is wrong with the server they lead to."""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pipeline.streams.backoff import Backoff

log = structlog.get_logger()

BLOCK_MS = 1000
"""Longest blocking read: how long a consumer takes to notice that it shall stop."""
SOCKET_TIMEOUT_S = 5.0
"""Above BLOCK_MS, or a quiet stream would look like a dead server."""
PING_TIMEOUT_S = 2.0
"""Whoever asks whether a service is ready wants to know soon."""
MAX_CONNECTIONS = 1000
"""A pool refuses beyond this; redis-py's own 100 can be fewer than the requests that are answered at once."""

_UNABLE = (
    "LOADING",
    "READONLY",
    "OOM command",
    "MISCONF",
    "MASTERDOWN",
    "NOREPLICAS",
    "CLUSTERDOWN",
    "TRYAGAIN",
)
"""How error replies begin that say nothing of the command; inside a script's error text they stand later."""


def is_unavailable(error: Exception) -> bool:
    """Return whether Redis was away, loading, a replica or full: the same command may work later."""
    if isinstance(error, ResponseError):
        return isinstance(error, ReadOnlyError | OutOfMemoryError) or any(u in str(error) for u in _UNABLE)
    return isinstance(error, RedisConnectionError | RedisTimeoutError)


def connect(url: str) -> Redis:
    """Return a client that connects at its first command.

    Commands are never retried by the client: a retried XADD makes two entries.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
    """
    return Redis.from_url(
        url,
        decode_responses=True,
        encoding_errors="surrogateescape",
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=SOCKET_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        max_connections=MAX_CONNECTIONS,
    )


async def why_unavailable(client: Redis) -> str | None:
    """Return what is wrong with Redis, asked at most `PING_TIMEOUT_S`; None if it answers."""
    try:
        async with asyncio.timeout(PING_TIMEOUT_S):
            await client.ping()
    except (RedisError, OSError) as error:
        return f"Expected Redis to answer, but: {str(error).rstrip('.') or 'it is silent'}."
    return None


async def wait_until_ready(client: Redis, stop: asyncio.Event) -> None:
    """Return once Redis answers and has loaded its data, however long that takes, or `stop` is set.

    A flag ends it and not a cancellation, which redis-py can swallow while it connects.
    """
    backoff = Backoff()
    while not stop.is_set() and await why_unavailable(client):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), backoff.next())


async def warn_unless_durable(client: Redis, stop: asyncio.Event) -> None:
    """Log what in the server's configuration can lose events, as soon as it answers, unless `stop` is set."""
    await wait_until_ready(client, stop)
    for warning in await durability_warnings(client) if not stop.is_set() else ():
        log.warning("redis.not_durable", warning=warning)


async def durability_warnings(client: Redis) -> list[str]:
    """Return what in the server's configuration can lose events, as sentences; empty if nothing."""
    try:
        memory = await client.info("memory")
        persistence = await client.info("persistence")
    except (RedisError, OSError) as error:
        return [f"Whether Redis keeps its data could not be checked: INFO failed ({error})."]
    warnings = []
    policy = memory.get("maxmemory_policy", "unknown")
    if policy != "noeviction":
        warnings.append(
            f"Redis may evict streams when memory runs out: expected maxmemory-policy noeviction, "
            f"found {policy}. Set `maxmemory-policy noeviction` in redis.conf."
        )
    if str(persistence.get("aof_enabled")) != "1":
        warnings.append(
            "Redis loses events when it stops: expected an append-only file, found none. "
            "Set `appendonly yes` in redis.conf."
        )
    return warnings
