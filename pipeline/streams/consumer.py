"""The loop of a consumer: deliveries in, one settled outcome out of each."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from pipeline.streams.backoff import Backoff, delay_s
from pipeline.streams.client import is_unavailable, warn_unless_durable
from pipeline.streams.delivery import Delivery, Reason
from pipeline.streams.effect import Effect
from pipeline.streams.errors import LeaseLostError, PermanentError, TransientError, UnavailableError
from pipeline.streams.lease import Lease, held
from pipeline.streams.observation import Delivered, Ended, Observer, Outcome, log_ended, tell
from pipeline.streams.reader import Reader
from pipeline.streams.scripts import AT_ONCE_MS, Scripts

log = structlog.get_logger()

Handler = Callable[[Delivery], Coroutine[Any, Any, Effect]]
OnDead = Callable[[Delivery, Reason], Coroutine[Any, Any, Effect]]

FIRST_DELAY_LEASES = 1 / 16
"""The back-off of the first redelivery; it doubles up to a whole lease."""
SETTLE_CAP_S = 1.0
"""Longest pause before telling a returning Redis how a delivery ended."""


@dataclass(frozen=True)
class _End:
    outcome: Outcome
    details: dict[str, object] = field(default_factory=dict)


class Consumer:
    """Runs a handler for every entry of a stream, once, whatever dies.

    Args:
        client: From `connect`; may be shared.
        stream: Where the entries come from.
        group: The stream's only consumer group.
        dead_stream: Where entries go that cannot be processed.
        handler: Awaited for each delivery; returns what to write. It may be cancelled (the lease is lost, the
            consumer stops) and may run again for the same entry, since only its effect happens once. It must
            not block the event loop: renewal runs there.
        on_dead: Awaited before an entry is dead-lettered; its effect is written in the same step. If it
            fails the entry is dead-lettered without effect.
        slots: How many deliveries run at once.
        lease_ms: How long an entry may go without renewal before others claim it; also the longest back-off.
        max_deliveries: Starts after which an entry is dead-lettered, however they ended.
        grace_s: How long running handlers may go on after a stop.
        log_fields: Names of entry fields that identify it in every line logged during its delivery.
        observers: Are told of each delivery and of its end, for metrics.

    Attributes:
        name: Its own in the group, and of no other process before or after: what is pending under it is known
            to be this consumer's.
    """

    def __init__(  # noqa: PLR0913 (keyword-only, and each is a decision of its own)
        self,
        client: Redis,
        *,
        stream: str,
        group: str,
        dead_stream: str,
        handler: Handler,
        on_dead: OnDead,
        slots: int = 1,
        lease_ms: int = 15_000,
        max_deliveries: int = 3,
        grace_s: float = 20.0,
        log_fields: tuple[str, ...] = (),
        observers: tuple[Observer, ...] = (),
    ) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._client = client
        self._scripts = Scripts(client)
        self._stream = stream
        self._group = group
        self._dead_stream = dead_stream
        self._handler = handler
        self._on_dead = on_dead
        self._slots = slots
        self._lease_ms = lease_ms
        self._max_deliveries = max_deliveries
        self._grace_s = grace_s
        self._log_fields = log_fields
        self._observers = (log_ended, *observers)
        self._reader = Reader(
            client, stream=stream, group=group, consumer=self.name, slots=slots, lease_ms=lease_ms
        )
        self._backoff = Backoff()
        self._running: dict[asyncio.Task[None], Delivery] = {}

    @property
    def running(self) -> tuple[Delivery, ...]:
        """The deliveries that occupy a slot at this moment."""
        return tuple(self._running.values())

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set.

        Then nothing is read any more, what runs may end within the grace, and the rest is cancelled and
        handed back: claimable at once, and not counted. Redis may be away at any time, also at the start;
        do not wait for it before: the consumer has to know that others had no chance to renew.
        """
        log.info("consumer.started", stream=self._stream, consumer=self.name, slots=self._slots)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(warn_unless_durable(self._client, stop))
            stopping = tasks.create_task(stop.wait())
            while not stop.is_set():
                if len(self._running) == self._slots:
                    await asyncio.wait({stopping, *self._running}, return_when=asyncio.FIRST_COMPLETED)
                    continue
                for delivery in await self._next(stopping):
                    if stop.is_set():  # it came while the last read was blocked
                        await self._decline(delivery)
                    elif delivery not in self.running:  # a group made again delivers anew what runs here
                        self._start(tasks, delivery)
            await self._drain()
        await self._leave()

    async def _next(self, stopping: asyncio.Task[Any]) -> list[Delivery]:
        """Return what can start now; after an error nothing, and not before a back-off."""
        try:
            found = await self._reader.next([delivery.entry_id for delivery in self.running])
        except (RedisError, OSError) as error:
            pause_s = round(self._backoff.next(), 3)
            log.warning("stream.unavailable", stream=self._stream, error=str(error), retry_in_s=pause_s)
            await asyncio.wait({stopping}, timeout=pause_s)
            return []
        self._backoff.reset()
        return found

    def _start(self, tasks: asyncio.TaskGroup, delivery: Delivery) -> None:
        task = tasks.create_task(self._deliver(delivery))
        self._running[task] = delivery
        task.add_done_callback(self._running.pop)

    async def _decline(self, delivery: Delivery) -> None:
        tell(self._observers, Delivered(delivery))
        end = await self._hand_back_now(delivery)
        with structlog.contextvars.bound_contextvars(**self._named(delivery)):
            tell(self._observers, Ended(delivery, end.outcome, 0.0, end.details))

    async def _drain(self) -> None:
        if self._running:
            log.info(
                "consumer.draining", consumer=self.name, running=len(self._running), grace_s=self._grace_s
            )
            await asyncio.wait(self._running, timeout=self._grace_s)
        for task in tuple(self._running):
            task.cancel()

    async def _leave(self) -> None:
        try:
            await self._reader.leave()
        except (RedisError, OSError) as error:
            log.warning("consumer.not_removed", consumer=self.name, error=str(error))
        log.info("consumer.stopped", consumer=self.name)

    async def _deliver(self, delivery: Delivery) -> None:
        """Run one delivery from the first observation of it to the last; never raises."""
        started = time.monotonic()
        with structlog.contextvars.bound_contextvars(**self._named(delivery)):
            tell(self._observers, Delivered(delivery))
            with held(self._scripts, delivery, self._lease_ms) as lease:
                try:
                    end = await self._attempt(lease, delivery)
                except LeaseLostError:
                    end = _End("lost")
                except asyncio.CancelledError:
                    end = await self._hand_back_now(delivery)
                except Exception:
                    log.exception("delivery.not_settled")
                    end = _End("abandoned")
            seconds = time.monotonic() - started
            tell(self._observers, Ended(delivery, end.outcome, seconds, end.details))

    def _named(self, delivery: Delivery) -> dict[str, str]:
        chosen = {name: delivery.fields[name] for name in self._log_fields if name in delivery.fields}
        return {"entry_id": delivery.entry_id, **chosen}

    async def _attempt(self, lease: Lease, delivery: Delivery) -> _End:
        if delivery.count > self._max_deliveries:
            starts = delivery.count - 1
            reason = Reason(f"started {starts} times, never came to an end", starts)
            return await self._bury(lease, delivery, reason)
        try:
            effect = await lease.run(self._handler(delivery))
            return await self._settle(_End("finished"), lambda: self._scripts.finish(delivery, effect))
        except LeaseLostError:
            raise
        except PermanentError as error:
            return await self._bury(lease, delivery, _reason(delivery, error))
        except Exception as error:
            if not isinstance(error, TransientError) and not is_unavailable(error):
                log.exception("delivery.crashed")
            return await self._retry(lease, delivery, error)

    async def _retry(self, lease: Lease, delivery: Delivery, error: Exception) -> _End:
        """Hand back with a back-off, or dead-letter after the last start that an entry is entitled to.

        That something was away says nothing of the entry, so it does not count.
        """
        reason = _reason(delivery, error)
        counted = not _says_nothing(error)
        if counted and delivery.count >= self._max_deliveries:
            return await self._bury(lease, delivery, reason)
        delay_ms = int(delay_s(delivery.count - 1, self._lease_ms * FIRST_DELAY_LEASES, self._lease_ms))
        return await self._settle(
            _End("handed_back", {"error": reason.error, "retry_in_s": delay_ms / 1000}),
            lambda: self._scripts.hand_back(delivery, idle_ms=self._lease_ms - delay_ms, counted=counted),
        )

    async def _bury(self, lease: Lease, delivery: Delivery, reason: Reason) -> _End:
        async def bury(effect: Effect) -> _End:
            return await self._settle(
                _End("dead", {"error": reason.error}),
                lambda: self._scripts.bury(delivery, self._dead_stream, reason, effect),
            )

        try:
            return await bury(await lease.run(self._on_dead(delivery, reason)))
        except LeaseLostError:
            raise
        except Exception as error:
            if _says_nothing(error):
                return await self._retry(lease, delivery, error)
            log.exception("delivery.on_dead_failed")
            return await bury(Effect.none())

    async def _settle(self, end: _End, run: Callable[[], Awaitable[bool]]) -> _End:
        """Tell Redis how a delivery ended, until Redis has answered.

        When a reply was lost, a refusal cannot tell "done at the first try" from "another consumer's".
        """
        backoff = Backoff(cap_s=SETTLE_CAP_S)
        refused = _End("lost")
        while True:
            try:
                return end if await run() else refused
            except RedisError as error:
                if not is_unavailable(error):
                    raise
                refused = _End("unconfirmed", {"attempted": end.outcome})
                log.warning("delivery.settling", attempted=end.outcome, error=str(error))
                await asyncio.sleep(backoff.next())

    async def _hand_back_now(self, delivery: Delivery) -> _End:
        """Give an entry back because this consumer stops: claimable at once, not counted."""
        try:
            owned = await self._scripts.hand_back(delivery, idle_ms=AT_ONCE_MS, counted=False)
        except (RedisError, OSError) as error:
            return _End("abandoned", {"error": str(error)})
        return _End("handed_back", {"retry_in_s": 0}) if owned else _End("lost")


def _says_nothing(error: Exception) -> bool:
    """Return whether an error says nothing of the entry: Redis, or what else is needed, was away."""
    return isinstance(error, UnavailableError) or is_unavailable(error)


def _reason(delivery: Delivery, error: Exception) -> Reason:
    return Reason(f"{type(error).__name__}: {error}", delivery.count, error)
