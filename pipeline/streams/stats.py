"""How much waits, runs, lies dead: the numbers to watch and to scale by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from pipeline.streams.scripts import HANDED_BACK

PENDING_SAMPLE = 1000
"""Most pending entries looked at; there are as many as slots, plus those that wait out a back-off."""


@dataclass(frozen=True)
class StreamStats:
    """One stream at one moment.

    Attributes:
        length: Entries that are not done: waiting, running, handed back. The number to scale by.
        pending: Of these, delivered to a consumer or handed back.
        running: Of these, held by a consumer, dead or alive.
        lag: Not yet delivered, as Redis counts it (7.0 or newer); None is unknown, not zero.
        oldest_ms: Age of the oldest entry, in ms; 0 if there is none.
        oldest_idle_ms: Longest time since a pending entry was renewed; above the lease its owner is dead.
        max_deliveries: Highest delivery count of a pending entry; 0 if nothing is pending.
        consumers: Consumers known to the group, those included that died within the last hour.
        dead: Dead letters.
    """

    length: int
    pending: int
    running: int
    lag: int | None
    oldest_ms: int
    oldest_idle_ms: int
    max_deliveries: int
    consumers: int
    dead: int

    @property
    def waiting(self) -> int:
        """Entries that nobody runs: not yet delivered, or handed back."""
        return max(0, self.length - self.running)


async def read_stats(client: Redis, *, stream: str, group: str, dead_stream: str) -> StreamStats:
    """Return the numbers of a stream and its group, all zero where they do not exist yet.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    pipe = client.pipeline(transaction=True)
    pipe.time()
    pipe.xlen(stream)
    pipe.xlen(dead_stream)
    pipe.xrange(stream, count=1)
    pipe.xinfo_groups(stream)
    pipe.xinfo_consumers(stream, group)
    pipe.xpending_range(stream, group, "-", "+", PENDING_SAMPLE)
    (seconds, micros), length, dead, first, *of_group = await pipe.execute(raise_on_error=False)
    groups, consumers, pending = ([] if isinstance(reply, ResponseError) else reply for reply in of_group)
    mine: dict[str, Any] = next((g for g in groups if g["name"] == group), {"pending": 0})
    oldest_at_ms = int(first[0][0].split("-")[0]) if first else seconds * 1000 + micros // 1000
    return StreamStats(
        length=length,
        pending=mine["pending"],
        running=sum(c["pending"] for c in consumers if c["name"] != HANDED_BACK),
        lag=mine.get("lag"),
        oldest_ms=seconds * 1000 + micros // 1000 - oldest_at_ms,
        oldest_idle_ms=max((p["time_since_delivered"] for p in pending), default=0),
        max_deliveries=max((p["times_delivered"] for p in pending), default=0),
        consumers=sum(c["name"] != HANDED_BACK for c in consumers),
        dead=dead,
    )
