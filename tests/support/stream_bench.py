"""A stream with consumers on it whose every start and effect is on record in Redis.

What a handler does is written in the entry: `seconds` it takes, `go`, a key in Redis that it then waits for,
`raise` (transient, permanent, bug) with `until` (the last delivery that raises), `die` (SIGKILL its own
process). Run as a program it is one consumer, so that a test can kill it:
`python -m tests.support.stream_bench URL LEASE_MS GRACE_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import redis.exceptions
from redis.asyncio import Redis

from pipeline.streams import (
    Consumer,
    DeadLetters,
    Delivery,
    Effect,
    Observer,
    PermanentError,
    Reason,
    StreamStats,
    TransientError,
    UnavailableError,
    connect,
    ensure_group,
    publish,
    read_stats,
)
from tests.support.waiting import eventually

STREAM, GROUP, DEAD, OUT, STARTS, TOLD = "work", "workers", "dead", "out", "starts", "told"
ROOT = Path(__file__).parents[2]
SLACK_S = 3.0
"""What a busy machine may add to a bound."""
ERRORS = {
    "transient": TransientError,
    "unavailable": UnavailableError,
    "permanent": PermanentError,
    "bug": ZeroDivisionError,
}


class Bench:
    """One stream, its group, and the record of what its consumers did."""

    def __init__(
        self,
        url: str,
        *,
        lease_ms: int = 500,
        grace_s: float = 0.2,
        connect: Callable[[str], Redis] = connect,
    ) -> None:
        self.url = url
        self._connect = connect
        self.lease_ms = lease_ms
        self.grace_s = grace_s
        self.client: Redis = connect(url)
        self._clients = [self.client]

    @property
    def lease_s(self) -> float:
        """The lease in seconds."""
        return self.lease_ms / 1000

    async def close(self) -> None:
        """Close every connection."""
        for client in self._clients:
            await client.aclose()

    def consumer(
        self,
        url: str | None = None,
        *,
        handler: Callable[[Delivery], Coroutine[Any, Any, Effect]] | None = None,
        on_dead: Callable[[Delivery, Reason], Coroutine[Any, Any, Effect]] | None = None,
        slots: int = 1,
        max_deliveries: int = 3,
        log_fields: tuple[str, ...] = (),
        observers: tuple[Observer, ...] = (),
    ) -> Consumer:
        """Return a consumer that does what the entry says, unless handlers are given."""
        client = self._connect(url) if url else self.client
        self._clients.append(client)
        return Consumer(
            client,
            stream=STREAM,
            group=GROUP,
            dead_stream=DEAD,
            handler=handler or self._handle,
            on_dead=on_dead or self._tell,
            slots=slots,
            lease_ms=self.lease_ms,
            max_deliveries=max_deliveries,
            grace_s=self.grace_s,
            log_fields=log_fields,
            observers=observers,
        )

    async def _handle(self, delivery: Delivery) -> Effect:
        fields = delivery.fields
        start = (delivery.entry_id, delivery.count, delivery.consumer, time.time())
        await self.client.rpush(STARTS, " ".join(map(str, start)))
        if "die" in fields:
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(float(fields.get("seconds", 0)))
        if "go" in fields:
            await eventually(lambda: self.client.exists(fields["go"]))
        if "raise" in fields and delivery.count <= int(fields.get("until", 1_000)):
            raise ERRORS[fields["raise"]]("as the entry says")
        lua = "redis.call('XADD', KEYS[1], '*', 'entry_id', ARGV[1], 'by', ARGV[2])"
        return Effect(lua, (OUT,), (delivery.entry_id, delivery.consumer))

    async def _tell(self, delivery: Delivery, reason: Reason) -> Effect:
        if "on_dead" in delivery.fields:
            raise ZeroDivisionError("as the entry says")
        args = (delivery.entry_id, reason.error)
        return Effect("redis.call('RPUSH', KEYS[1], ARGV[1] .. ' ' .. ARGV[2])", (TOLD,), args)

    async def add(self, **fields: str) -> str:
        """Publish one entry; returns its id."""
        await ensure_group(self.client, STREAM, GROUP)
        return await publish(self.client, STREAM, fields)

    async def let_go(self, key: str) -> None:
        """Let the handlers go on that wait for a key."""
        await self.client.set(key, "go")

    async def starts(self, entry_id: str) -> list[tuple[int, str]]:
        """Return delivery count and consumer of every start of an entry."""
        return [(int(count), consumer) for count, consumer, _ in await self._starts(entry_id)]

    async def started_at(self, entry_id: str) -> list[float]:
        """Return when an entry was started, in seconds."""
        return [float(at) for _, _, at in await self._starts(entry_id)]

    async def _starts(self, entry_id: str) -> list[list[str]]:
        lines = [str(line).split() for line in await self.client.lrange(STARTS, 0, -1)]
        return [rest for started_id, *rest in lines if started_id == entry_id]

    async def finished(self) -> list[str]:
        """Return the entries whose effect happened, as often as it did."""
        return [fields["entry_id"] for fields in await self._out()]

    async def finishers(self) -> list[str]:
        """Return whose effects these were."""
        return [fields["by"] for fields in await self._out()]

    async def _out(self) -> list[dict[str, str]]:
        entries: Any = await self.client.xrange(OUT)
        return [fields for _, fields in entries]

    async def told(self) -> list[str]:
        """Return the entries whose on_dead effect happened, with their reasons."""
        return [str(line) for line in await self.client.lrange(TOLD, 0, -1)]

    async def stats(self) -> StreamStats:
        """Return the stream's numbers."""
        return await read_stats(self.client, stream=STREAM, group=GROUP, dead_stream=DEAD)

    @property
    def dead(self) -> DeadLetters:
        """The dead letters."""
        return DeadLetters(self.client, DEAD)

    async def until_started(self, entry_id: str, times: int = 1) -> float:
        """Wait for the start of that number."""

        async def started() -> bool:
            return len(await self.starts(entry_id)) >= times

        return await eventually(started)

    async def until_empty(self) -> float:
        """Wait until nothing waits, runs or is pending."""

        async def empty() -> bool:
            with contextlib.suppress(redis.exceptions.ConnectionError):
                stats = await self.stats()
                return stats.length == stats.pending == 0
            return False

        return await eventually(empty)

    @contextlib.asynccontextmanager
    async def consuming(self, *consumers: Consumer) -> AsyncIterator[asyncio.Event]:
        """Run consumers in this process; yields what stops them, sets it at the end."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for consumer in consumers:
                tasks.create_task(consumer.run(stop))
            try:
                yield stop
            finally:
                stop.set()

    @contextlib.contextmanager
    def process(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run one consumer as a process of its own."""
        command = [sys.executable, "-m", __name__, self.url, str(self.lease_ms), str(self.grace_s)]
        process = subprocess.Popen(command, cwd=ROOT)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


async def not_heed(answer: str) -> None:
    """Wait to be cancelled, and then answer with `an error`, with `nothing`, or as if nothing had been."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if answer == "an error":
            raise ZeroDivisionError from None
        if answer == "nothing":
            await asyncio.Event().wait()


async def _main() -> None:
    url, lease_ms, grace_s = sys.argv[1:]
    bench = Bench(url, lease_ms=int(lease_ms), grace_s=float(grace_s))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await bench.consumer().run(stop)


if __name__ == "__main__":
    asyncio.run(_main())
