"""The processor's child process under the runtime: it may burn and it may die."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.streams import Delivery, Effect
from processor.child import DetectionChild
from tests.support.burning import PID, Burning
from tests.support.stream_bench import STARTS, Bench
from tests.support.waiting import PATIENCE_S, eventually

GO = "go"


@pytest.fixture
def child(tmp_path: Path) -> Iterator[DetectionChild]:
    """A child that works until a file is there."""
    child = DetectionChild(Burning(tmp_path / GO), timeout_s=PATIENCE_S)
    yield child
    child.close()


def running(
    bench: Bench, child: DetectionChild, folder: Path
) -> Callable[[Delivery], Coroutine[Any, Any, Effect]]:
    """Return the handler that has the child work on every entry."""

    async def handle(delivery: Delivery) -> Effect:
        await bench.client.rpush(STARTS, f"{delivery.entry_id} {delivery.count} {delivery.consumer} 0")
        await child.detect(folder, folder, job_id="", scan_id="")
        return Effect.none()

    return handle


async def until_at_work(folder: Path) -> int:
    """Wait until a child has begun; return its process id."""

    async def began() -> bool:
        return (folder / PID).exists() and bool((folder / PID).read_text())

    await eventually(began)
    return int((folder / PID).read_text())


async def starts(bench: Bench, entry_id: str) -> list[int]:
    """Return the delivery count of every start."""
    return [count for count, _ in await bench.starts(entry_id)]


async def test_renewal_is_kept_off_the_jobs_thread(
    stream_bench: Bench, child: DetectionChild, tmp_path: Path
) -> None:
    """Rule 7: however the job burns, its lease is renewed in time; the consumer beside it never gets it."""
    stream_bench.lease_ms = 1000  # above what a busy machine keeps a process waiting
    await child.warm()
    handler = running(stream_bench, child, tmp_path)
    async with stream_bench.consuming(stream_bench.consumer(handler=handler)):
        entry_id = await stream_bench.add(number="1")
        await until_at_work(tmp_path)
        async with stream_bench.consuming(stream_bench.consumer()):  # later: it might have been the first
            await asyncio.sleep(4 * stream_bench.lease_s)
            (tmp_path / GO).touch()
            await stream_bench.until_empty()
    assert await starts(stream_bench, entry_id) == [1]


@pytest.mark.usefixtures("redis_server")  # a second pass over the same child would show nothing new
async def test_a_killed_child_is_replaced_and_costs_its_own_job_one_start(
    stream_bench: Bench, child: DetectionChild, tmp_path: Path
) -> None:
    """Rule 24: killed at work it costs one start, killed while it waits for work none; both are replaced."""
    await child.warm()

    async def broken() -> bool:
        return not child._pool.active

    async with stream_bench.consuming(stream_bench.consumer(handler=running(stream_bench, child, tmp_path))):
        at_work = await stream_bench.add(number="1")
        os.kill(await until_at_work(tmp_path), signal.SIGKILL)
        (tmp_path / GO).touch()
        await stream_bench.until_empty()
        os.kill(await until_at_work(tmp_path), signal.SIGKILL)
        await eventually(broken)
        waiting = await stream_bench.add(number="2")
        await stream_bench.until_empty()
    assert await starts(stream_bench, at_work) == [1, 2]
    assert await starts(stream_bench, waiting) == [1]
    assert await stream_bench.dead.list() == []
