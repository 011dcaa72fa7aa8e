"""How a consumer reads: blocked on a connection of its own, and never cut off."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from pipeline.streams import Ended, Observation, reader
from pipeline.streams.client import BLOCK_MS
from tests.support.redis_server import RedisServer
from tests.support.stream_bench import Bench
from tests.support.waiting import eventually


async def test_blocking_reads_have_a_connection_to_themselves(redis_server: RedisServer) -> None:
    """Rule 4: nothing waits behind a blocked read, and a read that ends empty is no sign of an outage.

    A list of connections in which one is blocked came on another.
    """
    bench = Bench(redis_server.url, lease_ms=30_000)
    loop = asyncio.get_running_loop()
    blocked = []
    with structlog.testing.capture_logs() as lines:
        async with bench.consuming(bench.consumer()):
            ends = loop.time() + 2.5 * BLOCK_MS / 1000
            while loop.time() < ends:
                clients = await bench.client.client_list()
                blocked.append([c["id"] for c in clients if "b" in c["flags"]])
                await asyncio.sleep(0.02)
    assert {len(ids) for ids in blocked} <= {0, 1}
    assert len({ids[0] for ids in blocked if ids}) == 1
    assert [line["event"] for line in lines] == ["consumer.started", "consumer.stopped"]
    await bench.close()


async def test_a_blocked_read_is_never_cancelled(stream_bench: Bench) -> None:
    """Rule 5: an entry that comes just when its reader stops is handed back, not left to wait for a lease."""
    stream_bench.lease_ms = 60_000
    ids = []
    for number in range(20):
        async with stream_bench.consuming(stream_bench.consumer()) as stop:
            await asyncio.sleep(number * 0.002)
            publishing = asyncio.create_task(stream_bench.add(number=str(number)))
            await asyncio.sleep(0)
            stop.set()
            ids.append(await publishing)
    async with stream_bench.consuming(stream_bench.consumer()):
        await stream_bench.until_empty()
    assert sorted(await stream_bench.finished()) == sorted(ids)
    starts = [[count for count, _ in await stream_bench.starts(entry_id)] for entry_id in ids]
    assert starts == [[1]] * len(ids)


async def test_what_the_last_read_brings_is_not_started(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry may come after the stop, since no read is cut off: it is handed back at once, uncounted."""
    monkeypatch.setattr(reader, "BLOCK_MS", 4000)  # so that it does come, however busy the machine is
    bench = Bench(redis_server.url, lease_ms=60_000)
    seen: list[Observation] = []

    async def blocked() -> bool:
        return any("b" in client["flags"] for client in await bench.client.client_list())

    async with bench.consuming(bench.consumer(observers=(seen.append,))) as stop:
        await eventually(blocked)
        stop.set()
        entry_id = await bench.add(number="1")
    assert await bench.starts(entry_id) == []
    assert [each.outcome for each in seen if isinstance(each, Ended)] == ["handed_back"]
    async with bench.consuming(bench.consumer()):
        await bench.until_empty()
    assert [count for count, _ in await bench.starts(entry_id)] == [1]
    await bench.close()
