"""What an administrator looks at: which entries run where, and how the server is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from pipeline.streams.scripts import HANDED_BACK


@dataclass(frozen=True)
class Pending:
    """An entry in the hands of a consumer.

    Attributes:
        entry_id: Its id.
        consumer: Who holds it.
        silent_ms: Since the last renewal.
        deliveries: How often it has been delivered, this time included.
        fields: What the producer wrote; empty if the entry was deleted meanwhile.
    """

    entry_id: str
    consumer: str
    silent_ms: int
    deliveries: int
    fields: Mapping[str, str]


@dataclass(frozen=True)
class Server:
    """How a Redis server is.

    Attributes:
        version: Of Redis, or the one that Valkey is compatible with.
        used_memory_bytes: What its data take.
        max_memory_bytes: What they may take; 0 is no limit.
        maxmemory_policy: What it does at the limit.
        aof: Whether it keeps an append-only file.
        aof_ok: Whether the last write to that file went well.
        clients: Open connections.
    """

    version: str
    used_memory_bytes: int
    max_memory_bytes: int
    maxmemory_policy: str
    aof: bool
    aof_ok: bool
    clients: int


async def read_pending(client: Redis, *, stream: str, group: str, most: int = 100) -> list[Pending]:
    """Return what consumers hold, oldest first; nothing where stream or group do not exist yet.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    try:
        found = cast("list[dict[str, Any]]", await client.xpending_range(stream, group, "-", "+", most))
    except ResponseError as error:
        if str(error).startswith("NOGROUP"):
            return []
        raise
    held = [each for each in found if each["consumer"] != HANDED_BACK]
    pipe = client.pipeline(transaction=False)
    for each in held:
        pipe.xrange(stream, each["message_id"], each["message_id"])
    return [
        Pending(
            entry_id=each["message_id"],
            consumer=each["consumer"],
            silent_ms=each["time_since_delivered"],
            deliveries=each["times_delivered"],
            fields=entries[0][1] if entries else {},
        )
        for each, entries in zip(held, await pipe.execute(), strict=True)
    ]


async def read_server(client: Redis) -> Server:
    """Return how the server is.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    facts: dict[str, Any] = await client.info()
    return Server(
        version=str(facts.get("redis_version", "unknown")),
        used_memory_bytes=int(facts.get("used_memory", 0)),
        max_memory_bytes=int(facts.get("maxmemory", 0)),
        maxmemory_policy=str(facts.get("maxmemory_policy", "unknown")),
        aof=str(facts.get("aof_enabled")) == "1",
        aof_ok=facts.get("aof_last_write_status", "ok") == "ok",
        clients=int(facts.get("connected_clients", 0)),
    )
