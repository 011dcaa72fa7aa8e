"""A consumer that is told to stop finishes what it can and gives back the rest."""

from __future__ import annotations

import asyncio
import signal

import pytest

from pipeline.streams import Delivery, Effect
from pipeline.streams.scripts import HANDED_BACK, Scripts
from tests.support.stream_bench import GROUP, STREAM, Bench, not_heed
from tests.support.waiting import PATIENCE_S


@pytest.mark.usefixtures("redis_server")  # needs processes of their own
async def test_sigterm_drains_then_hands_back_uncounted(stream_bench: Bench) -> None:
    """Rule 12: the entry is claimable at once, its next start is the first again, the process exits 0."""
    stream_bench.lease_ms = 60_000
    with stream_bench.process() as stopped:
        entry_id = await stream_bench.add(go="on")
        await stream_bench.until_started(entry_id)
        stopped.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(stopped.wait, PATIENCE_S) == 0
    async with stream_bench.consuming(stream_bench.consumer()):
        seconds = await stream_bench.until_started(entry_id, times=2)
        await stream_bench.let_go("on")
        await stream_bench.until_empty()
    assert seconds < stream_bench.lease_s / 2
    assert [count for count, _ in await stream_bench.starts(entry_id)] == [1, 1]
    assert await stream_bench.finished() == [entry_id]


async def test_a_stop_lets_running_handlers_finish_within_the_grace(stream_bench: Bench) -> None:
    """Nothing new is read, what runs ends as ever, its lease renewed meanwhile."""
    stream_bench.grace_s = PATIENCE_S
    stream_bench.lease_ms = 300
    first = await stream_bench.add(go="on")
    second = await stream_bench.add(seconds="0")
    consumer = stream_bench.consumer()
    async with stream_bench.consuming(consumer) as stop:
        await stream_bench.until_started(first)
        stop.set()
        await asyncio.sleep(2 * stream_bench.lease_s)
        await stream_bench.let_go("on")
    assert await stream_bench.finished() == [first]
    assert len(await stream_bench.starts(first)) == 1
    assert await stream_bench.starts(second) == []


@pytest.mark.parametrize("answer", ["an effect", "an error", "nothing"])
async def test_a_handler_that_does_not_heed_a_stop_is_handed_back_uncounted(
    stream_bench: Bench, answer: str
) -> None:
    """What it makes of its cancellation says nothing of the entry: the next start is the first again."""
    running = asyncio.Event()

    async def stubborn(_: Delivery) -> Effect:
        running.set()
        await not_heed(answer)
        return Effect.none()

    entry_id = await stream_bench.add(number="1")
    async with stream_bench.consuming(stream_bench.consumer(handler=stubborn)):
        await running.wait()
    async with stream_bench.consuming(stream_bench.consumer()):
        await stream_bench.until_empty()
    assert [count for count, _ in await stream_bench.starts(entry_id)] == [1]
    assert await stream_bench.finished() == [entry_id]


async def test_a_consumer_that_stops_leaves_no_name_behind(stream_bench: Bench) -> None:
    """A name is never used again, so it goes; what was handed back is held under another."""
    entry_id = await stream_bench.add(seconds="60")
    async with stream_bench.consuming(stream_bench.consumer()) as stop:
        await stream_bench.until_started(entry_id)
        stop.set()
    consumers = await stream_bench.client.xinfo_consumers(STREAM, GROUP)
    assert [(c["name"], c["pending"]) for c in consumers] == [(HANDED_BACK, 1)]


async def test_a_consumer_that_waits_is_known_to_be_alive(stream_bench: Bench) -> None:
    """Before Redis 7.2 a read that finds nothing leaves no trace; every sweep does, so it is never idle."""
    stream_bench.lease_ms = 4000
    consumer = stream_bench.consumer()
    async with stream_bench.consuming(consumer):
        for _ in range(5):
            await asyncio.sleep(stream_bench.lease_s / 4)
            (known,) = await stream_bench.client.xinfo_consumers(STREAM, GROUP)
            assert known["name"] == consumer.name
            assert known["idle"] < stream_bench.lease_ms


async def test_a_living_consumer_that_is_reaped_goes_on(stream_bench: Bench) -> None:
    """Were it ever taken for dead, by a server that stood still for an hour, it would lose nothing."""
    scripts = Scripts(stream_bench.client)
    async with stream_bench.consuming(stream_bench.consumer()):
        await stream_bench.add(number="1")
        await stream_bench.until_empty()
        (known,) = await stream_bench.client.xinfo_consumers(STREAM, GROUP)
        assert await scripts.reap(STREAM, GROUP, idle_ms=0, name=known["name"]) == 1
        second = await stream_bench.add(number="2", go="on")
        await stream_bench.until_started(second)
        assert await scripts.reap(STREAM, GROUP, idle_ms=0, name=known["name"]) == 0
        await stream_bench.let_go("on")
        await stream_bench.until_empty()
    assert [count for count, _ in await stream_bench.starts(second)] == [1]
    assert second in await stream_bench.finished()


async def test_dead_consumers_are_reaped_unless_something_is_pending(stream_bench: Bench) -> None:
    """Rule 19: deleting a consumer deletes its pending entries, so one with any is left to the sweep."""
    await stream_bench.add(number="1")
    await stream_bench.client.xreadgroup(GROUP, "holds-one", {STREAM: ">"})
    await stream_bench.client.xgroup_createconsumer(STREAM, GROUP, "holds-none")
    scripts = Scripts(stream_bench.client)
    assert await scripts.reap(STREAM, GROUP, idle_ms=3_600_000) == 0
    assert await scripts.reap(STREAM, GROUP, idle_ms=0) == 1
    consumers = await stream_bench.client.xinfo_consumers(STREAM, GROUP)
    assert [(c["name"], c["pending"]) for c in consumers] == [("holds-one", 1)]
