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


async def test_a_killed_redis_comes_back_and_its_consumers_go_on(
    stream_bench: Bench, redis_server: RedisServer
) -> None:
    """The append-only file brings back stream, group and pending list; all entries finish once."""
    running = await stream_bench.add(seconds="1.5")
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
    async with stream_bench.consuming(stream_bench.consumer(), stream_bench.consumer()):
        entry_id = await stream_bench.add(seconds="1.5")
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
    entry_id = await stream_bench.add(seconds="0.3")
    async with stream_bench.consuming(stream_bench.consumer()):
        await stream_bench.until_started(entry_id)
        redis_server.kill()
        await asyncio.sleep(0.6)
        await asyncio.to_thread(redis_server.start)
        await stream_bench.until_empty()
    assert await stream_bench.finished() == [entry_id]
    assert len(await stream_bench.starts(entry_id)) == 1


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
async def test_a_group_that_vanishes_is_made_again_without_a_storm(
    stream_bench: Bench, deletion: str
) -> None:
    """New entries flow again at once; NOGROUP does not block, so the loop backs off."""
    async with stream_bench.consuming(stream_bench.consumer(slots=2)):
        lost = await stream_bench.add(seconds="60")
        await stream_bench.until_started(lost)
        with structlog.testing.capture_logs() as lines:
            await stream_bench.client.eval(f"return redis.call({deletion})", 0)
            entry_id = await publish(stream_bench.client, STREAM, {"seconds": "0"})

            async def finished() -> bool:
                return entry_id in await stream_bench.finished()

            assert await eventually(finished, within_s=5) < 0.5 + SLACK_S
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

        assert await eventually(free, within_s=5) < stream_bench.lease_s + SLACK_S


async def test_entries_from_before_the_group_are_delivered(stream_bench: Bench) -> None:
    """A producer that came first loses nothing: the group starts at 0."""
    entry_id = await publish(stream_bench.client, STREAM, {"seconds": "0"})
    await ensure_group(stream_bench.client, STREAM, GROUP)
    await ensure_group(stream_bench.client, STREAM, GROUP)
    async with stream_bench.consuming(stream_bench.consumer()):
        await stream_bench.until_empty()
    assert await stream_bench.finished() == [entry_id]


async def test_a_server_that_can_lose_events_is_named(stream_bench: Bench) -> None:
    """No append-only file, or an eviction policy: each is said with what to set."""
    assert await durability_warnings(stream_bench.client) == []
    await stream_bench.client.config_set("maxmemory-policy", "allkeys-lru")
    await stream_bench.client.config_set("appendonly", "no")
    eviction, persistence = await durability_warnings(stream_bench.client)
    assert "expected maxmemory-policy noeviction, found allkeys-lru" in eviction
    assert "appendonly yes" in persistence


async def test_stats_tell_waiting_from_running_from_dead(stream_bench: Bench) -> None:
    """XLEN is waiting plus running, since what is done is deleted; a missing stream is all zero."""
    missing = await stream_bench.stats()
    assert (missing.length, missing.pending, missing.lag, missing.consumers, missing.dead) == (
        0,
        0,
        None,
        0,
        0,
    )
    await stream_bench.add(**{"raise": "permanent"})
    ids = [await stream_bench.add(seconds="5") for _ in range(3)]
    async with stream_bench.consuming(stream_bench.consumer()) as stop:
        await stream_bench.until_started(ids[0])
        stats = await stream_bench.stats()
        assert (stats.length, stats.waiting, stats.running, stats.pending) == (3, 2, 1, 1)
        assert (stats.consumers, stats.dead, stats.max_deliveries) == (1, 1, 1)
        server = await stream_bench.client.info("server")
        assert stats.lag == (2 if int(server["redis_version"].split(".")[0]) >= 7 else None)
        assert 0 <= stats.oldest_idle_ms <= stats.oldest_ms <= 5_000
        stop.set()
    stats = await stream_bench.stats()
    assert (stats.length, stats.waiting, stats.running, stats.pending) == (3, 3, 0, 1)
    assert await stream_bench.client.xlen(DEAD) == 1
