"""The result page of a job: every scan's picture, number, caveats, links; or why there is none."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from aiohttp import web

from pipeline.clock import now, to_text
from pipeline.errors import Failure
from pipeline.ledger import Ledger, Line
from pipeline.links import Links
from pipeline.report import Report
from pipeline.storage import JobRecord, Storage
from pipeline.web.pages import render
from viewer import wording
from viewer.access import Access

log = structlog.get_logger()

REFRESH_S = 5
"""How often a page with unfinished scans loads itself anew."""


@dataclass(frozen=True)
class ScanView:
    """One scan as the pages show it.

    Attributes:
        number: Its place in the submission, from 1.
        scan_id: Its identifier.
        report: Its result, or None.
        failure: Why it has none, or None.
        links: Addresses of its job, on this origin.
    """

    number: int
    scan_id: str
    report: Report | None
    failure: Failure | None
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
    report = storage.read_report(job.job_id, scan_id)
    return ScanView(
        number=[scan.scan_id for scan in job.scans].index(scan_id) + 1,
        scan_id=scan_id,
        report=report,
        failure=None if report else storage.read_failure(job.job_id, scan_id),
        links=Links("", "", job.job_id, token),
    )


class ResultPage:
    """Serves result pages.

    Args:
        access: What a request may see.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._ledger = Ledger(access.storage.ledger)
        self._opened: set[str] = set()

    async def serve(self, request: web.Request) -> web.Response:
        """Answer with the page of a job."""
        job = self._access.job(request)
        token = request.match_info["token"]
        scans = [view_scan(self._access.storage, job, scan.scan_id, token) for scan in job.scans]
        log.info("result.page_opened", job_id=job.job_id)
        self._note_opened(job.job_id, scans)
        return render(
            request,
            "result.html",
            job=job,
            scans=scans,
            waiting=any(scan.state == "waiting" for scan in scans),
            refresh_s=REFRESH_S,
            wording=wording,
            to_text=to_text,
        )

    def _note_opened(self, job_id: str, scans: list[ScanView]) -> None:
        """Note of every scan with an outcome that it has been looked at; a process notes it once."""
        for scan in scans:
            if scan.state != "waiting" and scan.scan_id not in self._opened:
                self._opened.add(scan.scan_id)
                self._ledger.note(Line(at=now(), moment="link_opened", job_id=job_id, scan_id=scan.scan_id))
