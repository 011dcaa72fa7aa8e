"""The pages: one to submit, one to follow a job. Both work without script."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from aiohttp import web

from ingest.access import Access
from ingest.documents import JobDocument
from ingest.estimate import in_words, wait_s
from ingest.retrying import RETRIABLE
from ingest.settings import IngestSettings
from ingest.status import FILES, Status, is_over
from pipeline import wording
from pipeline.job_news import BEGINNING, JobNews
from pipeline.storage import JobRecord
from pipeline.streams import RedisError
from pipeline.web.app import PAGE_CSP
from pipeline.web.openapi import Operation, described
from pipeline.web.pages import render

_REFRESH_S = 3
_HOUR_S = 3600
_MIB = 1024**2


@dataclass(frozen=True)
class Pages:
    """Renders the pages.

    Attributes:
        settings: Of this service.
        access: Checks tokens.
        status: Tells how jobs stand.
        news: Tells what happened to them.
    """

    settings: IngestSettings
    access: Access
    status: Status
    news: JobNews

    async def upload(self, request: web.Request) -> web.Response:
        """`GET /`: the form."""
        return render(
            request,
            "upload.html",
            max_files=self.settings.max_files_per_job,
            max_bytes=self.settings.max_upload_bytes,
            sample=self.access.storage.sample.is_file(),
            max_size=_size(self.settings.max_upload_bytes),
            kept_for=_duration(self.settings.retention),
        )

    @described(
        Operation(
            summary="Fetch a synthetic scan to try",
            tag="jobs",
            answers={200: "application/gzip"},
            problems=(404,),
        )
    )
    async def sample(self, _request: web.Request) -> web.StreamResponse:
        """`GET /api/sample`: a synthetic scan to try, where a processor has written one."""
        path = self.access.storage.sample
        if not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(
            path,
            headers={
                "Content-Type": "application/gzip",
                "Content-Disposition": 'attachment; filename="sample.nii.gz"',
            },
        )

    async def job(self, request: web.Request) -> web.Response:
        """`GET /jobs/{job_id}`: how a job stands; by script it is followed live, else it reloads itself."""
        record = self.access.job(request)
        links = self.settings.links(record)
        position = await self._position(record)
        job = await self.status.read(record)
        answer = render(
            request,
            "job.html",
            job=job,
            archive_url=links.archive,
            token=links.token,
            events_url=f"/api/jobs/{job.job_id}/events?token={links.token}&from={position}",
            over=is_over(job),
            waits=await self._waits(job),
            took=self._took(),
            retriable=RETRIABLE,
            refresh_s=_REFRESH_S,
            created=record.created_at,
            link_expires=record.links_expire_at,
            expires=record.expires_at,
            wording=wording,
            files=FILES,
        )
        # The pictures lie at the viewer, which alone reads results.
        answer.headers["Content-Security-Policy"] = PAGE_CSP.replace(
            "img-src 'self'", f"img-src 'self' {links.viewer_url}"
        )
        return answer

    async def _position(self, record: JobRecord) -> str:
        """Return the last moment that the page shows; before the job is read, so that none is missed."""
        try:
            moments = await self.news.since(record.job_id, BEGINNING)
        except RedisError:
            return BEGINNING
        return moments[-1].entry_id if moments else BEGINNING

    async def _waits(self, job: JobDocument) -> dict[str, str | None]:
        """Return in words how long each scan will wait, None where it does not or nobody knows."""
        in_line = {scan.scan_id: scan.place_in_line for scan in job.scans}
        running = 0
        if any(in_line.values()):
            with suppress(RedisError):
                running = await self.status.jobs.running_scans()
        scans = self.status.ledger.scans()
        words: dict[str, str | None] = {}
        for scan_id, place in in_line.items():
            seconds = wait_s(place, scans, running) if place else None
            words[scan_id] = f"{in_words(seconds)}, going by the last scans" if seconds else None
        return words

    def _took(self) -> str | None:
        seconds = wait_s(1, self.status.ledger.scans(), 1)
        return f"{in_words(seconds)}, going by the last scans" if seconds else None


def _size(size_bytes: int) -> str:
    mebibytes = size_bytes / _MIB
    return f"{mebibytes:.0f} MiB" if mebibytes >= 1 else f"{size_bytes:,} bytes"


def _duration(span: timedelta) -> str:
    hours = span.total_seconds() / _HOUR_S
    return "1 hour" if hours == 1 else f"{hours:g} hours"
