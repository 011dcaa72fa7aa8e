"""Holding an entry for as long as its handler runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import structlog
from redis.exceptions import RedisError

from pipeline.streams.delivery import Delivery
from pipeline.streams.errors import LeaseLostError
from pipeline.streams.scripts import Scripts

log = structlog.get_logger()
T = TypeVar("T")

RENEWALS_PER_LEASE = 3
"""Two renewals may fail before the lease is over."""
RETRIES_PER_LEASE = 10
"""While renewal fails it is tried more often, so that every owner has renewed soon after an outage."""
CANCEL_AGAIN_S = 1.0
"""redis-py loses one that comes while it sends, to asyncio.wait_for before Python 3.12: it is repeated."""


class Lease:
    """A delivery that is being renewed; lost when the entry is another consumer's or gone.

    While Redis is away the lease is kept: nobody else can claim either.
    """

    def __init__(self, scripts: Scripts, delivery: Delivery, lease_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._scripts = scripts
        self._delivery = delivery
        self._lease_s = lease_s
        self._lost: asyncio.Future[Any] = loop.create_future()
        self._renewing: asyncio.Task[None] | None = None
        # Most deliveries of a short job end before a renewal is due, and a timer costs less than a task.
        self._due = loop.call_later(lease_s / RENEWALS_PER_LEASE, self._begin_to_renew)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns; cancel it when the lease is lost or this task is cancelled.

        Either way `work` has come to its end when this method does.

        Raises:
            LeaseLostError: The entry is not this consumer's any more.
            Exception: Whatever `work` raises.
        """
        working = asyncio.create_task(work)
        try:
            await asyncio.wait({working, self._lost}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise LeaseLostError
        finally:
            while not working.done():
                working.cancel()
                await asyncio.wait({working}, timeout=CANCEL_AGAIN_S)
            await asyncio.gather(working, return_exceptions=True)  # what it raises is of no interest any more
        if working.cancelled():
            raise RuntimeError("Expected the handler to return or raise an error, it cancelled itself.")
        return working.result()

    def end(self) -> None:
        """Renew no more."""
        self._due.cancel()
        if self._renewing:
            self._renewing.cancel()  # not awaited: a renewal on its way checks the owner like any other

    def _begin_to_renew(self) -> None:
        self._renewing = asyncio.create_task(self._renew_until_lost())
        self._renewing.add_done_callback(lambda _: self._lost.set_result(None))

    async def _renew_until_lost(self) -> None:
        while True:
            try:
                if not await self._scripts.renew(self._delivery):
                    return
                delay_s = self._lease_s / RENEWALS_PER_LEASE
            except (RedisError, OSError) as error:
                delay_s = self._lease_s / RETRIES_PER_LEASE
                log.warning("lease.not_renewed", entry_id=self._delivery.entry_id, error=str(error))
            await asyncio.sleep(delay_s)


@contextlib.contextmanager
def held(scripts: Scripts, delivery: Delivery, lease_ms: int) -> Iterator[Lease]:
    """Renew `delivery` every third of a lease until the block is left."""
    lease = Lease(scripts, delivery, lease_ms / 1000)
    try:
        yield lease
    finally:
        lease.end()
