"""Celery, as it comes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import work
from celery import Celery

app = Celery("celery_peer", broker=work.URL)
app.conf.task_ignore_result = True
job = app.task(name="job")(work.job)


@asynccontextmanager
async def connected() -> AsyncIterator[work.Enqueue]:
    """Give what sends a job."""

    async def enqueue(number: int, sent_at: float, seconds: float) -> None:
        job.delay(number, sent_at, seconds)

    yield enqueue


if __name__ == "__main__":
    work.send(connected)
