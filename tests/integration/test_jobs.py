"""The state of jobs, against a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from redis.asyncio import Redis

from pipeline.clock import now
from pipeline.errors import Failure
from pipeline.events import ScanFailed, ScanProcessed, parse_event
from pipeline.ids import new_id
from pipeline.jobs import Jobs
from pipeline.keys import NOTIFIERS, PROCESSORS, Keys
from pipeline.storage import JobRecord, MailReceipt, ScanRecord, Storage
from pipeline.streams import DeadLetters, Delivery, Effect, Reason, connect, ensure_group, publish
from pipeline.streams.scripts import Scripts

KEYS = Keys("test:")


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    """A connection to a fresh Redis with both consumer groups."""
    client = connect(redis_url)
    await client.flushall()
    await ensure_group(client, KEYS.scans, PROCESSORS)
    await ensure_group(client, KEYS.results, NOTIFIERS)
    yield client
    await client.aclose()


@pytest.fixture
def jobs(client: Redis) -> Jobs:
    """What is tested."""
    return Jobs(client, KEYS)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty installation."""
    storage = Storage(tmp_path)
    storage.create_folders()
    return storage


def submit(storage: Storage, *, scans: int, email: str | None = None) -> JobRecord:
    """Accept a job on disk alone."""
    parts = [storage.part_path(new_id()) for _ in range(scans)]
    for part in parts:
        part.write_bytes(b"voxels")
    record = JobRecord(
        job_id=new_id(),
        created_at=now(),
        links_expire_at=now() + timedelta(hours=1),
        expires_at=now() + timedelta(hours=1),
        email=email,
        scans=tuple(ScanRecord(scan_id=new_id(), sha256="0" * 64, size_bytes=6) for _ in parts),
    )
    storage.accept(record, parts)
    return record


def processed(job: JobRecord, index: int = 0) -> ScanProcessed:
    """The good end of one scan."""
    return ScanProcessed(job_id=job.job_id, scan_id=job.scans[index].scan_id, path="p")


def failed(job: JobRecord, index: int = 0) -> ScanFailed:
    """The bad end of one scan."""
    return ScanFailed(
        job_id=job.job_id, scan_id=job.scans[index].scan_id, path="p", code="c", title="t", detail="d"
    )


async def entries(client: Redis, stream: str) -> list[tuple[str, dict[str, str]]]:
    """Return the entries of a stream, oldest first."""
    return cast("list[tuple[str, dict[str, str]]]", await client.xrange(stream))


async def results(client: Redis) -> list[str]:
    """Return the types of all results published so far."""
    return [parse_event(fields).type for _, fields in await entries(client, KEYS.results)]


async def test_a_job_is_written_with_its_events(client: Redis, jobs: Jobs, storage: Storage) -> None:
    """Afterwards every scan waits, with an entry that says where it lies."""
    job = submit(storage, scans=2, email="reader@hospital.example")
    assert await jobs.enqueue(job, storage) == 2
    queued = await entries(client, KEYS.scans)
    assert [fields["scan_id"] for _, fields in queued] == [scan.scan_id for scan in job.scans]
    state = await jobs.read(job.job_id)
    assert state is not None
    assert (state.state, state.mail) == ("open", "pending")
    assert {scan.state for scan in state.scans.values()} == {"waiting"}
    assert {scan.entry_id for scan in state.scans.values()} == {entry_id for entry_id, _ in queued}


async def test_enqueueing_again_adds_nothing(client: Redis, jobs: Jobs, storage: Storage) -> None:
    """The sweep and a retried submission leave alone what is in order."""
    job = submit(storage, scans=2)
    await jobs.enqueue(job, storage)
    await jobs.scan_started(job.job_id, job.scans[0].scan_id, 1)
    assert await jobs.enqueue(job, storage) == 0
    assert await client.xlen(KEYS.scans) == 2


async def test_a_scan_whose_entry_is_gone_is_put_in_line_again(
    client: Redis, jobs: Jobs, storage: Storage
) -> None:
    """Whoever deletes the stream deletes no work."""
    job = submit(storage, scans=2)
    await jobs.enqueue(job, storage)
    await jobs.scan_ended(processed(job, 0)).run(client)
    await client.delete(KEYS.scans)
    assert await jobs.enqueue(job, storage) == 1
    queued = await entries(client, KEYS.scans)
    assert [fields["scan_id"] for _, fields in queued] == [job.scans[1].scan_id]


async def test_a_scan_that_ended_on_disk_alone_is_counted_once_its_entry_is_gone(
    client: Redis, jobs: Jobs, storage: Storage
) -> None:
    """A result whose worker died before it could say so ends its job, even if the entry was deleted."""
    job = submit(storage, scans=1, email="reader@hospital.example")
    await jobs.enqueue(job, storage)
    with storage.staged_result(job.job_id, job.scans[0].scan_id):
        pass
    await jobs.enqueue(job, storage)
    assert await results(client) == []  # the entry is there: its next worker will say so
    await client.delete(KEYS.scans)
    for _ in range(2):
        assert await jobs.enqueue(job, storage) == 0
        assert await results(client) == ["job.finished"]


async def test_a_flushed_redis_is_rebuilt_from_the_files(client: Redis, jobs: Jobs, storage: Storage) -> None:
    """Scans that have ended stay ended; the others wait again; the job finishes once they end."""
    job = submit(storage, scans=3, email="reader@hospital.example")
    await jobs.enqueue(job, storage)
    with storage.staged_result(job.job_id, job.scans[0].scan_id):
        pass
    storage.write_failure(job.job_id, job.scans[1].scan_id, Failure(code="c", title="t", detail="d"))
    await client.flushall()
    assert await jobs.enqueue(job, storage) == 1
    state = await jobs.read(job.job_id)
    assert state is not None
    assert [state.scans[scan.scan_id].state for scan in job.scans] == ["done", "failed", "waiting"]
    await jobs.scan_ended(processed(job, 2)).run(client)
    assert await results(client) == ["scan.processed", "job.finished"]


@pytest.mark.parametrize("receipt", [None, "sent"])
async def test_after_a_flush_a_mail_goes_out_unless_its_receipt_is_on_disk(
    client: Redis, jobs: Jobs, storage: Storage, receipt: str | None
) -> None:
    """A finished job whose mail was sent is not mailed again; one whose mail was not, is."""
    job = submit(storage, scans=1, email="reader@hospital.example")
    with storage.staged_result(job.job_id, job.scans[0].scan_id):
        pass
    if receipt:
        storage.write_mail_receipt(job.job_id, MailReceipt(state="sent", message_id="<a@b>", at=now()))
    assert await jobs.enqueue(job, storage) == 0
    state = await jobs.read(job.job_id)
    assert state is not None
    assert (state.state, state.mail) == ("finished", receipt or "pending")
    assert await results(client) == ([] if receipt else ["job.finished"])


async def test_a_flushed_job_whose_files_say_that_it_ended_says_so_in_its_timeline(
    client: Redis, jobs: Jobs, storage: Storage
) -> None:
    """A page that follows the timeline learns of the end, and learns of it once."""
    job = submit(storage, scans=1)
    await jobs.enqueue(job, storage)
    with storage.staged_result(job.job_id, job.scans[0].scan_id):
        pass
    await client.flushall()
    for _ in range(2):
        await jobs.enqueue(job, storage)
    steps = [fields["what"] for _, fields in await entries(client, KEYS.timeline(job.job_id))]
    assert steps == ["received", "done", "finished"]


async def test_a_mail_whose_announcement_is_deleted_is_announced_again_by_the_sweep(
    client: Redis, jobs: Jobs, storage: Storage
) -> None:
    """DEL of the stream of results loses no mail; nothing is announced twice while an announcement waits."""
    job = submit(storage, scans=1, email="reader@hospital.example")
    await jobs.enqueue(job, storage)
    with storage.staged_result(job.job_id, job.scans[0].scan_id):
        pass
    await jobs.scan_ended(processed(job)).run(client)
    await jobs.enqueue(job, storage)
    assert await results(client) == ["scan.processed", "job.finished"]
    await client.delete(KEYS.results)
    for _ in range(2):
        await jobs.enqueue(job, storage)
    assert await results(client) == ["job.finished"]
    await jobs.mail_ended(job.job_id, "sent").run(client)
    await client.delete(KEYS.results)
    await jobs.enqueue(job, storage)
    assert await results(client) == []


async def test_a_job_finishes_once_when_its_last_scan_ends(
    client: Redis, jobs: Jobs, storage: Storage
) -> None:
    """In whatever order and however often the ends arrive, there is one result a scan and one end a job."""
    job = submit(storage, scans=3)
    await jobs.enqueue(job, storage)
    for event in (processed(job, 2), failed(job, 0), processed(job, 2), failed(job, 2), processed(job, 1)):
        await jobs.scan_ended(event).run(client)
    for event in (processed(job, 0), processed(job, 1)):
        await jobs.scan_ended(event).run(client)
    assert await results(client) == ["scan.processed", "scan.failed", "scan.processed", "job.finished"]
    state = await jobs.read(job.job_id)
    assert state is not None
    assert state.state == "finished"
    assert [state.scans[scan.scan_id].state for scan in job.scans] == ["failed", "done", "done"]


async def test_a_scan_that_has_ended_does_not_start_again(
    client: Redis, jobs: Jobs, storage: Storage
) -> None:
    """A late worker cannot make a finished scan look unfinished."""
    job = submit(storage, scans=1)
    await jobs.enqueue(job, storage)
    await jobs.scan_started(job.job_id, job.scans[0].scan_id, 2)
    state = await jobs.read(job.job_id)
    assert state is not None
    assert state.scans[job.scans[0].scan_id].deliveries == 2
    await jobs.scan_ended(processed(job)).run(client)
    await jobs.scan_started(job.job_id, job.scans[0].scan_id, 3)
    state = await jobs.read(job.job_id)
    assert state is not None
    assert state.scans[job.scans[0].scan_id].state == "done"


async def test_the_place_in_line_counts_those_before(jobs: Jobs, storage: Storage) -> None:
    """The first waiting scan has place 1; one that has been started has none, also when it starts again."""
    job = submit(storage, scans=3)
    await jobs.enqueue(job, storage)

    async def places() -> list[int | None]:
        state = await jobs.read(job.job_id)
        assert state is not None
        numbers = [state.scans[scan.scan_id].number for scan in job.scans]
        return [await jobs.place_in_line(number or 0) for number in numbers]

    assert await places() == [1, 2, 3]
    await jobs.scan_started(job.job_id, job.scans[0].scan_id, 1)
    assert await places() == [None, 1, 2]
    await jobs.scan_started(job.job_id, job.scans[1].scan_id, 1)
    await jobs.scan_started(job.job_id, job.scans[0].scan_id, 2)
    assert await places() == [None, None, 1]


async def test_a_scan_put_back_in_line_goes_to_its_end(client: Redis, jobs: Jobs, storage: Storage) -> None:
    """After its entry was lost, a scan waits behind those that came meanwhile."""
    first, second = submit(storage, scans=1), submit(storage, scans=1)
    await jobs.enqueue(first, storage)
    await client.delete(KEYS.scans)
    await jobs.enqueue(second, storage)
    await jobs.enqueue(first, storage)
    state = await jobs.read(first.job_id)
    assert state is not None
    assert state.scans[first.scans[0].scan_id].number == 3


async def test_an_entry_of_another_scan_under_the_same_id_is_no_place_in_line(
    client: Redis, jobs: Jobs, storage: Storage
) -> None:
    """A stream that is deleted may give the same id again within the same millisecond."""
    first, second = submit(storage, scans=1), submit(storage, scans=1)
    await jobs.enqueue(second, storage)
    ((_, event_of_second),) = await entries(client, KEYS.scans)
    await jobs.enqueue(first, storage)
    _, (entry_of_first, _) = await entries(client, KEYS.scans)
    await client.delete(KEYS.scans)
    await client.xadd(KEYS.scans, event_of_second, id=entry_of_first)  # type: ignore[arg-type]  # dict is invariant
    assert await jobs.enqueue(first, storage) == 1


async def test_the_timeline_tells_what_happened(client: Redis, jobs: Jobs, storage: Storage) -> None:
    """Every step of a job is noted once, in order."""
    job = submit(storage, scans=1, email="reader@hospital.example")
    await jobs.enqueue(job, storage)
    await jobs.scan_started(job.job_id, job.scans[0].scan_id, 1)
    await jobs.scan_ended(processed(job)).run(client)
    await jobs.mail_ended(job.job_id, "sent").run(client)
    steps = [fields["what"] for _, fields in await entries(client, KEYS.timeline(job.job_id))]
    assert steps == ["received", "waiting", "detecting", "done", "finished", "mail sent"]


async def test_redis_forgets_a_deleted_job(client: Redis, jobs: Jobs, storage: Storage) -> None:
    """After deletion nothing of a job is left, and what ends late brings nothing back."""
    job = submit(storage, scans=1)
    await jobs.enqueue(job, storage)
    await jobs.forget({job.job_id})
    await jobs.scan_ended(processed(job)).run(client)
    await jobs.mail_ended(job.job_id, "sent").run(client)
    assert await jobs.read(job.job_id) is None
    assert await client.keys(f"{KEYS.prefix}job:*") == []


async def test_redis_forgets_a_job_by_itself_when_nobody_sweeps(
    client: Redis, jobs: Jobs, storage: Storage
) -> None:
    """What it knows of a job outlives the job's files by some days, whatever happened to it since."""
    job = submit(storage, scans=1)
    await jobs.enqueue(job, storage)
    await jobs.scan_started(job.job_id, job.scans[0].scan_id, 1)
    await jobs.scan_ended(processed(job)).run(client)
    kept_s = (job.expires_at - now()).total_seconds()
    for key in (KEYS.job(job.job_id), KEYS.timeline(job.job_id)):
        assert kept_s < await client.ttl(key) < kept_s + timedelta(days=8).total_seconds()


async def test_the_dead_letters_of_a_deleted_job_go_with_it(
    client: Redis, jobs: Jobs, storage: Storage
) -> None:
    """Nothing is left to be decided, and of a deleted job nothing shall be left; those of others stay."""
    deleted, kept = submit(storage, scans=1), submit(storage, scans=1)
    others = [failed(kept).to_fields(), {"payload": "of nobody's job"}]
    for fields in (failed(deleted).to_fields(), *others):
        entry_id = await publish(client, KEYS.scans, fields)
        await client.xreadgroup(PROCESSORS, "worker", {KEYS.scans: ">"})
        delivery = Delivery(KEYS.scans, PROCESSORS, "worker", entry_id, fields, count=1)
        assert await Scripts(client).bury(delivery, KEYS.dead, Reason("given up", 1), Effect.none())
    await jobs.forget({deleted.job_id})
    assert [letter.fields for letter in reversed(await DeadLetters(client, KEYS.dead).list())] == others
