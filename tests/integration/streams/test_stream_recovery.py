"""Whatever a consumer dies of, its entry finishes once."""

from __future__ import annotations

import asyncio
import signal

import pytest

from pipeline.streams import Delivery, Effect, Ended, Observation, ensure_group, reader
from tests.support.redis_server import RedisServer
from tests.support.stream_bench import GROUP, SLACK_S, STREAM, Bench
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually


@pytest.mark.usefixtures("redis_server")  # needs processes of their own
async def test_a_killed_consumers_entry_is_reclaimed_on_a_timer_not_on_traffic(stream_bench: Bench) -> None:
    """Rule 9: SIGKILL in mid-job costs one delivery; with no traffic at all it starts anew in 1.2 leases."""
    stream_bench.lease_ms = 3000
    with stream_bench.process() as victim:
        entry_id = await stream_bench.add(go="on")
        await stream_bench.until_started(entry_id)
        async with stream_bench.consuming(stream_bench.consumer()):
            victim.kill()
            seconds = await stream_bench.until_started(entry_id, times=2)
            await stream_bench.let_go("on")
            await stream_bench.until_empty()
    assert seconds <= 1.2 * stream_bench.lease_s + SLACK_S
    assert [count for count, _ in await stream_bench.starts(entry_id)] == [1, 2]
    assert await stream_bench.finished() == [entry_id]


async def test_a_job_of_five_leases_starts_once(stream_bench: Bench) -> None:
    """A lease is renewed for as long as the handler runs; idle consumers beside it never claim the entry."""
    stream_bench.lease_ms = 1500  # beyond what a busy machine keeps an event loop waiting
    async with stream_bench.consuming(stream_bench.consumer(), stream_bench.consumer()):
        entry_id = await stream_bench.add(seconds="7.5")
        await stream_bench.until_empty()
    assert len(await stream_bench.starts(entry_id)) == 1
    assert await stream_bench.finished() == [entry_id]


@pytest.mark.usefixtures("redis_server")  # needs processes of their own
async def test_a_paused_consumer_wakes_up_without_effect(stream_bench: Bench) -> None:
    """A zombie that was stopped past its lease can neither finish nor renew what another consumer claimed."""
    with stream_bench.process() as zombie:
        entry_id = await stream_bench.add(go="on")
        await stream_bench.until_started(entry_id)
        zombie.send_signal(signal.SIGSTOP)
        other = stream_bench.consumer()
        async with stream_bench.consuming(other):
            await stream_bench.until_started(entry_id, times=2)
            await stream_bench.let_go("on")
            zombie.send_signal(signal.SIGCONT)
            await stream_bench.until_empty()
        zombie.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(zombie.wait) == 0
    assert await stream_bench.finished() == [entry_id]
    assert await stream_bench.finishers() == [other.name]


@pytest.mark.usefixtures("redis_server")  # needs processes of their own
async def test_starts_are_counted_and_the_last_is_dead_lettered_before_another(stream_bench: Bench) -> None:
    """Rule 10: starts, not failures: what takes its process down is given up after three."""
    entry_id = await stream_bench.add(die="yes", payload="as it was")
    for start in (1, 2, 3):
        with stream_bench.process() as victim:
            await stream_bench.until_started(entry_id, times=start)
            await asyncio.to_thread(victim.wait)
    async with stream_bench.consuming(stream_bench.consumer()):
        await stream_bench.until_empty()
    (letter,) = await stream_bench.dead.list()
    assert (letter.origin, letter.entry_id, letter.deliveries) == (STREAM, entry_id, 3)
    assert letter.fields == {"die": "yes", "payload": "as it was"}
    assert letter.error == "started 3 times, never came to an end"
    assert await stream_bench.told() == [f"{entry_id} {letter.error}"]
    assert len(await stream_bench.starts(entry_id)) == 3


async def test_an_entry_whose_reply_was_lost_is_taken_up_at_once(redis_server: RedisServer) -> None:
    """After a failed read the consumer's own history is run: no lease passes, no start counts twice."""
    bench = Bench(redis_server.url, lease_ms=60_000)
    proxy = TcpProxy(redis_server.port)
    async with proxy.running(), bench.consuming(bench.consumer(proxy.url)):
        await bench.until_empty()
        proxy.break_at = b"marked"
        entry_id = await bench.add(payload="marked")
        seconds = await bench.until_empty()
    assert proxy.breaks == 1
    assert [count for count, _ in await bench.starts(entry_id)] == [1]
    assert await bench.finished() == [entry_id]
    assert seconds < bench.lease_s / 2
    await bench.close()


async def test_an_effect_whose_reply_was_lost_is_not_repeated(redis_server: RedisServer) -> None:
    """Finishing is tried until Redis answers; the script's owner check makes the second try harmless."""
    bench = Bench(redis_server.url, lease_ms=60_000)  # no renewal is answered by the same
    proxy = TcpProxy(redis_server.port)
    async with proxy.running(), bench.consuming(bench.consumer(proxy.url)):
        entry_id = await bench.add(go="on")
        await bench.until_started(entry_id)
        proxy.break_at = b":1\r\n"
        await bench.let_go("on")
        await bench.until_empty()
    assert proxy.breaks == 1
    assert await bench.finished() == [entry_id]
    await bench.close()


async def test_a_missing_body_is_expected(stream_bench: Bench) -> None:
    """Rule 16: a claim that finds no body acknowledges the ghost; the group does not keep it."""
    entry_id = await stream_bench.add(payload="to be deleted")
    await stream_bench.client.xreadgroup(GROUP, "dead-consumer", {STREAM: ">"})
    await stream_bench.client.xdel(STREAM, entry_id)
    async with stream_bench.consuming(stream_bench.consumer()):
        await stream_bench.until_empty()
    assert await stream_bench.starts(entry_id) == []


async def test_a_sweep_finds_entries_behind_many_that_are_alive(stream_bench: Bench) -> None:
    """XAUTOCLAIM looks at ten entries a free slot; one sweep walks on to the end of the pending list."""
    stream_bench.lease_ms = 3000
    ids = [await stream_bench.add(number=str(number)) for number in range(300)]
    await stream_bench.client.xreadgroup(GROUP, "alive", {STREAM: ">"}, count=299)
    await stream_bench.client.xreadgroup(GROUP, "dead-consumer", {STREAM: ">"}, count=1)

    async def renewed() -> bool:
        await stream_bench.client.xclaim(STREAM, GROUP, "alive", 0, list(ids[:299]), justid=True)
        return bool(await stream_bench.finished())

    async with stream_bench.consuming(stream_bench.consumer()):
        seconds = await eventually(renewed)
    assert await stream_bench.finished() == [ids[299]]
    assert seconds <= 1.2 * stream_bench.lease_s + SLACK_S


async def test_an_end_that_redis_did_not_confirm_is_called_so(redis_server: RedisServer) -> None:
    """When the reply to its end is lost, nobody can tell an entry that is done from another consumer's."""
    bench, proxy = Bench(redis_server.url, lease_ms=60_000), TcpProxy(redis_server.port)
    seen: list[Observation] = []

    async def lose_the_next_reply(delivery: Delivery) -> Effect:
        if "last" in delivery.fields:  # by then what a consumer asks for at its start has been answered
            proxy.break_at = b":1\r\n"
        return Effect.none()

    async with proxy.running():
        consumer = bench.consumer(proxy.url, handler=lose_the_next_reply, observers=(seen.append,))
        async with bench.consuming(consumer):
            await bench.add(first="yes")
            await bench.until_empty()
            await bench.add(last="yes")
            await bench.until_empty()
    assert proxy.breaks == 1
    ends = [(each.outcome, each.details) for each in seen if isinstance(each, Ended)]
    assert ends == [("finished", {}), ("unconfirmed", {"attempted": "finished"})]
    await bench.close()


async def test_the_dead_are_reaped_by_whoever_runs(
    stream_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are never used again: were nobody to clear them away, a group would grow with every restart."""
    monkeypatch.setattr(reader, "REAP_EVERY_S", 0.1)
    monkeypatch.setattr(reader, "DEAD_CONSUMER_MS", 3000)
    await ensure_group(stream_bench.client, STREAM, GROUP)
    await stream_bench.client.xgroup_createconsumer(STREAM, GROUP, "long-dead")
    consumer = stream_bench.consumer()

    async def alone() -> bool:
        known = await stream_bench.client.xinfo_consumers(STREAM, GROUP)
        return [each["name"] for each in known] == [consumer.name]

    async with stream_bench.consuming(consumer):
        await eventually(alone)
