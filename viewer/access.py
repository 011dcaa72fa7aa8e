"""From the address of a request to the job, scan or file it may see; everything is refused by default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from aiohttp import web

from pipeline.links import Tokens
from pipeline.storage import JobRecord, ResultFile, Storage
from pipeline.web.auditing import JOB_ID
from pipeline.web.problems import ProblemError

RESULT_FILES: tuple[str, ...] = get_args(ResultFile)
"""The files that a link opens; nothing else of a job's folder is served."""


@dataclass(frozen=True)
class Access:
    """Checks the token of a request, and that what it asks for belongs to the token's job.

    Attributes:
        tokens: Reads tokens.
        storage: Where jobs lie.
    """

    tokens: Tokens
    storage: Storage

    def job(self, request: web.Request) -> JobRecord:
        """Return the job that a request's token opens.

        Raises:
            LinkInvalidError: The token was not signed here.
            LinkExpiredError: Its time is over.
            JobNotFoundError: The job has been deleted.
        """
        job_id = self.tokens.read(request.match_info["token"])
        request[JOB_ID] = job_id
        return self.storage.read_job(job_id)

    def scan(self, request: web.Request) -> tuple[JobRecord, str]:
        """Return a request's job and the id of the scan it asks for, which is one of the job's.

        Raises:
            ProblemError: The job has no such scan.
        """
        job = self.job(request)
        scan_id = request.match_info["scan_id"]
        if all(scan_id != scan.scan_id for scan in job.scans):
            raise _not_found("Expected a scan of the job that this link opens, received another id.")
        return job, scan_id

    def file(self, request: web.Request) -> Path:
        """Return the path of the file that a request asks for.

        Raises:
            ProblemError: It is not one of `RESULT_FILES`, or the scan has no result.
        """
        job, scan_id = self.scan(request)
        name = request.match_info["name"]
        if name not in RESULT_FILES:
            raise _not_found(f"Expected one of {', '.join(RESULT_FILES)}; received another name.")
        path = self.storage.result_dir(job.job_id, scan_id) / name
        if not path.is_file():
            raise no_result()
        return path


def no_result() -> ProblemError:
    """Return the answer for a scan without a result."""
    return ProblemError(
        status=404,
        code="no-result",
        title="No result here",
        detail="This scan is not finished, or it failed. Its result page says which, and what to do.",
    )


def _not_found(what: str) -> ProblemError:
    return ProblemError(
        status=404, code="not-found", title="Not found", detail=f"{what} Open the result page for its links."
    )
