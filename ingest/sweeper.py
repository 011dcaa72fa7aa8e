"""Puts right, every minute, what crashes and outages leave behind."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from ingest.locks import HeldError, held
from ingest.uploads.store import UploadStore
from pipeline.audit import AuditLog
from pipeline.clock import now
from pipeline.errors import JobDamagedError, JobNotFoundError
from pipeline.jobs import Jobs
from pipeline.storage import JobRecord, Storage
from pipeline.streams import RedisError

log = structlog.get_logger()

_ABANDONED_AFTER_S = 3600.0
"""Resumable uploads know their own time."""


@dataclass(frozen=True)
class Sweeper:
    """Removes what was abandoned or has expired, and queues what was accepted and is not in line.

    Each sweep does all it can without Redis first; a Redis that is away costs it nothing but the rest.

    Attributes:
        storage: Where jobs lie.
        jobs: State of jobs.
        uploads: Resumable uploads.
        audit: Is told of every job that expired.
        ensure_groups: Creates the consumer groups, unless they exist.
        every_s: Between the end of a sweep and the next, seconds.
    """

    storage: Storage
    jobs: Jobs
    uploads: UploadStore
    audit: AuditLog
    ensure_groups: Callable[[], Awaitable[None]]
    every_s: float

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until told to stop; a sweep that has begun is ended.

        Not to be cancelled: redis-py can swallow a cancellation while it connects.
        """
        while not stop.is_set():
            try:
                await self.sweep()
            except RedisError as error:
                log.warning("sweep.redis_away", error=str(error))
            except Exception:  # the loop's edge: the next sweep may go well
                log.exception("sweep.failed")
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self.every_s)

    async def sweep(self) -> None:
        """Sweep once.

        Raises:
            RedisError: Redis is away; what needs no Redis has been done.
        """
        await asyncio.to_thread(self._remove_abandoned)
        records = await asyncio.to_thread(self._records)
        expired = [record for record in records if record.expires_at <= now()]
        expired = [record for record in expired if await asyncio.to_thread(self._delete, record)]
        await self.ensure_groups()
        await self.jobs.forget({record.job_id for record in expired})
        for record in records:
            if record.expires_at > now() and (queued := await self.jobs.enqueue(record, self.storage)):
                log.warning("job.put_back_in_line", job_id=record.job_id, scans=queued)

    def _records(self) -> list[JobRecord]:
        records = []
        for job_id in self.storage.job_ids():
            try:
                records.append(self.storage.read_job(job_id))
            except JobDamagedError:  # one damaged record must not keep the others waiting
                log.warning("job.record_damaged", job_id=job_id)
            except JobNotFoundError:  # deleted since it was listed
                continue
        return records

    def _delete(self, expired: JobRecord) -> bool:
        """Delete a job unless its id, made from an Idempotency-Key, is another's by now."""
        with suppress(HeldError, JobNotFoundError), held(self.storage.lock_path(expired.job_id)):
            if self.storage.read_job(expired.job_id) == expired:
                self.storage.delete_job(expired.job_id)
                self.audit.write("delete", "expired", job_id=expired.job_id)
                log.info("job.expired", job_id=expired.job_id)
                return True
        return False

    def _remove_abandoned(self) -> None:
        incoming, jobs = self.storage.incoming, self.storage.jobs
        for _ in range(self.uploads.remove_expired()):
            log.info("sweep.removed_abandoned", kind="resumable upload")
        for part in _older(incoming.glob("*.part")):
            if not self.storage.upload_path(part.stem).exists():
                with suppress(HeldError), held(self._lock_of(part)):
                    part.unlink(missing_ok=True)
                    log.info("sweep.removed_abandoned", kind="upload")
        for unfinished in _older(incoming.glob(".*")):  # a write_whole that died
            unfinished.unlink(missing_ok=True)
        for folder in _older(incoming.glob("*.dicom")):
            with suppress(HeldError), held(self._lock_of(folder)):
                shutil.rmtree(folder, ignore_errors=True)
                log.info("sweep.removed_abandoned", kind="series")
        for lock in _older(incoming.glob("*.lock")):
            with suppress(HeldError), held(lock):  # which removes it at the end
                pass
        for job in _older(job for job in jobs.iterdir() if not (job / "job.json").exists()):
            with suppress(HeldError), held(self.storage.lock_path(job.name)):
                if not (job / "job.json").exists():  # else it was submitted again meanwhile
                    shutil.rmtree(job, ignore_errors=True)
                    log.info("sweep.removed_abandoned", kind="job")

    def _lock_of(self, path: Path) -> Path:
        """Return the lock that is held while somebody is at work on a file in `incoming/`."""
        return self.storage.lock_path(path.name.partition(".")[0])


def _older(paths: Iterable[Path]) -> list[Path]:
    """Return those that have not been touched for so long that nobody is at work on them."""
    limit = time.time() - _ABANDONED_AFTER_S
    older = []
    for path in paths:
        with suppress(FileNotFoundError):  # gone since it was listed
            if path.stat().st_mtime < limit:
                older.append(path)
    return older
