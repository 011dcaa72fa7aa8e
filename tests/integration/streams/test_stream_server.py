"""Redis may be killed, paused, flushed or away: consumers wait and go on."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError

from pipeline.streams import Delivery, Effect, durability_warnings, ensure_group, publish, wait_until_ready
from tests.support.redis_server import RedisServer
from tests.support.stream_bench import DEAD, GROUP, SLACK_S, STREAM, Bench
from tests.support.waiting import eventually


async def test_consumers_survive_the_server(stream_bench: Bench, redis_server: RedisServer) -> None:
    """Rule 20: the append-only file brings back stream, group and pending list; all entries finish once."""
    stream_bench.lease_ms = 1500
    running = await stream_bench.add(seconds="4.5")
    waiting = await stream_bench.add(seconds="0")
    async with stream_bench.consuming(stream_bench.consumer(), stream_bench.consumer()):
        await stream_bench.until_started(waiting)
        redis_server.kill()
        await asyncio.sleep(2 * stream_bench.lease_s)
        await asyncio.to_thread(redis_server.start)
        await wait_until_ready(stream_bench.client, asyncio.Event())
        late = await stream_bench.add(seconds="0")
        await stream_bench.until_empty()
    assert sorted(await stream_bench.finished()) == sorted([running, waiting, late])
    # After an outage longer than the lease every entry looks abandoned; its living owner keeps it.
    assert len(await stream_bench.starts(running)) == 1


async def test_a_redis_that_stands_still_past_the_lease_doubles_nothing(
    stream_bench: Bench, redis_server: RedisServer
) -> None:
    """Everything looks abandoned to a server that was paused; its living owners renew before a sweep."""
    stream_bench.lease_ms = 1500
    async with stream_bench.consuming(stream_bench.consumer(), stream_bench.consumer()):
        entry_id = await stream_bench.add(seconds="4.5")
        await stream_bench.until_started(entry_id)
        redis_server.pause()
        await asyncio.sleep(2 * stream_bench.lease_s)
        redis_server.resume()
        await stream_bench.until_empty()
    assert len(await stream_bench.starts(entry_id)) == 1
    assert await stream_bench.finished() == [entry_id]


async def test_a_handler_that_cannot_reach_redis_is_not_charged(stream_bench: Bench) -> None:
    """An outage says nothing of the entry: however often it is met, the entry is not dead-lettered for it."""
    counts: list[int] = []

    async def reach_redis_at_the_fifth_try(delivery: Delivery) -> Effect:
        counts.append(delivery.count)
        if len(counts) < 5:
            raise RedisConnectionError("as an outage does")
        return Effect.none()

    await stream_bench.add(number="1")
    async with stream_bench.consuming(stream_bench.consumer(handler=reach_redis_at_the_fifth_try)):
        await stream_bench.until_empty()
    assert counts == [1] * 5
    assert await stream_bench.dead.list() == []


async def test_an_effect_is_written_when_redis_returns(
    stream_bench: Bench, redis_server: RedisServer
) -> None:
    """A handler that ends while Redis is away is not run again: its effect waits for Redis."""
    ended = asyncio.Event()

    async def end_while_redis_is_away(_: Delivery) -> Effect:
        starts.append(entry_id)
        await ended.wait()
        return Effect("redis.call('RPUSH', KEYS[1], ARGV[1])", ("effects",), (entry_id,))

    starts: list[str] = []
    entry_id = await stream_bench.add(number="1")
    async with stream_bench.consuming(stream_bench.consumer(handler=end_while_redis_is_away)):

        async def started() -> bool:
            return bool(starts)

        await eventually(started)
        redis_server.kill()
        ended.set()
        await asyncio.sleep(0.6)
        await asyncio.to_thread(redis_server.start)
        await stream_bench.until_empty()
    assert await stream_bench.client.lrange("effects", 0, -1) == [entry_id]
    assert starts == [entry_id]


async def test_a_consumer_may_be_started_before_redis(stream_bench: Bench, redis_server: RedisServer) -> None:
    """Services start in any order; a consumer without Redis waits."""
    redis_server.kill()
    async with stream_bench.consuming(stream_bench.consumer()):
        ready = asyncio.create_task(wait_until_ready(stream_bench.client, asyncio.Event()))
        await asyncio.sleep(0.2)
        assert not ready.done()
        await asyncio.to_thread(redis_server.start)
        await ready
        entry_id = await stream_bench.add(seconds="0")
        await stream_bench.until_empty()
    assert await stream_bench.finished() == [entry_id]


@pytest.mark.parametrize(
    "deletion", ["'FLUSHALL'", f"'DEL','{STREAM}'", f"'XGROUP','DESTROY','{STREAM}','{GROUP}'"]
)
async def test_a_group_that_vanishes_is_made_again_with_a_back_off(
    stream_bench: Bench, deletion: str
) -> None:
    """Rule 2: new entries flow again at once; NOGROUP does not block, so the loop backs off."""
    async with stream_bench.consuming(stream_bench.consumer(slots=2)):
        lost = await stream_bench.add(seconds="60")
        await stream_bench.until_started(lost)
        with structlog.testing.capture_logs() as lines:
            await stream_bench.client.eval(f"return redis.call({deletion})", 0)
            entry_id = await publish(stream_bench.client, STREAM, {"seconds": "0"})

            async def finished() -> bool:
                return entry_id in await stream_bench.finished()

            assert await eventually(finished) < 0.5 + SLACK_S
    assert len([line for line in lines if line["event"] == "stream.unavailable"]) <= 3


async def test_a_handler_whose_entry_vanished_is_cancelled(stream_bench: Bench) -> None:
    """FLUSHALL ends the lease: the slot is free again after a renewal, not after the handler."""
    consumer = stream_bench.consumer()
    async with stream_bench.consuming(consumer):
        entry_id = await stream_bench.add(seconds="60")
        await stream_bench.until_started(entry_id)
        await stream_bench.client.flushall()

        async def free() -> bool:
            return not consumer.running

        assert await eventually(free) < stream_bench.lease_s + SLACK_S


@pytest.mark.parametrize("first", ["producer", "consumer"])
async def test_the_group_is_made_at_0_by_whoever_comes_first(stream_bench: Bench, first: str) -> None:
    """Rule 1: what was published before the group is delivered, and the server can tell the group's lag."""
    if first == "consumer":
        async with stream_bench.consuming(stream_bench.consumer()):

            async def made() -> bool:
                return bool(await stream_bench.client.exists(STREAM))

            await eventually(made)
    entry_id = await publish(stream_bench.client, STREAM, {"seconds": "0"})
    for _ in range(2):
        await ensure_group(stream_bench.client, STREAM, GROUP)
    (group,) = await stream_bench.client.xinfo_groups(STREAM)
    assert (group["last-delivered-id"], group.get("lag", 1)) == ("0-0", 1)
    async with stream_bench.consuming(stream_bench.consumer()):
        await stream_bench.until_empty()
    assert await stream_bench.finished() == [entry_id]


@pytest.mark.not_on_the_fake("fakeredis has no INFO")
async def test_a_server_that_can_lose_events_is_named(stream_bench: Bench) -> None:
    """Rule 21: no append-only file, or an eviction policy: each is said with what to set."""
    assert await durability_warnings(stream_bench.client) == []
    await stream_bench.client.config_set("maxmemory-policy", "allkeys-lru")
    await stream_bench.client.config_set("appendonly", "no")
    eviction, persistence = await durability_warnings(stream_bench.client)
    assert "expected maxmemory-policy noeviction, found allkeys-lru" in eviction
    assert "appendonly yes" in persistence


async def test_the_numbers_to_watch_are_exported(stream_bench: Bench) -> None:
    """Rule 23: XLEN is waiting plus running, since what is done is deleted; a missing stream is all zero."""
    missing = await stream_bench.stats()
    assert (missing.length, missing.pending, missing.lag, missing.consumers, missing.dead) == (
        0,
        0,
        None,
        0,
        0,
    )
    await stream_bench.add(**{"raise": "permanent"})
    ids = [await stream_bench.add(seconds="60") for _ in range(3)]
    async with stream_bench.consuming(stream_bench.consumer()) as stop:
        await stream_bench.until_started(ids[0])
        stats = await stream_bench.stats()
        assert (stats.length, stats.waiting, stats.running, stats.pending) == (3, 2, 1, 1)
        assert (stats.consumers, stats.dead, stats.max_deliveries) == (1, 1, 1)
        (group,) = await stream_bench.client.xinfo_groups(STREAM)
        assert stats.lag == (2 if "lag" in group else None)  # which Redis 6.2 does not say
        assert 0 <= stats.oldest_idle_ms <= stats.oldest_ms <= 60_000
        stop.set()
    stats = await stream_bench.stats()
    assert (stats.length, stats.waiting, stats.running, stats.pending) == (3, 3, 0, 1)
    assert await stream_bench.client.xlen(DEAD) == 1
