"""Deleting a job on request, with a receipt: what was there, by its hash, and when it went."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict

from ingest.access import Access
from ingest.documents import json_response
from ingest.locks import HeldError, held
from pipeline.clock import Instant, now
from pipeline.feedback import FeedbackFolder
from pipeline.ids import Id
from pipeline.jobs import Jobs
from pipeline.storage import JobRecord, Storage
from pipeline.streams import RedisError
from pipeline.web.openapi import Operation, described
from pipeline.web.pages import render
from pipeline.web.problems import ProblemError

log = structlog.get_logger()


class DeletedFile(BaseModel):
    """One file that was deleted.

    Attributes:
        path: Relative to the folder of data; made of identifiers.
        size_bytes: Its size.
        sha256: Of its content, hexadecimal.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    size_bytes: int
    sha256: str


class Receipt(BaseModel):
    """What a deletion took away. The service keeps no copy of it."""

    model_config = ConfigDict(frozen=True)

    job_id: Id
    deleted_at: Instant
    files: tuple[DeletedFile, ...]


@dataclass(frozen=True)
class Deletion:
    """Deletes jobs.

    A scan of it that waits in line ends quietly when its turn comes; one that is being processed does when
    its detection ends, and nothing of it is kept.

    Attributes:
        access: Checks tokens.
        storage: Where jobs lie.
        jobs: State of jobs.
    """

    access: Access
    storage: Storage
    jobs: Jobs

    async def ask(self, request: web.Request) -> web.Response:
        """`GET /jobs/{id}/delete`: say what would go, and ask."""
        job = self.access.job(request)
        files = await asyncio.to_thread(self._files, job)
        return render(request, "delete.html", job=job, files=len(files), token=request.query.get("token", ""))

    async def confirm(self, request: web.Request) -> web.Response:
        """`POST /jobs/{id}/delete`: delete, and show the receipt."""
        receipt = await self._delete(self.access.job(request))
        content = receipt.model_dump_json(indent=1)
        return render(
            request, "deleted.html", receipt=receipt, encoded=base64.b64encode(content.encode()).decode()
        )

    @described(
        Operation(
            summary="Delete a job and get a receipt",
            tag="jobs",
            answers={200: Receipt},
            problems=(401, 403, 409, 410),
            access="job token",
        )
    )
    async def delete(self, request: web.Request) -> web.Response:
        """`DELETE /api/jobs/{id}`: delete, and answer with the receipt."""
        return json_response(await self._delete(self.access.job(request)))

    async def _delete(self, job: JobRecord) -> Receipt:
        try:
            with held(self.storage.lock_path(job.job_id)):
                receipt = await asyncio.to_thread(self._remove, job)
        except HeldError as error:
            raise ProblemError(
                status=409,
                code="job-busy",
                title="Not just now",
                detail="Expected to be alone at this job, but it is being received or deleted. "
                "Try again in a moment.",
                headers={"Retry-After": "5"},
            ) from error
        try:
            await self.jobs.forget({job.job_id})
        except RedisError as error:  # what it knows are identifiers and instants; they expire by themselves
            log.warning("job.not_forgotten", job_id=job.job_id, error=str(error))
        log.info("job.deleted", job_id=job.job_id, files=len(receipt.files))
        return receipt

    def _remove(self, job: JobRecord) -> Receipt:
        files = []
        for path in self._files(job):
            with suppress(FileNotFoundError):  # a result that is being written comes and goes
                files.append(self._describe(path))
        for path in FeedbackFolder(self.storage.feedback).files(job.job_id):
            path.unlink(missing_ok=True)  # first: it is out of reach when the job is gone
        self.storage.delete_job(job.job_id)
        return Receipt(job_id=job.job_id, deleted_at=now(), files=tuple(files))

    def _files(self, job: JobRecord) -> list[Path]:
        own = (path for path in self.storage.job_dir(job.job_id).rglob("*") if path.is_file())
        return sorted(own) + FeedbackFolder(self.storage.feedback).files(job.job_id)

    def _describe(self, path: Path) -> DeletedFile:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return DeletedFile(path=self.storage.relative(path), size_bytes=path.stat().st_size, sha256=sha256)
