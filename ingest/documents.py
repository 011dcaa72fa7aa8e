"""The JSON documents of the HTTP interface."""

from __future__ import annotations

from typing import Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from pipeline.clock import Instant
from pipeline.errors import Failure
from pipeline.ids import Id
from pipeline.jobs import MailState, ScanStateName
from pipeline.report import Report


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True)


class AcceptedScan(_Document):
    """One scan of a submission that has been accepted."""

    scan_id: Id
    removed: tuple[str, ...]
    """Names of what was removed at the door: header fields with text, `extensions`, `trailing bytes`."""


class Accepted(_Document):
    """The reply to a submission."""

    job_id: Id
    scans: tuple[AcceptedScan, ...]
    status_url: str
    page_url: str


class ScanDocument(_Document):
    """How one scan stands."""

    scan_id: Id
    state: ScanStateName
    place_in_line: int | None
    """Counts from 1; None unless it waits and Redis knows its place."""
    deliveries: int
    """How often a processor has started on it."""
    removed: tuple[str, ...]
    report: Report | None
    files: dict[str, str]
    """Addresses by kind: `saliency`, `saliency_fixed`, `saliency_native`, `aligned`, `summary`, ..."""
    viewer_url: str
    error: Failure | None
    times: dict[str, str]
    """When it was what (`pipeline.ledger.MOMENTS`): the instants that are known so far, in their order."""


class JobDocument(_Document):
    """How a job stands."""

    job_id: Id
    state: Literal["open", "finished"]
    created_at: Instant
    expires_at: Instant
    result_url: str
    mail: MailState
    scans: tuple[ScanDocument, ...]


def json_response(document: BaseModel, *, status: int = 200) -> web.Response:
    """Answer with a document."""
    return web.Response(
        text=document.model_dump_json(by_alias=True), status=status, content_type="application/json"
    )
