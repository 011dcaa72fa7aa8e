"""Retrying what was given up: the job follows its dead letter, and its submitter hears how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from notifier.settings import NotifierSettings
from notifier.worker import serve
from pipeline.clock import now
from pipeline.errors import JobNotFoundError, ScanRefusedError
from pipeline.events import JobFinished
from pipeline.jobs import Jobs, JobState
from pipeline.keys import NOTIFIERS, PROCESSORS
from pipeline.retry import NotRetriedError, retry
from pipeline.storage import JobRecord, Storage
from pipeline.streams import Consumer, DeadLetters, connect, ensure_group, publish
from processor.child import DetectionChild
from processor.scans import ScanHandler
from tests.support.results import accepted_job, report, write_result
from tests.support.smtp_server import SmtpServer, running_smtp
from tests.support.waiting import eventually

ADDRESS = "reader@hospital.example"


@dataclass
class Detector:
    """Stands in for the child process: refuses the scans it is told to, has a result for the others."""

    refused: set[str] = field(default_factory=set)

    async def detect(self, _scan: Path, stage: Path, *, job_id: str, scan_id: str) -> None:
        """Detect as the child does."""
        if scan_id in self.refused:
            raise ScanRefusedError(code="not-a-head", title="No head", detail="Expected a head. Send one.")
        write_result(stage, report(job_id, scan_id))


@dataclass(frozen=True)
class System:
    """Everything behind the upload service."""

    settings: NotifierSettings
    client: Redis
    detector: Detector

    @property
    def storage(self) -> Storage:
        """Where jobs lie."""
        return self.settings.storage

    @property
    def jobs(self) -> Jobs:
        """State of jobs."""
        return Jobs(self.client, self.settings.keys)

    @property
    def dead(self) -> DeadLetters:
        """What was given up."""
        return DeadLetters(self.client, self.settings.keys.dead)

    async def retry(self, dead_id: str) -> str:
        """Retry as the command does."""
        return await retry(dead_id, dead=self.dead, jobs=self.jobs, storage=self.storage)

    async def job(self, job: JobRecord) -> JobState:
        """Return what Redis knows of a job."""
        state = await self.jobs.read(job.job_id)
        assert state is not None
        return state

    async def submit(self, *, scans: int = 1, refused: int = 1) -> JobRecord:
        """Accept a job of which the first `refused` scans will be refused."""
        job = accepted_job(self.storage, scans=scans, email=ADDRESS)
        self.detector.refused |= {scan.scan_id for scan in job.scans[:refused]}
        await self.jobs.enqueue(job, self.storage)
        return job

    async def timeline(self, job: JobRecord) -> list[str]:
        """Return what happened to a job, in order."""
        entries = await self.client.xrange(self.settings.keys.timeline(job.job_id))
        return [fields["what"] for _, fields in cast("list[tuple[str, dict[str, str]]]", entries)]


@pytest.fixture
async def smtp() -> AsyncIterator[SmtpServer]:
    """A mail server."""
    async with running_smtp() as server:
        yield server


@pytest.fixture
async def system(tmp_path: Path, redis_url: str, smtp: SmtpServer) -> AsyncIterator[System]:
    """An installation of the test's own."""
    settings = NotifierSettings(
        redis_url=redis_url,
        data_dir=tmp_path / "data",
        secret_key=SecretStr("s" * 64),
        smtp_url=SecretStr(smtp.url),
        lease_ms=300,
    )
    client = connect(redis_url)
    await ensure_group(client, settings.keys.scans, PROCESSORS)
    await ensure_group(client, settings.keys.results, NOTIFIERS)
    yield System(settings, client, Detector())
    await client.aclose()


@asynccontextmanager
async def running(system: System) -> AsyncIterator[None]:
    """Run processor and notifier, and leave once both streams are empty."""
    keys = system.settings.keys
    handler = ScanHandler(system.jobs, system.storage, cast("DetectionChild", system.detector))
    processor = Consumer(
        system.client,
        stream=keys.scans,
        group=PROCESSORS,
        dead_stream=keys.dead,
        handler=handler.process,
        on_dead=handler.give_up,
        lease_ms=300,
    )
    stop = asyncio.Event()
    tasks = [asyncio.create_task(work(stop)) for work in (processor.run, lambda s: serve(system.settings, s))]

    async def idle() -> bool:
        return not (await system.client.xlen(keys.scans) or await system.client.xlen(keys.results))

    try:
        yield
        await eventually(idle)
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def test_a_retried_scan_reopens_its_job_and_its_end_is_mailed_again(
    system: System, smtp: SmtpServer
) -> None:
    """Waiting again, with the new entry; then done, finished again, and a second mail that says so."""
    job = await system.submit(scans=2)
    first = job.scans[0].scan_id
    async with running(system):
        pass
    (letter,) = await system.dead.list()
    assert (await system.job(job)).scans[first].state == "failed"

    system.detector.refused.clear()
    entry_id = await system.retry(letter.dead_id)
    state = await system.job(job)
    assert (state.state, state.mail) == ("open", "pending")
    assert (state.scans[first].state, state.scans[first].entry_id) == ("waiting", entry_id)
    assert state.scans[first].deliveries == 0
    assert await system.client.hget(system.settings.keys.job(job.job_id), "remaining") == "1"
    assert await system.dead.list() == []

    async with running(system):
        pass
    state = await system.job(job)
    assert (state.state, state.mail) == ("finished", "sent")
    assert {scan.state for scan in state.scans.values()} == {"done"}
    assert system.storage.read_failure(job.job_id, first) is None
    before, after = smtp.mails
    assert before["Subject"] == "corestream: 1 of your 2 scans is ready"
    assert after["Subject"] == "corestream: your 2 scans are ready"
    assert before["Message-ID"] != after["Message-ID"]
    timeline = await system.timeline(job)
    assert timeline[timeline.index("retried") :] == ["retried", "detecting", "done", "finished", "mail sent"]


async def test_a_retried_scan_that_fails_again_says_so_and_keeps_its_history(
    system: System, smtp: SmtpServer
) -> None:
    """Its second death knows of the first; the submitter is told again."""
    job = await system.submit()
    async with running(system):
        pass
    (letter,) = await system.dead.list()
    await system.retry(letter.dead_id)
    async with running(system):
        pass
    (again,) = await system.dead.list()
    assert [death["entry_id"] for death in again.history] == [letter.entry_id]
    assert (await system.job(job)).state == "finished"
    assert system.storage.read_failure(job.job_id, job.scans[0].scan_id) is not None
    assert len(smtp.mails) == 2


async def test_two_people_retry_a_letter_once(system: System) -> None:
    """One new entry, one scan more to wait for; the others hear that the letter is gone."""
    job = await system.submit()
    async with running(system):
        pass
    (letter,) = await system.dead.list()
    outcomes = await asyncio.gather(*(system.retry(letter.dead_id) for _ in range(5)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(str) == 1
    assert [type(outcome) for outcome in outcomes].count(NotRetriedError) == 4
    assert await system.client.xlen(system.settings.keys.scans) == 1
    assert await system.client.hget(system.settings.keys.job(job.job_id), "remaining") == "1"
    assert system.storage.retries(job.job_id) == 1


async def test_a_retry_that_died_half_way_is_finished_by_the_sweep(system: System, smtp: SmtpServer) -> None:
    """Once the files say that a scan is retried it is, with or without the Redis that heard of it."""
    job = await system.submit()
    async with running(system):
        pass
    system.detector.refused.clear()
    system.storage.retry_scan(job.job_id, job.scans[0].scan_id)
    assert [await system.jobs.enqueue(job, system.storage) for _ in range(2)] == [1, 0]
    assert (await system.job(job)).state == "open"
    (letter,) = await system.dead.list()
    with pytest.raises(NotRetriedError, match="waits or runs already"):
        await system.retry(letter.dead_id)
    await system.client.flushall()
    assert await system.jobs.enqueue(job, system.storage) == 1
    async with running(system):
        pass
    state = await system.job(job)
    assert (state.state, state.mail) == ("finished", "sent")
    assert len(smtp.mails) == 2


async def test_a_sweep_that_looked_before_a_scan_failed_does_not_retry_it(system: System) -> None:
    """What a sweep has read from the files may be old by the time Redis hears of it."""
    job = await system.submit()
    async with running(system):
        pass
    failure = system.storage.job_dir(job.job_id) / job.scans[0].scan_id / "failure.json"
    words = failure.read_bytes()
    failure.unlink()  # as the sweep saw it
    assert await system.jobs.enqueue(job, system.storage) == 0
    failure.write_bytes(words)
    assert (await system.job(job)).state == "finished"


async def test_a_letter_whose_scan_has_a_result_is_not_retried(system: System) -> None:
    """An older letter of the same scan changes nothing any more."""
    job = await system.submit()
    async with running(system):
        pass
    (letter,) = await system.dead.list()
    system.detector.refused.clear()
    system.storage.retry_scan(job.job_id, job.scans[0].scan_id)
    await system.jobs.enqueue(job, system.storage)
    async with running(system):
        pass
    with pytest.raises(NotRetriedError, match="has its result"):
        await system.retry(letter.dead_id)
    assert (await system.job(job)).state == "finished"
    assert len(await system.dead.list()) == 1


async def test_a_refused_mail_is_sent_when_it_is_retried(system: System, smtp: SmtpServer) -> None:
    """The operator mends the mail server and retries; it is the same mail, so its Message-ID is the same."""
    smtp.mail_reply = "550 5.7.1 no"
    job = await system.submit(refused=0)
    async with running(system):
        pass
    (letter,) = await system.dead.list()
    failed = system.storage.read_mail_receipt(job.job_id)
    assert failed is not None
    assert ((await system.job(job)).mail, failed.state) == ("failed", "failed")
    smtp.mail_reply = "250 OK"
    await system.retry(letter.dead_id)
    assert (await system.job(job)).mail == "pending"
    async with running(system):
        pass
    (mail,) = smtp.mails
    assert mail["Message-ID"] == failed.message_id
    assert (await system.job(job)).mail == "sent"


async def test_a_letter_whose_mail_went_out_is_not_retried(system: System, smtp: SmtpServer) -> None:
    """Of two letters about one end of a job, as a repeated announcement makes them, one can be retried."""
    smtp.mail_reply = "550 5.7.1 no"
    job = await system.submit(refused=0)
    async with running(system):
        pass
    await publish(system.client, system.settings.keys.results, JobFinished(job_id=job.job_id).to_fields())
    async with running(system):
        pass
    second, first = await system.dead.list()
    smtp.mail_reply = "250 OK"
    await system.retry(first.dead_id)
    async with running(system):
        pass
    with pytest.raises(NotRetriedError, match="went out"):
        await system.retry(second.dead_id)
    assert len(smtp.mails) == 1
    assert (await system.job(job)).mail == "sent"
    assert await system.dead.list() == [second]


async def test_nothing_is_retried_for_a_deleted_job(system: System) -> None:
    """Its scan is gone: whoever asks is told, and the letter stays until it is dropped."""
    job = await system.submit()
    async with running(system):
        pass
    (letter,) = await system.dead.list()
    system.storage.delete_job(job.job_id)
    with pytest.raises(JobNotFoundError, match="deleted"):
        await system.retry(letter.dead_id)
    assert await system.dead.list() == [letter]
    assert await system.client.xlen(system.settings.keys.scans) == 0


async def test_a_mail_whose_link_has_expired_is_not_retried(system: System) -> None:
    """It would lead nowhere."""
    job = accepted_job(system.storage, email=ADDRESS, links_expire_at=now() - timedelta(seconds=1))
    await publish(system.client, system.settings.keys.results, JobFinished(job_id=job.job_id).to_fields())
    async with running(system):
        pass
    (letter,) = await system.dead.list()
    with pytest.raises(NotRetriedError, match="expired"):
        await system.retry(letter.dead_id)


async def test_an_entry_that_no_version_understood_goes_back_as_it_was(system: System) -> None:
    """After an upgrade it may be understood; it belongs to no job that could follow."""
    await publish(system.client, system.settings.keys.scans, {"type": "scan.imagined", "schema": "9"})
    async with running(system):
        pass
    (letter,) = await system.dead.list()
    entry_id = await system.retry(letter.dead_id)
    ((found, fields),) = cast(
        "list[tuple[str, dict[str, str]]]", await system.client.xrange(system.settings.keys.scans)
    )
    assert (found, fields["type"]) == (entry_id, "scan.imagined")
    with pytest.raises(NotRetriedError, match="none of that id"):
        await system.retry(letter.dead_id)
