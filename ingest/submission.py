"""`POST /api/jobs`: a multipart form with the files, or a JSON document that names resumable uploads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ingest import expectation, idempotency
from ingest.addresses import read_address
from ingest.documents import Accepted, AcceptedScan, json_response
from ingest.form import MAX_FORM_OVERHEAD_BYTES, read_form
from ingest.intake import Intake
from ingest.rates import Rates
from ingest.received import Received, promptly, temporary_parts, too_large
from ingest.settings import IngestSettings
from ingest.uploads.joining import Joining
from pipeline.storage import JobRecord, Storage
from pipeline.web.auditing import JOB_ID
from pipeline.web.openapi import Header, Operation, described
from pipeline.web.problems import ProblemError, wants_html

_COPIES = 2
"""Of an upload lie on the disk at once: as received, and as kept."""


class FormDocument(BaseModel):
    """A submission as a form."""

    file: list[bytes] = Field(
        min_length=1,
        description="One part for each file: NIfTI volumes, ZIP archives of a DICOM series, its loose files.",
    )
    email: str = Field(default="", description="Where the result is announced.")


class UploadsDocument(BaseModel):
    """A submission that consists of resumable uploads, all of them complete."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uploads: tuple[str, ...] = Field(min_length=1)
    """Their addresses, as `Location` gave them, or the last part of each."""
    email: str = ""


class Submissions:
    """Takes submissions over HTTP.

    Args:
        settings: Of this service.
        storage: Where jobs lie.
        intake: Makes jobs of them.
        joining: Gives resumable uploads to jobs.
        rates: Says how often one address may submit.
    """

    def __init__(
        self, settings: IngestSettings, storage: Storage, intake: Intake, joining: Joining, rates: Rates
    ) -> None:
        self._settings = settings
        self._storage = storage
        self._intake = intake
        self._joining = joining
        self._rates = rates

    @described(
        Operation(
            summary="Submit scans as one job",
            tag="jobs",
            body={"multipart/form-data": FormDocument, "application/json": UploadsDocument},
            headers={idempotency.HEADER: Header("The same for the same submission.")},
            answers={202: Accepted},
            problems=(400, 401, 404, 409, 413, 415, 422, 429, 503, 507),
            access="API key",
        )
    )
    async def post(self, request: web.Request) -> web.Response:
        """Accept a submission, or say why not."""
        self._rates.require(request)
        key = idempotency.read_key(request)
        match request.content_type:
            case "multipart/form-data":
                record = await self._form(request, key)
            case "application/json":
                record = await self._uploads(request, key)
            case other:
                raise _not_a_form(other)
        request[JOB_ID] = record.job_id
        return self._answer(request, record)

    async def _form(self, request: web.Request, key: str | None) -> JobRecord:
        limits, length = self._intake.limits, request.content_length or 0
        if length > limits.max_upload_bytes * limits.max_files + MAX_FORM_OVERHEAD_BYTES:
            raise too_large(limits.max_upload_bytes)
        limits.require_room(self._storage, _COPIES * length)

        @asynccontextmanager
        async def receive(_earlier: JobRecord | None) -> AsyncIterator[Received]:
            await expectation.go_on(request)
            with temporary_parts(self._storage) as new_part:
                yield await read_form(request, self._storage, limits, new_part)

        return await self._intake.submit(key, receive)

    async def _uploads(self, request: web.Request, key: str | None) -> JobRecord:
        await expectation.go_on(request)
        try:
            document = UploadsDocument.model_validate_json(await promptly(request.read()))
        except ValidationError as error:
            raise _not_uploads(error) from error
        ids = tuple(address.rstrip("/").rpartition("/")[2] for address in document.uploads)
        email = read_address(document.email)

        @asynccontextmanager
        async def receive(earlier: JobRecord | None) -> AsyncIterator[Received]:
            if earlier is not None:  # which has taken them, so that they are here no more
                yield Received((), email, ids)
                return
            async with self._joining.taken(ids, email) as received:
                yield received

        # Without a key of its own it is the same submission whenever it is of the same uploads.
        return await self._intake.submit(key or idempotency.key_of_uploads(ids), receive)

    def _answer(self, request: web.Request, record: JobRecord) -> web.Response:
        links = self._settings.links(record)
        if wants_html(request):
            # Relative: behind a proxy the page's own origin is the only one its form may lead to.
            return web.Response(
                status=303, headers={"Location": f"../jobs/{record.job_id}?token={links.token}"}
            )
        answer = json_response(
            Accepted(
                job_id=record.job_id,
                scans=tuple(AcceptedScan(scan_id=s.scan_id, removed=s.removed) for s in record.scans),
                status_url=links.status,
                page_url=links.page,
            ),
            status=202,
        )
        answer.headers["Location"] = links.status
        return answer


def _not_a_form(received: str) -> ProblemError:
    return ProblemError(
        status=415,
        code="not-a-form",
        title="Not a form",
        detail=f"Expected multipart/form-data, or application/json that names resumable uploads, received "
        f"{received}. With curl: -F file=@scan.nii.gz -F email=name@example.org",
    )


def _not_uploads(error: ValidationError) -> ProblemError:
    wrong = error.errors()[0]
    at = ".".join(map(str, wrong["loc"])) or "the document"
    return ProblemError(
        status=422,
        code="uploads-invalid",
        title="Not a list of uploads",
        detail='Expected JSON like {"uploads": ["<address>"], "email": "name@example.org"}, received another '
        f"({at}: {wrong['msg']}). Name every upload as its Location gave it.",
    )
