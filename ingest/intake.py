"""From files on the disk to a job that stands in line: the one way in, whichever way the files came.

The order is the promise. The files and the job's record are on the disk before Redis hears of them, and
Redis has heard before a reply is sent. A submission is refused before it is read while Redis is away: its
sender, who still has the file, is told at once. Should Redis vanish later than that, the job is accepted none
the less, because its files are the truth: the sweeper puts it in line when Redis is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any

import structlog

from ingest import idempotency
from ingest.door import Admitted, admit
from ingest.locks import HeldError, held
from ingest.received import Limits, Received, Upload, disk_full, temporary_parts
from ingest.settings import IngestSettings
from pipeline.clock import now
from pipeline.errors import JobNotFoundError
from pipeline.files import NO_ROOM
from pipeline.ids import new_id
from pipeline.jobs import Jobs
from pipeline.ledger import Ledger, Line
from pipeline.metrics import UploadMetrics
from pipeline.storage import JobRecord, ScanRecord, Storage
from pipeline.streams import RedisError
from pipeline.web.health import Check
from pipeline.web.problems import ProblemError

log = structlog.get_logger()

Receive = Callable[[JobRecord | None], AbstractAsyncContextManager[Received]]
"""Gives what was submitted for as long as it is needed; is told of the job that its key has made already."""


class Intake:
    """Makes jobs of submissions.

    Args:
        settings: Of this service.
        storage: Where jobs lie.
        jobs: State of jobs.
        redis: Says what is wrong with Redis, None where nothing is.
        metrics: Of what is accepted.
        door: Where uploads are checked: a few threads of their own, so that a large scan that is being
            inflated holds up nobody's upload.

    Attributes:
        limits: Of every submission.
    """

    def __init__(
        self,
        settings: IngestSettings,
        *,
        storage: Storage,
        jobs: Jobs,
        redis: Check,
        door: Executor,
        metrics: UploadMetrics,
    ) -> None:
        self._settings = settings
        self._storage = storage
        self._jobs = jobs
        self._redis = redis
        self._door = door
        self._metrics = metrics
        self._ledger = Ledger(storage.ledger)
        self.limits = Limits(
            max_upload_bytes=settings.max_upload_bytes,
            max_files=settings.max_files_per_job,
            min_free_bytes=settings.min_free_bytes,
        )

    async def submit(self, key: str | None, receive: Receive) -> JobRecord:
        """Accept a submission, or say why not; of a refused one nothing is left but resumable uploads.

        One that was accepted before under the same key is answered as it was then.

        Args:
            key: The same for the same submission; None where it is a new one in any case.
            receive: Gives the submission.

        Raises:
            ProblemError: It is refused.
            OSError: The disk is broken.
        """
        with no_room_is_a_problem(), self._reserved(key) as (job_id, earlier):
            await self._check_queue(known=earlier is not None)
            async with receive(earlier) as received:
                if earlier is None:
                    record = await self._accept(job_id, received)
                else:
                    idempotency.require_same(earlier, received)
                    record = earlier
            await self._put_in_line(record)
        log.info("job.accepted", job_id=job_id, scans=len(record.scans), again=earlier is not None)
        return record

    @contextmanager
    def _reserved(self, key: str | None) -> Iterator[tuple[str, JobRecord | None]]:
        """Give the id for a job, and the job where its key has made one already; nobody else gets the id."""
        if key is None:
            yield new_id(), None
            return
        job_id = idempotency.job_id(key, self._settings.secret_key.get_secret_value())
        try:
            with held(self._storage.lock_path(job_id)):
                yield job_id, self._earlier(job_id)
        except HeldError as error:
            raise idempotency.under_way() from error

    def _earlier(self, job_id: str) -> JobRecord | None:
        try:
            record = self._storage.read_job(job_id)
            if record.expires_at > now():
                return record
        except JobNotFoundError:
            pass  # never was, expired, or died before it was accepted: then its folder is in the way
        self._storage.delete_job(job_id)
        return None

    async def _check_queue(self, *, known: bool) -> None:
        if await self._redis() is not None:
            raise queue_away()
        if known:  # it stands in line already, and only its reply was lost
            return
        try:
            waiting = await self._jobs.unfinished_scans()
        except RedisError as error:
            raise queue_away() from error
        if waiting >= self._settings.max_waiting_scans:
            raise ProblemError(
                status=503,
                code="queue-full",
                title="Too many scans waiting",
                detail=f"Expected fewer than {self._settings.max_waiting_scans:,} scans waiting, found "
                f"{waiting:,}. No job was made. Try again in a few minutes.",
                headers={"Retry-After": "120"},
            )

    async def _accept(self, job_id: str, received: Received) -> JobRecord:
        self.limits.require_room(self._storage, sum(upload.size_bytes for upload in received.uploads))
        with temporary_parts(self._storage) as new_part:
            admitted = await self._admit_all(received, [new_part() for _ in received.uploads])
            for scan in admitted:  # none of them before all are let in: a refusal leaves them as they came
                await asyncio.get_running_loop().run_in_executor(self._door, scan.settle)
            record = self._record(job_id, received, admitted)
            await asyncio.to_thread(self._storage.accept, record, [scan.path for scan in admitted])
            self._note(record, received.uploads)
        return record

    async def _admit_all(self, received: Received, targets: list[Path]) -> list[Admitted]:
        """Check every scan, so that all that are refused are told of at once.

        Raises:
            ProblemError: The first refusal, with a list of all.
        """
        scans: list[Admitted] = []
        refusals: list[tuple[int, Upload, ProblemError]] = []
        for number, (upload, target) in enumerate(zip(received.uploads, targets, strict=True), start=1):
            try:
                scans.append(await self._admit(upload, target))
            except ProblemError as problem:
                refusals.append((number, upload, problem))
        if refusals:
            number, _, first = refusals[0]
            first.errors = tuple(_error(received, *refusal) for refusal in refusals)
            if len(received.uploads) > 1:
                first.detail = f"File {number} of {len(received.uploads)}: {first.detail}"
            raise first
        return scans

    async def _admit(self, upload: Upload, target: Path) -> Admitted:
        check: Callable[[], Admitted] = lambda: admit(  # noqa: E731 - partial loses the types
            upload.paths, target, max_bytes=self.limits.max_upload_bytes, ours=upload.ours
        )
        return await asyncio.get_running_loop().run_in_executor(self._door, check)

    def _note(self, record: JobRecord, uploads: Iterable[Upload]) -> None:
        on_disk_at = now()
        for scan, upload in zip(record.scans, uploads, strict=True):
            ids = {"job_id": record.job_id, "scan_id": scan.scan_id}
            self._ledger.note(Line(at=upload.first_byte_at, moment="first_byte", **ids))
            self._ledger.note(Line(at=on_disk_at, moment="on_disk", size_bytes=scan.size_bytes, **ids))
            self._metrics.accepted(scan.size_bytes)

    def _record(self, job_id: str, received: Received, admitted: list[Admitted]) -> JobRecord:
        created = now()
        scans = (
            ScanRecord(
                scan_id=new_id(),
                sha256=upload.sha256,
                size_bytes=upload.size_bytes,
                removed=scan.removed,
                compressed=scan.compressed,
            )
            for upload, scan in zip(received.uploads, admitted, strict=True)
        )
        return JobRecord(
            job_id=job_id,
            created_at=created,
            links_expire_at=created + self._settings.link_ttl,
            expires_at=created + self._settings.retention,
            email=received.email,
            scans=tuple(scans),
            upload_ids=received.upload_ids,
        )

    async def _put_in_line(self, record: JobRecord) -> None:
        try:
            await self._jobs.enqueue(record, self._storage)
        except RedisError as error:
            log.warning("job.not_in_line", job_id=record.job_id, error=str(error))


@contextmanager
def no_room_is_a_problem() -> Iterator[None]:
    """Say in words that the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise disk_full() from error
        raise


def _error(received: Received, number: int, upload: Upload, problem: ProblemError) -> dict[str, Any]:
    """Return one refusal for the list in a problem document."""
    error: dict[str, Any] = {
        "file": number,
        "status": problem.status,
        "code": problem.code,
        "title": problem.title,
        "detail": problem.detail,
    }
    if received.upload_ids:
        error["uploads"] = [path.stem for path in upload.paths]
    return error


def queue_away() -> ProblemError:
    """Return the answer while Redis is away."""
    return ProblemError(
        status=503,
        code="queue-away",
        title="Not ready",
        detail="Expected the queue to be there, but it does not answer. No job was made. "
        "Try again in a moment.",
        headers={"Retry-After": "10"},
    )
