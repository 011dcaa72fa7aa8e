"""A running viewer for a test, with the addresses of the jobs in its folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp.test_utils import BaseTestServer, TestServer
from pydantic import SecretStr

from pipeline.storage import JobRecord, Storage
from viewer.app import build
from viewer.settings import ViewerSettings


@dataclass(frozen=True)
class RunningViewer:
    """Where a viewer is and what it shows."""

    settings: ViewerSettings
    server: BaseTestServer

    @property
    def storage(self) -> Storage:
        """Its folders."""
        return self.settings.storage

    @property
    def origin(self) -> str:
        """Its address."""
        return str(self.server.make_url("/")).rstrip("/")

    def token(self, job: JobRecord) -> str:
        """Return the token of a job's links."""
        return self.settings.tokens.issue(job.job_id, job.links_expire_at)

    def result(self, job: JobRecord) -> str:
        """Return the address of a job's result page."""
        return f"{self.origin}/r/{self.token(job)}"

    def papaya(self, job: JobRecord, scan: int = 0) -> str:
        """Return the address of the viewer of a job's scan."""
        return f"{self.result(job)}/papaya/{job.scans[scan].scan_id}"

    def file(self, job: JobRecord, name: str, scan: int = 0) -> str:
        """Return the address of a file of a job's scan."""
        return f"{self.result(job)}/files/{job.scans[scan].scan_id}/{name}"


@asynccontextmanager
async def running_viewer(
    folder: Path,
    *,
    port: int | None = None,
    **changed: Any,  # noqa: ANN401 - any setting
) -> AsyncIterator[RunningViewer]:
    """Serve the jobs under `folder` on 127.0.0.1 until the block ends.

    Args:
        folder: DATA_DIR.
        port: None for a free one.
        changed: Settings that differ.
    """
    settings = ViewerSettings(data_dir=folder, secret_key=SecretStr("s" * 64), **changed)
    settings.storage.create_folders()
    async with TestServer(build(settings), port=port) as server:
        yield RunningViewer(settings, server)
