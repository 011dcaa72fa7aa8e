"""taskiq on Redis Streams, as it comes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import work
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(url=work.URL)
job = broker.task(task_name="job")(work.async_job)


@asynccontextmanager
async def connected() -> AsyncIterator[work.Enqueue]:
    """Give what sends a job."""
    await broker.startup()

    async def enqueue(number: int, sent_at: float, seconds: float) -> None:
        await job.kiq(number, sent_at, seconds)

    yield enqueue
    await broker.shutdown()


if __name__ == "__main__":
    work.send(connected)
