"""The pages: one to submit, one to follow a job. Both work without script."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiohttp import web

from ingest.access import Access
from ingest.settings import IngestSettings
from ingest.status import Status
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
    """

    settings: IngestSettings
    access: Access
    status: Status

    async def upload(self, request: web.Request) -> web.Response:
        """`GET /`: the form."""
        return render(
            request,
            "upload.html",
            max_files=self.settings.max_files_per_job,
            max_size=_size(self.settings.max_upload_bytes),
            kept_for=_duration(self.settings.retention),
        )

    async def job(self, request: web.Request) -> web.Response:
        """`GET /jobs/{job_id}`: how a job stands; reloads itself until it is finished."""
        record = self.access.job(request)
        job = await self.status.read(record)
        return render(
            request,
            "job.html",
            job=job,
            refresh_s=None if job.state == "finished" else _REFRESH_S,
            created=_minute(record.created_at),
            link_expires=_minute(record.links_expire_at),
            expires=_minute(record.expires_at),
        )


def _minute(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _size(size_bytes: int) -> str:
    mebibytes = size_bytes / _MIB
    return f"{mebibytes:.0f} MiB" if mebibytes >= 1 else f"{size_bytes:,} bytes"


def _duration(span: timedelta) -> str:
    hours = span.total_seconds() / _HOUR_S
    return "1 hour" if hours == 1 else f"{hours:g} hours"
