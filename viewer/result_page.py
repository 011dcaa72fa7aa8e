"""The result page of a job: every scan's picture, number, caveats, links; or why there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from aiohttp import web

from pipeline.clock import to_text
from pipeline.errors import Failure
from pipeline.feedback import VERDICTS, Feedback, FeedbackFolder
from pipeline.links import Links
from pipeline.report import Report
from pipeline.storage import JobRecord, Storage
from pipeline.web.app import PAGE_CSP
from pipeline.web.pages import render
from viewer import methods, wording
from viewer.access import RESULT_FILES, Access
from viewer.visits import Visits

log = structlog.get_logger()

REFRESH_S = 5
"""How often a page with unfinished scans loads itself anew."""


@dataclass(frozen=True)
class ScanView:
    """One scan as the pages show it.

    Attributes:
        number: Its place in the submission, from 1.
        scan_id: Its identifier.
        sha256: Of the bytes as uploaded, hexadecimal.
        report: Its result, or None.
        failure: Why it has none, or None.
        feedback: What a reader said of its result, or None.
        sizes: Of the files of its result, bytes, by name.
        links: Addresses of its job, on this origin.
    """

    number: int
    scan_id: str
    sha256: str
    report: Report | None
    failure: Failure | None
    feedback: Feedback | None
    sizes: dict[str, int]
    links: Links

    @property
    def state(self) -> str:
        """`done`, `failed` or `waiting`."""
        return "done" if self.report else "failed" if self.failure else "waiting"

    @property
    def papaya(self) -> str:
        """Address of the interactive viewer."""
        return self.links.papaya(self.scan_id)

    def file(self, name: str) -> str:
        """Address of one of the result's files."""
        return self.links.file(self.scan_id, name)


def view_scan(storage: Storage, job: JobRecord, scan_id: str, token: str) -> ScanView:
    """Read what the pages show of a scan.

    Its addresses have no host: the pages work under whatever name this service is reached by, and their
    Content-Security-Policy allows their own origin only.
    """
    number, record = next((n, s) for n, s in enumerate(job.scans, start=1) if s.scan_id == scan_id)
    report = storage.read_report(job.job_id, scan_id)
    folder = storage.result_dir(job.job_id, scan_id)
    return ScanView(
        number=number,
        scan_id=scan_id,
        sha256=record.sha256,
        report=report,
        failure=None if report else storage.read_failure(job.job_id, scan_id),
        feedback=FeedbackFolder(storage.feedback).read(job.job_id, scan_id),
        sizes={name: (folder / name).stat().st_size for name in RESULT_FILES if (folder / name).is_file()},
        links=Links("", "", job.job_id, token),
    )


def view_scans(storage: Storage, job: JobRecord, token: str) -> list[ScanView]:
    """Read what the pages show of a job's scans, in the order of the submission."""
    return [view_scan(storage, job, scan.scan_id, token) for scan in job.scans]


class ResultPage:
    """Serves result pages.

    Args:
        access: What a request may see.
        links: Makes the addresses of a job that are given out: what changes a job is asked of the upload
            service, for this one only reads.
        visits: Knows when what happened to scans.
    """

    def __init__(self, access: Access, links: Callable[[JobRecord], Links], visits: Visits) -> None:
        self._access = access
        self._links = links
        self._visits = visits

    async def serve(self, request: web.Request) -> web.Response:
        """Answer with the page of a job."""
        job = self._access.job(request)
        token = request.match_info["token"]
        scans = view_scans(self._access.storage, job, token)
        links = self._links(job)
        log.info("result.page_opened", job_id=job.job_id)
        self._visits.note(job.job_id, (scan.scan_id for scan in scans if scan.state != "waiting"))
        answer = render(
            request,
            "result.html",
            job=job,
            scans=scans,
            links=links,
            verdicts=VERDICTS,
            methods=methods,
            steps={scan.scan_id: wording.steps(self._visits.moments(scan.scan_id)) for scan in scans},
            waiting=any(scan.state == "waiting" for scan in scans),
            refresh_s=REFRESH_S,
            wording=wording,
            to_text=to_text,
        )
        answer.headers["Content-Security-Policy"] = PAGE_CSP.replace(
            "form-action 'self'", f"form-action 'self' {links.public_url} {links.viewer_url}"
        )
        return answer
