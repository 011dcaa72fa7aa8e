"""What every peer does: one job that tells when it started, and one loop that sends jobs.

Runs in the environments of the peers, so it imports nothing but the standard library and redis.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import redis

URL = os.environ["PEER_REDIS_URL"]
CONCURRENCY = int(os.environ.get("PEER_CONCURRENCY", "1"))
STARTED = "bench:started"
"""A list: a line for every start of a job, with its number, when it started and was sent, and its process."""

Enqueue = Callable[[int, float, float], Awaitable[object]]
"""Sends the job of a number, a time of sending and a duration in seconds."""

_redis = redis.Redis.from_url(URL)


def tell(number: int, sent_at: float) -> None:
    """Tell that a job has started."""
    _redis.rpush(STARTED, f"{number} {time.time()} {sent_at} {os.getpid()}")


def job(number: int, sent_at: float, seconds: float) -> None:
    """Tell, and take so long."""
    tell(number, sent_at)
    if seconds:
        time.sleep(seconds)


async def async_job(number: int, sent_at: float, seconds: float) -> None:
    """Do the same without blocking the event loop for long."""
    tell(number, sent_at)
    if seconds:
        await asyncio.sleep(seconds)


def send(connected: Callable[[], AbstractAsyncContextManager[Enqueue]]) -> None:
    """Send as the command line says: `COUNT SECONDS PAUSE`, all at once where the pause is 0.

    With a pause, the next job is sent that long after the last one has started.
    """
    count, seconds, pause = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])

    async def all_jobs() -> None:
        async with connected() as enqueue:
            for number in range(count):
                await enqueue(number, time.time(), seconds)
                while pause and _redis.llen(STARTED) <= number:  # noqa: ASYNC110 - another process's event
                    await asyncio.sleep(0.005)
                await asyncio.sleep(pause)

    asyncio.run(all_jobs())
