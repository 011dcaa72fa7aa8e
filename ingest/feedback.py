"""`POST /api/jobs/{id}/scans/{scan_id}/feedback`: whether a reader agrees with a result."""

from __future__ import annotations

import asyncio

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ingest.access import Access
from ingest.documents import json_response
from ingest.fields import read_fields
from ingest.received import promptly
from pipeline.clock import now
from pipeline.feedback import MAX_NOTE_CHARACTERS, VERDICTS, Feedback, FeedbackFolder, Verdict
from pipeline.settings import PipelineSettings
from pipeline.storage import JobRecord, Storage
from pipeline.web.openapi import Operation, described
from pipeline.web.problems import ProblemError, wants_html

log = structlog.get_logger()

_JSON = "application/json"


class _Given(BaseModel):
    """What a reader sends."""

    model_config = ConfigDict(extra="forbid")

    verdict: Verdict
    note: str = Field(default="", max_length=MAX_NOTE_CHARACTERS)


class FeedbackDesk:
    """Takes feedback.

    Args:
        settings: Of this service.
        access: Checks tokens.
        storage: Where results and feedback lie.
    """

    def __init__(self, settings: PipelineSettings, access: Access, storage: Storage) -> None:
        self._settings = settings
        self._access = access
        self._storage = storage
        self._folder = FeedbackFolder(storage.feedback)

    @described(
        Operation(
            summary="Say whether you agree with a result",
            tag="jobs",
            body={_JSON: _Given, "application/x-www-form-urlencoded": _Given},
            answers={200: Feedback},
            problems=(400, 401, 403, 404, 410, 413, 422),
            access="job token",
        )
    )
    async def post(self, request: web.Request) -> web.Response:
        """Keep a reader's verdict on a result, in the place of an earlier one; a browser goes back to it.

        Raises:
            ProblemError: The scan is none of the job's, has no result, or the verdict is none.
        """
        job = self._access.job(request)
        scan_id = request.match_info["scan_id"]
        given = await _read(request)
        feedback = self._feedback(job, scan_id, given)
        await asyncio.to_thread(self._folder.write, feedback)
        log.info("feedback.given", job_id=job.job_id, scan_id=scan_id, verdict=feedback.verdict)
        if not wants_html(request):
            return json_response(feedback)
        number = [scan.scan_id for scan in job.scans].index(scan_id) + 1
        return web.Response(
            status=303, headers={"Location": f"{self._settings.links(job).result}#judge-{number}"}
        )

    def _feedback(self, job: JobRecord, scan_id: str, given: _Given) -> Feedback:
        scan = next((scan for scan in job.scans if scan.scan_id == scan_id), None)
        report = self._storage.read_report(job.job_id, scan_id) if scan else None
        if scan is None or report is None:
            raise ProblemError(
                status=404,
                code="no-result",
                title="No result here",
                detail="Expected a scan of this job that has a result, received another id. "
                "Open the result page and judge what stands there.",
            )
        return Feedback.of(
            report,
            scan_sha256=scan.sha256,
            job_id=job.job_id,
            scan_id=scan_id,
            verdict=given.verdict,
            note=given.note,
            at=now(),
        )


async def _read(request: web.Request) -> _Given:
    try:
        if request.content_type == _JSON:
            return _Given.model_validate_json(await promptly(request.read()))
        return _Given.model_validate(await read_fields(request))
    except ValidationError as error:
        wrong = ", ".join(sorted({str(e["loc"][0]) for e in error.errors() if e["loc"]}))
        raise ProblemError(
            status=422,
            code="feedback-invalid",
            title="Feedback not understood",
            detail=f"Expected verdict ({', '.join(VERDICTS)}) and, if you like, note (up to "
            f"{MAX_NOTE_CHARACTERS} characters); wrong is: {wrong or 'the JSON'}. Nothing was kept.",
        ) from error
