"""What ingest tells of a job, to whom, and what its sweeper puts right; against a real Redis."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from redis.asyncio import Redis

from ingest.app import build
from ingest.settings import IngestSettings
from pipeline.clock import now
from pipeline.events import ScanFailed, ScanProcessed, ScanUploaded, parse_event
from pipeline.jobs import Jobs
from pipeline.keys import PROCESSORS
from pipeline.storage import JobRecord
from pipeline.streams import connect
from tests.support.nifti_files import compressed, good
from tests.support.redis_server import RedisServer
from tests.support.results import DEMO, REFUSAL, accepted_job, publish_result
from tests.support.waiting import eventually

SWEEP_EVERY_S = 0.05
LONG_AGO_S = 7200.0


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> IngestSettings:
    """Of a service that has its own Redis and folder."""
    return IngestSettings(secret_key=SecretStr("s" * 64), redis_url=redis_url, data_dir=tmp_path / "data")


@pytest.fixture
async def redis(settings: IngestSettings) -> AsyncIterator[Redis]:
    """A look into Redis, past the service."""
    client = connect(settings.redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def server(settings: IngestSettings) -> AsyncIterator[TestServer]:
    """The service, sweeping all the time."""
    server = TestServer(build(settings, sweep_every_s=SWEEP_EVERY_S))
    await server.start_server()
    yield server
    await server.close()


@pytest.fixture
async def http(server: TestServer) -> AsyncIterator[ClientSession]:
    """A client of the service."""
    async with ClientSession(server.make_url("/")) as session:
        yield session


async def swept(settings: IngestSettings) -> None:
    """Wait until a sweep has begun and removed what was abandoned."""
    abandoned = settings.storage.part_path("abandoned")
    abandoned.touch()
    os.utime(abandoned, (time.time() - LONG_AGO_S,) * 2)

    async def is_gone() -> bool:
        return not abandoned.exists()

    await eventually(is_gone)


async def test_a_form_may_take_longer_than_anything_abandoned_stays(
    server: TestServer, settings: IngestSettings
) -> None:
    """Its first scan was written two hours ago, the second is still coming over a slow line."""
    scan = compressed(good())
    first, second = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + scan + b"\r\n"
        for _ in range(2)
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        f"POST /api/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: {2 * len(first) + 7}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode()
        + first
        + second[:1000]
    )

    async def second_has_begun() -> bool:
        return len(list(settings.storage.incoming.glob("*.part"))) == 2

    await eventually(second_has_begun)
    for path in settings.storage.incoming.iterdir():
        os.utime(path, (time.time() - LONG_AGO_S,) * 2)
    await swept(settings)
    await swept(settings)
    writer.write(second[1000:] + b"--b--\r\n")
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert answer.startswith(b"HTTP/1.1 202")
    writer.close()
    assert list(settings.storage.incoming.iterdir()) == []


def token(settings: IngestSettings, job: JobRecord) -> str:
    """Return a job's token."""
    return settings.links(job).token


async def status(http: ClientSession, settings: IngestSettings, job: JobRecord) -> dict[str, Any]:
    """Return a job's status document."""
    async with http.get(f"/api/jobs/{job.job_id}", params={"token": token(settings, job)}) as answer:
        assert answer.status == 200, await answer.text()
        return cast("dict[str, Any]", await answer.json())


async def in_line(redis: Redis, settings: IngestSettings) -> list[str]:
    """Return the ids of the scans in the stream, where every entry must be an event."""
    entries = await redis.xrange(settings.keys.scans)
    events = [parse_event(cast("dict[str, str]", fields)) for _, fields in entries or ()]
    return [event.scan_id for event in events if isinstance(event, ScanUploaded)]


async def test_a_waiting_job_tells_its_place(
    http: ClientSession, settings: IngestSettings, redis: Redis
) -> None:
    """The document is the contract's, whole; places count from 1 over all jobs."""
    storage = settings.storage
    jobs = Jobs(redis, settings.keys)
    await jobs.enqueue(accepted_job(storage), storage)
    second = accepted_job(storage, scans=2, email="a@example.org")
    await jobs.enqueue(second, storage)
    document = await status(http, settings, second)
    links = settings.links(second)
    assert set(document) == {"job_id", "state", "created_at", "expires_at", "result_url", "mail", "scans"}
    assert (document["state"], document["mail"]) == ("open", "pending")
    assert document["result_url"] == links.result
    scans = {scan["scan_id"]: scan for scan in document["scans"]}
    assert [scan["place_in_line"] for scan in document["scans"]] == [2, 3]
    assert {scan["state"] for scan in scans.values()} == {"waiting"}
    for scan_id, scan in scans.items():
        assert scan["viewer_url"] == links.papaya(scan_id)
        assert (scan["deliveries"], scan["report"], scan["files"], scan["error"]) == (0, None, {}, None)


async def test_a_finished_job_tells_results_and_failures(
    http: ClientSession, settings: IngestSettings, redis: Redis
) -> None:
    """A scan that is done has a report and files, one that failed says why, and the job is finished."""
    storage, jobs = settings.storage, Jobs(redis, settings.keys)
    job = accepted_job(storage, scans=2)
    await jobs.enqueue(job, storage)
    good, bad = (scan.scan_id for scan in job.scans)
    await jobs.scan_started(job.job_id, good, 2)
    publish_result(storage, job, good)
    await jobs.scan_ended(ScanProcessed(job_id=job.job_id, scan_id=good, path="x")).run(redis)
    storage.write_failure(job.job_id, bad, REFUSAL)
    await jobs.scan_ended(ScanFailed(job_id=job.job_id, scan_id=bad, path="x", **REFUSAL.model_dump())).run(
        redis
    )
    document = await status(http, settings, job)
    done, failed = document["scans"]
    assert (document["state"], document["mail"]) == ("finished", "none")
    assert (done["state"], done["deliveries"], done["error"]) == ("done", 2, None)
    assert done["report"]["schema"] == "1"
    assert done["report"]["core_estimate"]["value"] == 23.46
    assert done["files"]["saliency"] == settings.links(job).file(good, "saliency.nii.gz")
    assert set(done["files"]) == {
        *("saliency", "saliency_fixed", "saliency_native", "summary", "alignment", "report", "aligned")
    }
    assert (failed["state"], failed["report"], failed["files"]) == ("failed", None, {})
    assert failed["error"] == REFUSAL.model_dump()
    async with http.get(f"/jobs/{job.job_id}", params={"token": token(settings, job)}) as page:
        text = await page.text()
    assert 'http-equiv="refresh"' not in text
    assert settings.links(job).result in text
    assert REFUSAL.detail in text
    assert DEMO in text


async def test_an_open_jobs_page_renews_itself(http: ClientSession, settings: IngestSettings) -> None:
    """It works without script, so it is the browser that reloads it."""
    job = accepted_job(settings.storage)
    async with http.get(f"/jobs/{job.job_id}", params={"token": token(settings, job)}) as page:
        assert 'http-equiv="refresh"' in await page.text()


async def test_while_redis_is_away_the_files_tell(
    http: ClientSession, settings: IngestSettings, redis_server: RedisServer
) -> None:
    """The files are the truth: a result that lies on disk can be read without Redis."""
    job = accepted_job(settings.storage, scans=2)
    publish_result(settings.storage, job, job.scans[0].scan_id)
    redis_server.kill()
    document = await status(http, settings, job)
    assert document["state"] == "open"
    assert [scan["state"] for scan in document["scans"]] == ["done", "waiting"]
    assert document["scans"][1]["place_in_line"] is None


async def test_a_job_opens_to_its_own_token_alone(http: ClientSession, settings: IngestSettings) -> None:
    """Missing 401; forged or another job's 403; expired or deleted 410: on API and page alike."""
    storage = settings.storage
    mine, other = accepted_job(storage), accepted_job(storage)
    late = accepted_job(storage, links_expire_at=now() - timedelta(seconds=1))
    gone = accepted_job(storage)
    storage.delete_job(gone.job_id)
    cases = [
        (mine, None, 401, "token-missing"),
        (mine, "forged", 403, "link-invalid"),
        (mine, token(settings, mine)[:-1], 403, "link-invalid"),
        (mine, token(settings, other), 403, "link-invalid"),
        (late, token(settings, late), 410, "link-expired"),
        (gone, token(settings, gone), 410, "job-gone"),
    ]
    for path in ("/api/jobs", "/jobs"):
        for job, value, code, name in cases:
            params = {"token": value} if value else {}
            async with http.get(f"{path}/{job.job_id}", params=params) as answer:
                assert (answer.status, (await answer.json())["code"]) == (code, name)
    headers = {"Authorization": f"Bearer {token(settings, mine)}"}
    async with http.get(f"/api/jobs/{mine.job_id}", headers=headers) as answer:
        assert answer.status == 200


async def test_a_job_that_redis_never_heard_of_is_put_in_line(
    http: ClientSession, settings: IngestSettings, redis: Redis
) -> None:
    """A crash between the files and the event costs the submitter at most a sweep; it is queued once."""
    job = accepted_job(settings.storage)

    async def queued() -> bool:
        return await in_line(redis, settings) == [job.scans[0].scan_id]

    await eventually(queued)
    await asyncio.sleep(4 * SWEEP_EVERY_S)  # further sweeps must change nothing
    assert await queued()
    assert (await status(http, settings, job))["scans"][0]["place_in_line"] == 1


async def test_a_flushed_redis_is_filled_again(
    server: TestServer, settings: IngestSettings, redis: Redis
) -> None:
    """What is done stays done, what waits is queued again, and the consumer groups are back."""
    assert server.started
    job = accepted_job(settings.storage, scans=2)
    done, waiting = (scan.scan_id for scan in job.scans)
    publish_result(settings.storage, job, done)

    async def healed() -> bool:
        return await in_line(redis, settings) == [waiting]

    await eventually(healed)
    await redis.flushall()
    await eventually(healed)
    groups = await redis.xinfo_groups(settings.keys.scans)
    assert [group["name"] for group in groups] == [PROCESSORS]
    state = await Jobs(redis, settings.keys).read(job.job_id)
    assert state is not None
    assert {scan: s.state for scan, s in state.scans.items()} == {done: "done", waiting: "waiting"}


async def test_redis_may_be_away_when_the_service_starts(
    settings: IngestSettings, redis_server: RedisServer, redis: Redis
) -> None:
    """It starts, keeps sweeping, and puts in line what waits as soon as Redis answers."""
    redis_server.kill()
    job = accepted_job(settings.storage)
    server = TestServer(build(settings, sweep_every_s=SWEEP_EVERY_S))
    await server.start_server()
    redis_server.start()

    async def queued() -> bool:
        return await in_line(redis, settings) == [job.scans[0].scan_id]

    await eventually(queued)
    await server.close()


async def test_an_expired_job_goes_from_disk_and_redis(
    server: TestServer, settings: IngestSettings, redis: Redis
) -> None:
    """After its retention time nothing of a job is left, though a damaged record lies beside it."""
    assert server.started
    storage, jobs = settings.storage, Jobs(redis, settings.keys)
    kept, expired, damaged = (accepted_job(storage) for _ in range(3))
    for job in (kept, expired):
        await jobs.enqueue(job, storage)
    (storage.job_dir(damaged.job_id) / "job.json").write_text("{")
    late = expired.model_copy(update={"expires_at": now() - timedelta(seconds=1)})
    (storage.job_dir(late.job_id) / "job.json").write_text(late.model_dump_json())

    async def is_gone() -> bool:
        return not storage.job_dir(late.job_id).exists() and await jobs.read(late.job_id) is None

    await eventually(is_gone)
    assert storage.read_job(kept.job_id) == kept
    assert await jobs.read(kept.job_id) is not None


async def test_what_was_abandoned_goes_after_an_hour(server: TestServer, settings: IngestSettings) -> None:
    """An upload nobody goes on with, and a job that a crash left without its record; not younger ones."""
    assert server.started
    storage = settings.storage
    old_part, new_part = storage.part_path("a" * 32), storage.part_path("b" * 32)
    old_job, new_job = storage.job_dir("c" * 32), storage.job_dir("d" * 32)
    for job in (old_job, new_job):
        (job / ("e" * 32)).mkdir(parents=True)
    for part in (old_part, new_part):
        part.write_bytes(b"voxels")
    long_ago = time.time() - 3700
    for path in (old_part, old_job):
        os.utime(path, (long_ago, long_ago))

    async def are_gone() -> bool:
        return not old_part.exists() and not old_job.exists()

    await eventually(are_gone)
    assert new_part.exists()
    assert new_job.exists()
