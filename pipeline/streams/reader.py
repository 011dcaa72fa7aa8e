"""Where a consumer's next deliveries come from: new entries, dead consumers', replies that never arrived."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import structlog
from redis.asyncio import Redis

from pipeline.streams.client import BLOCK_MS
from pipeline.streams.delivery import Delivery
from pipeline.streams.publisher import ensure_group
from pipeline.streams.scripts import FROM_START, Scripts, Taken

log = structlog.get_logger()

SWEEPS_PER_LEASE = 5
"""A killed consumer's entry is claimed within 1.2 leases."""
SWEEP_PAUSE_LEASES = 0.5
"""After an outage every entry looks abandoned; the living owners renew before anybody claims."""
STALL_LEASES = 0.5
"""A server that stood still for two thirds of a lease, unlike its clients, can take a living owner's entry
for abandoned; a blocked read that ends this much too late shows it in time."""
REAP_EVERY_S = 600.0
DEAD_CONSUMER_MS = 3_600_000
"""Every sweep, and every renewal, tells Redis that a consumer lives; one silent for an hour is dead."""


class Reader:
    """Reads for one consumer, one call at a time.

    After any error its knowledge is void: the group may be gone, a reply may be lost, other consumers may
    have had no chance to renew. The next call therefore begins by making the group, by taking up what was
    delivered to this consumer without its knowing, and by leaving the others' entries alone for a while.
    """

    def __init__(
        self, client: Redis, *, stream: str, group: str, consumer: str, slots: int, lease_ms: int
    ) -> None:
        self._client = client
        self._scripts = Scripts(client)
        self._stream = stream
        self._group = group
        self._consumer = consumer
        self._slots = slots
        self._lease_ms = lease_ms
        self._lease_s = lease_ms / 1000
        self._cursor = FROM_START
        self._called = False
        self._certain = False
        self._sweep_at = time.monotonic()
        self._reap_at = time.monotonic()

    async def next(self, running: list[str]) -> list[Delivery]:
        """Return up to as many deliveries as slots are free; blocks for a second if there are none.

        Must not be cancelled: entries of a reply that nobody receives wait for a whole lease.

        Args:
            running: The ids of the entries that occupy a slot; fewer than slots.

        Raises:
            redis.exceptions.RedisError: Redis is away, or stream and group are gone. Call again.
        """
        certain, self._certain = self._certain, False
        if certain:
            found = await self._next(len(running))
        else:
            again, self._called = self._called, True
            found = await self._recover(running)
            if again:
                self._spare_the_living()
        self._certain = True
        return found

    async def leave(self) -> None:
        """Delete this consumer from the group unless something is still pending for it."""
        await self._scripts.reap(self._stream, self._group, idle_ms=0, name=self._consumer)

    def _spare_the_living(self) -> None:
        """Leave the entries of others alone until their owners, if alive, have had time to renew."""
        self._sweep_at = time.monotonic() + self._lease_s * SWEEP_PAUSE_LEASES

    async def _next(self, running: int) -> list[Delivery]:
        free = self._slots - running
        now = time.monotonic()
        if now >= self._reap_at:
            self._reap_at = now + REAP_EVERY_S
            await self._scripts.reap(self._stream, self._group, idle_ms=DEAD_CONSUMER_MS)
        if now >= self._sweep_at and (claimed := await self._sweep(free)):
            return claimed
        return await self._read(free)

    async def _recover(self, running: list[str]) -> list[Delivery]:
        await ensure_group(self._client, self._stream, self._group)
        await self._scripts.load()
        taken = await self._scripts.recover(
            self._stream, self._group, self._consumer, running=running, most=self._slots
        )
        return self._accept(taken)

    async def _sweep(self, free: int) -> list[Delivery]:
        """Walk the pending entries to their end, or until every free slot has one; then go on from there."""
        claimed: list[Delivery] = []
        while len(claimed) < free:
            taken = await self._scripts.claim(
                self._stream,
                self._group,
                self._consumer,
                lease_ms=self._lease_ms,
                cursor=self._cursor,
                most=free - len(claimed),
            )
            claimed += self._accept(taken)
            self._cursor = taken.cursor
            if taken.cursor == FROM_START:
                self._sweep_at = time.monotonic() + self._lease_s / SWEEPS_PER_LEASE
                break
        return claimed

    async def _read(self, free: int) -> list[Delivery]:
        asked_at = time.monotonic()
        block_ms = max(1, min(BLOCK_MS, int((self._sweep_at - asked_at) * 1000)))
        reply = await self._client.xreadgroup(
            self._group, self._consumer, {self._stream: ">"}, count=free, block=block_ms
        )
        if time.monotonic() - asked_at > block_ms / 1000 + self._lease_s * STALL_LEASES:
            self._spare_the_living()
        return [
            Delivery(self._stream, self._group, self._consumer, entry_id, fields, count=1)
            for entry_id, fields in _entries(reply)
        ]

    def _accept(self, taken: Taken) -> list[Delivery]:
        for entry_id in taken.gone:
            log.warning("stream.entry_gone", stream=self._stream, entry_id=entry_id)
        return list(taken.deliveries)


def _entries(reply: Any) -> Iterator[tuple[str, dict[str, str]]]:  # noqa: ANN401 (redis-py has three shapes)
    """Yield the entries of an XREADGROUP reply of one stream.

    redis-py answers `[[stream, entries]]`, under `protocol=3` in the URL `{stream: [entries]}`, without
    legacy responses `{stream: entries}`.
    """
    per_stream = list(reply.values()) if isinstance(reply, dict) else [entries for _, entries in reply]
    for entries in per_stream:
        nested = bool(entries) and isinstance(entries[0], list)
        yield from entries[0] if nested else entries
