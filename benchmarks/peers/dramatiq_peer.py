"""Dramatiq, as it comes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dramatiq
import work
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=work.URL))
job = dramatiq.actor(work.job)


@asynccontextmanager
async def connected() -> AsyncIterator[work.Enqueue]:
    """Give what sends a job."""

    async def enqueue(number: int, sent_at: float, seconds: float) -> None:
        job.send(number, sent_at, seconds)

    yield enqueue


if __name__ == "__main__":
    work.send(connected)
