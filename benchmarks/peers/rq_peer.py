"""RQ, as it comes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis
import work
from rq import Queue


@asynccontextmanager
async def connected() -> AsyncIterator[work.Enqueue]:
    """Give what sends a job."""
    queue = Queue(connection=redis.Redis.from_url(work.URL))

    async def enqueue(number: int, sent_at: float, seconds: float) -> None:
        queue.enqueue(work.job, number, sent_at, seconds)

    yield enqueue


if __name__ == "__main__":
    work.send(connected)
