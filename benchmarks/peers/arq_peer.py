"""arq, as it comes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import work
from arq import create_pool
from arq.connections import RedisSettings


async def job(context: dict[str, object], number: int, sent_at: float, seconds: float) -> None:  # noqa: ARG001 - arq gives it
    """Run the job."""
    await work.async_job(number, sent_at, seconds)


class WorkerSettings:
    """What arq's command line reads."""

    functions: ClassVar = [job]
    redis_settings = RedisSettings.from_dsn(work.URL)
    max_jobs = work.CONCURRENCY
    keep_result = 0


@asynccontextmanager
async def connected() -> AsyncIterator[work.Enqueue]:
    """Give what sends a job."""
    pool = await create_pool(WorkerSettings.redis_settings)

    async def enqueue(number: int, sent_at: float, seconds: float) -> None:
        await pool.enqueue_job("job", number, sent_at, seconds)

    yield enqueue
    await pool.aclose()


if __name__ == "__main__":
    work.send(connected)
