"""Who follows a job hears of all that happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from pipeline.job_news import JobNews
from pipeline.keys import Keys
from pipeline.streams import connect
from tests.support.redis_server import RedisServer
from tests.support.waiting import PATIENCE_S

KEYS = Keys("corestream:")


@asynccontextmanager
async def running_news(client: Redis) -> AsyncIterator[JobNews]:
    """Listen until the block ends."""
    news, stop = JobNews(client, KEYS), asyncio.Event()
    listening = asyncio.create_task(news.run(stop))
    try:
        yield news
    finally:
        stop.set()
        await listening


async def subscriptions(redis_url: str) -> int:
    """Return how many patterns Redis tells somebody of."""
    async with connect(redis_url) as client:
        return int(await client.pubsub_numpat())


async def test_followers_look_again_once_what_happens_is_heard(redis_server: RedisServer) -> None:
    """What happened between their look and the subscription would else be learned a minute later."""
    client = connect(redis_server.url)
    await client.ping()  # there is a connection: the subscription alone is still to be sent
    redis_server.pause()
    async with running_news(client) as news:
        with news.follow("a job") as woken:
            await asyncio.sleep(0.1)  # what must not happen cannot be awaited
            assert not woken.is_set()
            redis_server.resume()
            await asyncio.wait_for(woken.wait(), PATIENCE_S)
            assert await subscriptions(redis_server.url) == 1
    await client.aclose()


async def test_followers_look_again_when_redis_is_back(redis_server: RedisServer) -> None:
    """And hear from then on."""
    client = connect(redis_server.url)
    async with running_news(client) as news:
        with news.follow("a job") as woken:
            for _ in range(2):
                await asyncio.wait_for(woken.wait(), PATIENCE_S)
                assert await subscriptions(redis_server.url) == 1
                woken.clear()
                redis_server.kill()
                await asyncio.to_thread(redis_server.start)
            await asyncio.wait_for(woken.wait(), PATIENCE_S)
            woken.clear()
            async with connect(redis_server.url) as other:
                await other.publish(KEYS.timeline("a job"), "")
            await asyncio.wait_for(woken.wait(), PATIENCE_S)
    await client.aclose()
