"""`POST /api/jobs`: from a form to a job that is safe on disk and stands in line.

The order is the promise. The files and the job's record are on the disk before Redis hears of them, and
Redis has heard before the reply is sent. A submission is refused before its body is read while Redis is
away: its sender, who still has the file, is told at once. Should Redis vanish later than that, the job is
accepted none the less, because its files are the truth: the sweeper puts it in line when Redis is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

import structlog
from aiohttp import web

from ingest import idempotency
from ingest.documents import Accepted, AcceptedScan, json_response
from ingest.door import admit
from ingest.form import (
    MAX_FORM_OVERHEAD_BYTES,
    Form,
    Limits,
    Upload,
    disk_full,
    read_form,
    temporary_parts,
    too_large,
)
from ingest.locks import HeldError, held
from ingest.settings import IngestSettings
from pipeline.clock import now
from pipeline.errors import JobNotFoundError
from pipeline.ids import new_id
from pipeline.jobs import Jobs
from pipeline.ledger import Ledger, Line
from pipeline.metrics import UploadMetrics
from pipeline.storage import NO_ROOM, JobRecord, ScanRecord, Storage
from pipeline.streams import RedisError
from pipeline.web.health import Check
from pipeline.web.problems import ProblemError, wants_html

log = structlog.get_logger()

_COPIES = 2
"""Of an upload lie on the disk at once: as received, and as kept."""


class Submissions:
    """Takes submissions in.

    Args:
        settings: Of this service.
        storage: Where jobs lie.
        jobs: State of jobs.
        redis: Says what is wrong with Redis, None where nothing is.
        door: Where uploads are checked: a few threads of their own, so that a large scan that is being
            inflated holds up nobody's upload.
        metrics: Of what is accepted.
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
        self._limits = Limits(
            max_upload_bytes=settings.max_upload_bytes,
            max_files=settings.max_files_per_job,
            min_free_bytes=settings.min_free_bytes,
        )

    async def post(self, request: web.Request) -> web.Response:
        """Accept a submission, or say why not; of a refused one nothing is left.

        One that was accepted before under the same Idempotency-Key is answered as it was then.
        """
        try:
            record = await self._take(request)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise disk_full() from error
            raise
        return self._answer(request, record)

    async def _take(self, request: web.Request) -> JobRecord:
        with self._reserved(idempotency.read_key(request)) as (job_id, earlier):
            await self._check_before_reading(request)
            await self._check_queue(known=earlier is not None)
            if earlier is None:
                record = await self._accept(request, job_id)
            else:
                record = await self._recognise(request, earlier)
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

    async def _check_before_reading(self, request: web.Request) -> None:
        if request.content_type != "multipart/form-data":
            raise ProblemError(
                status=415,
                code="not-a-form",
                title="Not a form",
                detail=f"Expected multipart/form-data, received {request.content_type}. "
                "With curl: -F file=@scan.nii.gz -F email=name@example.org",
            )
        length = request.content_length or 0
        if length > self._limits.max_upload_bytes * self._limits.max_files + MAX_FORM_OVERHEAD_BYTES:
            raise too_large(self._limits.max_upload_bytes)
        if self._storage.free_bytes() - _COPIES * length < self._limits.min_free_bytes:
            raise disk_full()

    async def _check_queue(self, *, known: bool) -> None:
        if await self._redis() is not None:
            raise _queue_away()
        if known:  # it stands in line already, and only its reply was lost
            return
        try:
            waiting = await self._jobs.unfinished_scans()
        except RedisError as error:
            raise _queue_away() from error
        if waiting >= self._settings.max_waiting_scans:
            raise ProblemError(
                status=503,
                code="queue-full",
                title="Too many scans waiting",
                detail=f"Expected fewer than {self._settings.max_waiting_scans:,} scans waiting, found "
                f"{waiting:,}. Nothing was kept. Try again in a few minutes.",
                headers={"Retry-After": "120"},
            )

    async def _recognise(self, request: web.Request, earlier: JobRecord) -> JobRecord:
        with temporary_parts(self._storage) as new_part:
            form = await read_form(request, self._storage, self._limits, new_part)
        idempotency.require_same(earlier, form)
        return earlier

    async def _accept(self, request: web.Request, job_id: str) -> JobRecord:
        with temporary_parts(self._storage) as new_part:
            form = await read_form(request, self._storage, self._limits, new_part)
            kept = [new_part() for _ in form.uploads]
            scans = [
                await self._admit(upload, target, number, len(kept))
                for number, (upload, target) in enumerate(zip(form.uploads, kept, strict=True), start=1)
            ]
            record = self._record(job_id, form, scans)
            await asyncio.to_thread(self._storage.accept, record, kept)
            self._note(record, form.uploads)
        return record

    def _note(self, record: JobRecord, uploads: Iterable[Upload]) -> None:
        on_disk_at = now()
        for scan, upload in zip(record.scans, uploads, strict=True):
            ids = {"job_id": record.job_id, "scan_id": scan.scan_id}
            self._ledger.note(Line(at=upload.first_byte_at, moment="first_byte", **ids))
            self._ledger.note(Line(at=on_disk_at, moment="on_disk", size_bytes=scan.size_bytes, **ids))
            self._metrics.accepted(scan.size_bytes)

    async def _admit(self, upload: Upload, target: Path, number: int, count: int) -> ScanRecord:
        loop = asyncio.get_running_loop()
        check: Callable[[], tuple[str, ...]] = lambda: admit(  # noqa: E731 - partial loses the types
            upload.paths, target, max_bytes=self._limits.max_upload_bytes
        )
        try:
            removed = await loop.run_in_executor(self._door, check)
        except ProblemError as problem:
            if count > 1:
                problem.detail = f"File {number} of {count}: {problem.detail}"
            raise
        for path in upload.paths:
            path.unlink()
        return ScanRecord(
            scan_id=new_id(), sha256=upload.sha256, size_bytes=upload.size_bytes, removed=removed
        )

    def _record(self, job_id: str, form: Form, scans: list[ScanRecord]) -> JobRecord:
        created = now()
        return JobRecord(
            job_id=job_id,
            created_at=created,
            links_expire_at=created + self._settings.link_ttl,
            expires_at=created + self._settings.retention,
            email=form.email,
            scans=tuple(scans),
        )

    async def _put_in_line(self, record: JobRecord) -> None:
        try:
            await self._jobs.enqueue(record, self._storage)
        except RedisError as error:
            log.warning("job.not_in_line", job_id=record.job_id, error=str(error))

    def _answer(self, request: web.Request, record: JobRecord) -> web.Response:
        links = self._settings.links(record)
        if wants_html(request):
            # Relative: behind a proxy the page's own origin is the only one its form may lead to.
            return web.Response(
                status=303, headers={"Location": f"../jobs/{record.job_id}?token={links.token}"}
            )
        answer = json_response(
            Accepted(
                job_id=record.job_id,
                scans=tuple(AcceptedScan(scan_id=s.scan_id, removed=s.removed) for s in record.scans),
                status_url=links.status,
                page_url=links.page,
            ),
            status=202,
        )
        answer.headers["Location"] = links.status
        return answer


def _queue_away() -> ProblemError:
    return ProblemError(
        status=503,
        code="queue-away",
        title="Not ready",
        detail="Expected the queue to be there, but it does not answer. Nothing was kept. "
        "Try again in a moment.",
        headers={"Retry-After": "10"},
    )
