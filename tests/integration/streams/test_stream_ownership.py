"""Only the present owner of a delivery can do anything with it."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from pipeline.streams import (
    Delivery,
    Effect,
    Ended,
    Observation,
    Reason,
    ensure_group,
    publish,
    wait_until_ready,
)
from pipeline.streams.reader import Reader
from pipeline.streams.scripts import FROM_START, Scripts
from tests.support.redis_server import RedisServer
from tests.support.stream_bench import DEAD, GROUP, STREAM, Bench, not_heed
from tests.support.waiting import PATIENCE_S, eventually

EFFECT = Effect("redis.call('INCR', KEYS[1])", ("effects",))


async def _delivered(bench: Bench, consumer: str) -> Delivery:
    await ensure_group(bench.client, STREAM, GROUP)
    entry_id = await publish(bench.client, STREAM, {"a": "1"})
    await bench.client.xreadgroup(GROUP, consumer, {STREAM: ">"})
    return Delivery(STREAM, GROUP, consumer, entry_id, {"a": "1"}, count=1)


async def _claim(scripts: Scripts, consumer: str) -> Delivery:
    taken = await scripts.claim(STREAM, GROUP, consumer, lease_ms=0, cursor=FROM_START, most=1)
    (delivery,) = taken.deliveries
    return delivery


async def _assert_powerless(bench: Bench, scripts: Scripts, stale: Delivery, owner: Delivery) -> None:
    before = await bench.client.xpending_range(STREAM, GROUP, "-", "+", 10)
    assert not await scripts.renew(stale)
    assert not await scripts.finish(stale, EFFECT)
    assert not await scripts.hand_back(stale, idle_ms=0, counted=True)
    assert not await scripts.bury(stale, DEAD, Reason("late", 1), EFFECT)
    after = await bench.client.xpending_range(STREAM, GROUP, "-", "+", 10)
    for entry in (*before, *after):
        del entry["time_since_delivered"]
    assert before == after
    assert await bench.client.get("effects") is None
    assert await bench.client.xlen(DEAD) == 0
    assert await scripts.finish(owner, EFFECT)
    assert await bench.client.get("effects") == "1"
    assert await bench.client.xlen(STREAM) == 0


async def test_finishing_is_fenced_in_one_step(stream_bench: Bench) -> None:
    """Rule 8: a former owner changes nothing, also when an uncounted hand-back left the count the same."""
    scripts = Scripts(stream_bench.client)
    stale = await _delivered(stream_bench, "first")
    assert await scripts.hand_back(stale, idle_ms=0, counted=False)
    owner = await _claim(scripts, "second")
    assert (owner.consumer, owner.count) == ("second", 1)
    await _assert_powerless(stream_bench, scripts, stale, owner)


async def test_an_earlier_delivery_to_the_same_consumer_is_not_the_owner(stream_bench: Bench) -> None:
    """A consumer that lost an entry and claimed it back runs it anew; its first handler is a zombie too."""
    scripts = Scripts(stream_bench.client)
    stale = await _delivered(stream_bench, "same")
    owner = await _claim(scripts, "same")
    assert (owner.consumer, owner.count) == ("same", 2)
    await _assert_powerless(stream_bench, scripts, stale, owner)


async def test_nothing_is_owned_when_the_group_is_gone(stream_bench: Bench) -> None:
    """FLUSHALL answers a renewal with no, not with an error that could be taken for an outage."""
    scripts = Scripts(stream_bench.client)
    stale = await _delivered(stream_bench, "first")
    await stream_bench.client.flushall()
    assert not await scripts.renew(stale)
    assert not await scripts.finish(stale, EFFECT)
    assert await stream_bench.client.keys("*") == []


async def test_a_lease_is_renewed_by_its_owner_alone_and_counts_nothing(stream_bench: Bench) -> None:
    """Rule 6: what is renewed is not idle and no start; a stalled former owner does not steal it back."""
    scripts = Scripts(stream_bench.client)
    delivery = await _delivered(stream_bench, "first")
    await stream_bench.client.xclaim(STREAM, GROUP, "first", 0, [delivery.entry_id], idle=60_000, justid=True)
    assert await scripts.renew(delivery)
    (pending,) = await stream_bench.client.xpending_range(STREAM, GROUP, "-", "+", 10)
    assert pending["times_delivered"] == 1
    assert int(pending["time_since_delivered"]) < 60_000
    owner = await _claim(scripts, "second")
    assert not await scripts.renew(delivery)
    (pending,) = await stream_bench.client.xpending_range(STREAM, GROUP, "-", "+", 10)
    assert (pending["consumer"], pending["times_delivered"]) == ("second", 2)
    assert await scripts.renew(owner)


@pytest.mark.parametrize("answer", ["an effect", "an error", "nothing"])
async def test_a_handler_that_does_not_heed_the_end_of_its_lease_is_lost_all_the_same(
    stream_bench: Bench, answer: str
) -> None:
    """Whatever it makes of its cancellation nothing is written, and the next delivery runs as ever."""
    running = asyncio.Event()
    seen: list[Observation] = []

    async def stubborn(delivery: Delivery) -> Effect:
        if "first" in delivery.fields:
            running.set()
            await not_heed(answer)
        return Effect("redis.call('RPUSH', KEYS[1], ARGV[1])", ("effects",), (delivery.entry_id,))

    async def ended(count: int) -> bool:
        return sum(isinstance(each, Ended) for each in seen) == count

    consumer = stream_bench.consumer(handler=stubborn, observers=(seen.append,))
    async with stream_bench.consuming(consumer):
        await stream_bench.add(first="yes")
        await running.wait()
        await stream_bench.client.flushall()
        await eventually(lambda: ended(1))
        second = await stream_bench.add(second="yes")
        await eventually(lambda: ended(2))
    assert [each.outcome for each in seen if isinstance(each, Ended)] == ["lost", "finished"]
    assert await stream_bench.client.lrange("effects", 0, -1) == [second]


async def test_after_an_outage_the_living_have_half_a_lease_to_renew(
    stream_bench: Bench, redis_server: RedisServer
) -> None:
    """Every entry looks abandoned after a long outage; sweeping at once would run them twice."""
    held = await _delivered(stream_bench, "living-or-dead")
    reader = Reader(
        stream_bench.client, stream=STREAM, group=GROUP, consumer="sweeper", slots=1, lease_ms=600
    )
    redis_server.kill()
    with pytest.raises(RedisConnectionError):
        await reader.next([])
    redis_server.start()
    await wait_until_ready(stream_bench.client, asyncio.Event())
    await stream_bench.client.xclaim(
        STREAM, GROUP, held.consumer, 0, [held.entry_id], idle=60_000, justid=True
    )
    began = asyncio.get_running_loop().time()
    while not (claimed := await reader.next([])):
        assert asyncio.get_running_loop().time() - began < PATIENCE_S
    assert asyncio.get_running_loop().time() - began >= 0.3
    assert [delivery.entry_id for delivery in claimed] == [held.entry_id]


async def test_after_a_server_stood_still_the_living_have_half_a_lease_to_renew(
    stream_bench: Bench, redis_server: RedisServer
) -> None:
    """No call failed, and yet no renewal came through; who reads sees it by a read that ends too late."""
    loop = asyncio.get_running_loop()
    held = await _delivered(stream_bench, "living-or-dead")
    reader = Reader(
        stream_bench.client, stream=STREAM, group=GROUP, consumer="sweeper", slots=1, lease_ms=1500
    )

    async def claim() -> tuple[list[str], float]:
        while not (claimed := await reader.next([])):
            pass
        return [delivery.entry_id for delivery in claimed], loop.time()

    claiming = asyncio.create_task(claim())
    await asyncio.sleep(0.2)  # it is blocked by now
    redis_server.pause()
    await asyncio.sleep(1.8)
    resumed_at = loop.time()
    redis_server.resume()
    claimed, claimed_at = await claiming
    assert claimed == [held.entry_id]
    assert claimed_at - resumed_at >= 0.7
