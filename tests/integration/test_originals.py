"""What becomes of a scan as it was accepted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from pipeline.jobs import Jobs
from pipeline.keys import PROCESSORS, Keys
from pipeline.storage import JobRecord, Storage
from pipeline.streams import Delivery, connect, ensure_group
from processor.child import DetectionChild, DetectionDiedError
from processor.scans import ScanHandler
from tests.support import results
from tests.support.redis_server import RedisServer

KEYS = Keys("corestream:")


class Detector:
    """Stands in for the child process: writes a result, or dies."""

    def __init__(self, *, dies: bool = False) -> None:
        self.dies = dies
        self.starts = 0

    async def detect(self, _scan: Path, stage: Path, *, job_id: str, scan_id: str) -> None:
        """Detect as the child does."""
        self.starts += 1
        if self.dies:
            raise DetectionDiedError("killed")
        results.write_result(stage, results.report(job_id, scan_id))


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A connection to an empty Redis."""
    client = connect(redis_server.url)
    await client.flushall()
    await ensure_group(client, KEYS.scans, PROCESSORS)
    yield client
    await client.aclose()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Where the jobs of a test lie."""
    return Storage(tmp_path)


async def delivery_of(client: Redis, storage: Storage) -> tuple[JobRecord, Path, Delivery]:
    """Accept a job of one scan; return it, the scan's file and its delivery."""
    job = results.accepted_job(storage)
    await Jobs(client, KEYS).enqueue(job, storage)
    reply: Any = await client.xreadgroup(PROCESSORS, "worker", {KEYS.scans: ">"}, count=1)
    entry_id, fields = reply[0][1][0]
    scan = storage.scan_path(job.job_id, job.scans[0].scan_id)
    return job, scan, Delivery(KEYS.scans, PROCESSORS, "worker", entry_id, fields, count=1)


def handler_of(client: Redis, storage: Storage, detector: Detector, *, keep: bool = False) -> ScanHandler:
    """Return the processor's handler with a stand-in for its child."""
    child = cast("DetectionChild", detector)
    return ScanHandler(Jobs(client, KEYS), storage, child, keep_originals=keep)


@pytest.mark.parametrize("keep", [False, True])
async def test_a_scan_is_deleted_once_its_result_is_published(
    client: Redis, storage: Storage, *, keep: bool
) -> None:
    """Nothing of a scan stays but its result, unless KEEP_ORIGINALS asks for more."""
    job, scan, delivery = await delivery_of(client, storage)
    await handler_of(client, storage, Detector(), keep=keep).process(delivery)
    assert scan.exists() == keep
    assert storage.read_report(job.job_id, job.scans[0].scan_id)


async def test_a_scan_without_a_result_is_kept(client: Redis, storage: Storage) -> None:
    """A failed detection can be tried again."""
    _, scan, delivery = await delivery_of(client, storage)
    with pytest.raises(DetectionDiedError):
        await handler_of(client, storage, Detector(dies=True)).process(delivery)
    assert scan.exists()


async def test_a_redelivery_after_the_publication_ends_the_scan(client: Redis, storage: Storage) -> None:
    """A worker that died before it said so had published: the next one says it, and detects nothing anew."""
    job, _, delivery = await delivery_of(client, storage)
    detector = Detector()
    handler = handler_of(client, storage, detector)
    await handler.process(delivery)
    await (await handler.process(delivery)).run(client)
    assert detector.starts == 1
    state = await Jobs(client, KEYS).read(job.job_id)
    assert state is not None
    assert state.scans[job.scans[0].scan_id].state == "done"
