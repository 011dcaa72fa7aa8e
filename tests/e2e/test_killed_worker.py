"""A worker that is killed loses nothing and doubles nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import aiohttp
import pytest
from redis.asyncio import Redis

from corestream import api
from corestream.mail.mailbox import Mailbox
from pipeline.keys import PROCESSORS, Keys
from pipeline.streams import connect
from tests.support.installation import Installation
from tests.support.processes import children, processes
from tests.support.waiting import NETWORK_PATIENCE_S, eventually

KEYS = Keys("corestream:")


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the HTTP interface."""
    async with api.session() as session:
        yield session


@pytest.fixture
async def redis(two_workers: Installation) -> AsyncIterator[Redis]:
    """The installation's Redis."""
    client = connect(two_workers.redis_url)
    yield client
    await client.aclose()


async def worker_of(redis: Redis, job_id: str, scan_id: str) -> int:
    """Wait until a worker is at work on the scan; return its process id, which its consumer name holds."""
    pids: list[int] = []

    async def claimed() -> bool:
        for pending in await redis.xpending_range(KEYS.scans, PROCESSORS, min="-", max="+", count=10):
            entries = await redis.xrange(KEYS.scans, pending["message_id"], pending["message_id"])
            if entries and cast("dict[str, str]", entries[0][1])["scan_id"] == scan_id:
                pids[:] = [int(str(pending["consumer"]).split("-")[-2])]
        state = await redis.hget(KEYS.job(job_id), f"{scan_id}:state")
        return bool(pids) and state == "detecting"

    await eventually(claimed, within_s=NETWORK_PATIENCE_S)
    return pids[0]


async def test_a_scan_whose_worker_is_killed_is_finished_once_by_another(
    two_workers: Installation, sample: Path, http: aiohttp.ClientSession, redis: Redis
) -> None:
    """SIGKILL in mid-scan: the other worker starts the scan again, it ends once, and one mail goes out."""
    submitted = await api.submit(http, two_workers.url, [sample], "reader@hospital.example")
    scan_id = submitted["scans"][0]["scan_id"]
    killed = await worker_of(redis, submitted["job_id"], scan_id)
    orphans = children(killed)
    os.kill(killed, signal.SIGKILL)

    async for job in api.follow_job(http, submitted["status_url"]):
        last = job
    assert last["scans"][0]["state"] == "done"
    assert last["scans"][0]["deliveries"] == 2

    async def mailed() -> bool:
        return bool((await api.read_job(http, submitted["status_url"]))["mail"] == "sent")

    await eventually(mailed, within_s=NETWORK_PATIENCE_S)
    timeline = await redis.xrange(KEYS.timeline(submitted["job_id"]))
    steps = [cast("dict[str, str]", fields)["what"] for _, fields in timeline or ()]
    assert steps == ["received", "waiting", "detecting", "detecting", "done", "finished", "mail sent"]
    mails = [
        mail for mail in Mailbox(two_workers.data_dir / "mail").mails() if last["result_url"] in mail.text
    ]
    assert len(mails) == 1
    assert await redis.xlen(KEYS.scans) == 0
    assert orphans

    async def ended() -> bool:
        return not orphans & processes().keys()

    await eventually(ended)  # the network's process does not outlive its worker
