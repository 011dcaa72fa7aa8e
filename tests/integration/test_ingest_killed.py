"""Ingest is killed between any two steps of an acceptance: nothing is left, or what its sweep finishes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import ClientConnectionError, ClientSession, FormData
from redis.asyncio import Redis

from pipeline.events import ScanUploaded, parse_event
from pipeline.keys import Keys
from pipeline.storage import Storage
from pipeline.streams import connect
from tests.support.dying_ingest import SWEEP_EVERY_S
from tests.support.nifti_files import compressed, good
from tests.support.ports import free_ports
from tests.support.waiting import eventually

KEYS = Keys("corestream:")
LONG_AGO_S = 7200.0
SCAN = compressed(good())
"""The same bytes at every try; gzip writes the time into its files."""


class Ingest:
    """The upload service as a process, on a port and a folder that outlive it."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        port = free_ports()
        self.url = f"http://127.0.0.1:{port}"
        self.storage = Storage(folder)
        settings = {
            "SECRET_KEY": "s" * 64,
            "REDIS_URL": redis_url,
            "DATA_DIR": str(folder),
            "INGEST_PORT": str(port),
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CORESTREAM_")}
        self._environment = kept | {f"CORESTREAM_{name}": value for name, value in settings.items()}

    @contextmanager
    def running(self, step: str = "") -> Iterator[subprocess.Popen[bytes]]:
        """Run it until the block ends or it dies at a step."""
        command = [sys.executable, "-m", "tests.support.dying_ingest", *([step] if step else [])]
        process = subprocess.Popen(command, env=self._environment)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    async def until_ready(self, http: ClientSession) -> None:
        """Wait until it can work."""

        async def ready() -> bool:
            try:
                async with http.get(f"{self.url}/readyz") as answer:
                    return answer.status == 200
            except ClientConnectionError:
                return False

        await eventually(ready)

    async def submit(self, http: ClientSession) -> dict[str, Any]:
        """Submit two scans under one key."""
        form = FormData({"email": "reader@hospital.example"}, default_to_multipart=True)
        for _ in range(2):
            form.add_field("file", SCAN, filename="scan.nii.gz")
        headers = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
        async with http.post(f"{self.url}/api/jobs", data=form, headers=headers) as answer:
            assert answer.status == 202, await answer.text()
            return cast("dict[str, Any]", await answer.json())


@pytest.fixture
def ingest(tmp_path: Path, redis_url: str) -> Ingest:
    """What is killed."""
    return Ingest(tmp_path / "data", redis_url)


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    """A client."""
    async with ClientSession() as session:
        yield session


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    """A look into Redis."""
    client = connect(redis_url)
    yield client
    await client.aclose()


async def kill_at(step: str, ingest: Ingest, http: ClientSession) -> None:
    """Submit to a service that dies at a step."""
    with ingest.running(step) as process:
        await ingest.until_ready(http)
        with pytest.raises(ClientConnectionError):
            await ingest.submit(http)
        assert await asyncio.to_thread(process.wait) == -signal.SIGKILL


async def assert_in_line_once(ingest: Ingest, client: Redis, job_id: str) -> None:
    """Both scans of the one job stand in line, and lie where their events say."""
    assert ingest.storage.job_ids() == [job_id]
    entries = cast("list[tuple[str, dict[str, str]]]", await client.xrange(KEYS.scans))
    events = [parse_event(fields) for _, fields in entries]
    assert len(events) == 2
    assert {event.job_id for event in events} == {job_id}
    for event in events:
        assert isinstance(event, ScanUploaded)
        assert (ingest.storage.root / event.path).stat().st_size > 0


@pytest.mark.parametrize("step", ["received", "checked", "moved"])
async def test_killed_before_the_record_it_leaves_nothing(
    ingest: Ingest, http: ClientSession, client: Redis, step: str
) -> None:
    """No job, no event; what lies about goes when it is old; the client's retry makes the job."""
    await kill_at(step, ingest, http)
    assert ingest.storage.job_ids() == []
    left = [*ingest.storage.incoming.iterdir(), *ingest.storage.jobs.iterdir()]
    assert left
    for path in left:
        os.utime(path, (time.time() - LONG_AGO_S,) * 2)
    with ingest.running():
        await ingest.until_ready(http)

        async def clean() -> bool:
            return not [*ingest.storage.incoming.iterdir(), *ingest.storage.jobs.iterdir()]

        await eventually(clean)
        assert await client.xlen(KEYS.scans) == 0
        job = await ingest.submit(http)
        await assert_in_line_once(ingest, client, job["job_id"])


@pytest.mark.parametrize("step", ["recorded", "in line"])
async def test_killed_after_the_record_it_finishes_the_acceptance_by_itself(
    ingest: Ingest, http: ClientSession, client: Redis, step: str
) -> None:
    """The job stands in line once, whether or not its client asks again; who does is told of the same job."""
    await kill_at(step, ingest, http)
    (job_id,) = ingest.storage.job_ids()
    with ingest.running():
        await ingest.until_ready(http)

        async def in_line() -> bool:
            return await client.xlen(KEYS.scans) == 2

        await eventually(in_line)
        job = await ingest.submit(http)
        assert job["job_id"] == job_id
        async with http.get(
            f"{ingest.url}/api/jobs/{job_id}?{job['status_url'].partition('?')[2]}"
        ) as answer:
            assert [scan["state"] for scan in (await answer.json())["scans"]] == ["waiting", "waiting"]
        await asyncio.sleep(3 * SWEEP_EVERY_S)  # sweeps that must not add anything
        await assert_in_line_once(ingest, client, job_id)
