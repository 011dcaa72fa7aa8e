"""Holding an entry for as long as its handler runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
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


class Lease:
    """A delivery that is being renewed; lost when the entry is another consumer's or gone.

    While Redis is away the lease is kept: nobody else can claim either.
    """

    def __init__(self, losing: asyncio.Task[None]) -> None:
        self._losing = losing

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns; cancel it when the lease is lost or this task is cancelled.

        Either way `work` has come to its end when this method does.

        Raises:
            LeaseLostError: The entry is not this consumer's any more.
            Exception: Whatever `work` raises.
        """
        working = asyncio.create_task(work)
        try:
            await asyncio.wait({working, self._losing}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise LeaseLostError
        finally:
            if not working.done():
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
        if working.cancelled():
            raise RuntimeError("Expected the handler to return or raise an error, it cancelled itself.")
        return working.result()


@contextlib.asynccontextmanager
async def held(scripts: Scripts, delivery: Delivery, lease_ms: int) -> AsyncIterator[Lease]:
    """Renew `delivery` every third of a lease until the block is left."""
    losing = asyncio.create_task(_renew_until_lost(scripts, delivery, lease_ms / 1000))
    try:
        yield Lease(losing)
    finally:
        losing.cancel()  # not awaited: a renewal on its way to Redis checks the owner like any other


async def _renew_until_lost(scripts: Scripts, delivery: Delivery, lease_s: float) -> None:
    delay_s = lease_s / RENEWALS_PER_LEASE
    while True:
        await asyncio.sleep(delay_s)
        try:
            if not await scripts.renew(delivery):
                return
            delay_s = lease_s / RENEWALS_PER_LEASE
        except (RedisError, OSError) as error:
            delay_s = lease_s / RETRIES_PER_LEASE
            log.warning("lease.not_renewed", entry_id=delivery.entry_id, error=str(error))
