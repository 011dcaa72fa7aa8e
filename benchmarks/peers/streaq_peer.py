"""streaQ, as it comes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import work
from streaq import Worker

worker = Worker(redis_url=work.URL, concurrency=work.CONCURRENCY)
job = worker.task(name="job")(work.async_job)


@asynccontextmanager
async def connected() -> AsyncIterator[work.Enqueue]:
    """Give what sends a job."""
    async with worker:

        async def enqueue(number: int, sent_at: float, seconds: float) -> None:
            await job.enqueue(number, sent_at, seconds)

        yield enqueue


if __name__ == "__main__":
    work.send(connected)
