"""`POST /api/jobs/{id}/scans/{scan_id}/retry`: its submitter has a scan tried again that broke down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import structlog
from aiohttp import web
from pydantic import BaseModel

from ingest.access import Access
from ingest.documents import json_response
from ingest.intake import queue_away
from pipeline.ids import Id
from pipeline.jobs import Jobs
from pipeline.retry import NotRetriedError, retry
from pipeline.storage import Storage
from pipeline.streams import DeadLetters, RedisError
from pipeline.web.openapi import Operation, described
from pipeline.web.problems import ProblemError, wants_html

log = structlog.get_logger()

RETRIABLE = "detection-failed"
"""The one failure that another try can mend: every other one is of the file, and stays."""
MAX_RETRIES = 3
"""By submitters; whoever runs the service can retry for ever."""


class Waiting(BaseModel):
    """The scan stands in line again."""

    scan_id: Id
    state: Literal["waiting"] = "waiting"


@dataclass(frozen=True)
class Retrying:
    """Puts scans back in line.

    Attributes:
        access: Checks tokens.
        storage: Where jobs lie.
        jobs: State of jobs.
        dead: What was given up.
    """

    access: Access
    storage: Storage
    jobs: Jobs
    dead: DeadLetters

    @described(
        Operation(
            summary="Try a scan again whose detection broke down",
            tag="jobs",
            answers={202: Waiting},
            problems=(401, 403, 404, 409, 410, 503),
            access="job token",
        )
    )
    async def post(self, request: web.Request) -> web.Response:
        """Put a scan back in line; a browser goes back to the job's page.

        Raises:
            ProblemError: The scan is none of the job's, or has not failed in a way that a retry can mend, or
                has been retried too often, or Redis is away.
        """
        job = self.access.job(request)
        scan_id = request.match_info["scan_id"]
        self._require_retriable(job.job_id, scan_id)
        try:
            dead_id = await self._letter(job.job_id, scan_id)
            await retry(dead_id, dead=self.dead, jobs=self.jobs, storage=self.storage)
        except NotRetriedError as error:
            raise _not_retriable(
                "It waits or runs already, or whoever runs this service dropped it."
            ) from error
        except RedisError as error:
            raise queue_away() from error
        log.info("scan.retried", job_id=job.job_id, scan_id=scan_id)
        if wants_html(request):
            page = f"/jobs/{job.job_id}?token={request.query.get('token', '')}"
            return web.Response(status=303, headers={"Location": page})
        return json_response(Waiting(scan_id=scan_id), status=202)

    def _require_retriable(self, job_id: str, scan_id: str) -> None:
        job = self.storage.read_job(job_id)
        if all(scan.scan_id != scan_id for scan in job.scans):
            raise ProblemError(
                status=404,
                code="not-found",
                title="Not found",
                detail="Expected a scan of this job, received another id. Open the job's page for its scans.",
            )
        failure = self.storage.read_failure(job_id, scan_id)
        if failure is None or failure.code != RETRIABLE:
            raise _not_retriable("It has not failed, or it failed for what is in the file: submit another.")
        if self.storage.retries(job_id, scan_id) >= MAX_RETRIES:
            raise _not_retriable(f"It was tried again {MAX_RETRIES} times. Ask whoever runs this service.")

    async def _letter(self, job_id: str, scan_id: str) -> str:
        for letter in await self.dead.list(limit=None):
            if letter.fields.get("job_id") == job_id and letter.fields.get("scan_id") == scan_id:
                return letter.dead_id
        raise NotRetriedError("Expected a dead letter of this scan, found none.")


def _not_retriable(why: str) -> ProblemError:
    return ProblemError(
        status=409,
        code="not-retriable",
        title="Not tried again",
        detail=f"Expected a scan whose detection broke down. {why}",
    )
