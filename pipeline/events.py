"""The events that travel through the streams: ids and paths, never bodies.

On the wire an event is a flat map of strings, so that `redis-cli XRANGE` shows it readably. Unknown fields
are ignored, so that a newer producer can talk to an older consumer; an unknown `type` or `schema` raises a
`PermanentError`, which dead-letters the entry instead of losing it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pipeline.clock import Instant, now
from pipeline.errors import CorestreamError, Failure
from pipeline.ids import Id
from pipeline.streams import PermanentError

SCHEMA: Literal["1"] = "1"


class UnknownEventError(CorestreamError, PermanentError):
    """Raised when an entry is not an event this version understands."""


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="ignore")

    schema_version: Literal["1"] = Field(default=SCHEMA, alias="schema")
    job_id: Id
    at: Instant = Field(default_factory=now)

    def to_fields(self) -> dict[str, str]:
        """Return the flat fields of a stream entry."""
        return self.model_dump(mode="json", by_alias=True)


class ScanUploaded(_Event):
    """A scan lies complete on disk and waits for its detection."""

    type: Literal["scan.uploaded"] = "scan.uploaded"
    scan_id: Id
    path: str
    """The accepted volume, relative to DATA_DIR."""


class ScanProcessed(_Event):
    """A scan's results lie complete on disk."""

    type: Literal["scan.processed"] = "scan.processed"
    scan_id: Id
    path: str
    """The folder of results, relative to DATA_DIR."""


class ScanFailed(_Event):
    """A scan will have no result, and why."""

    type: Literal["scan.failed"] = "scan.failed"
    scan_id: Id
    path: str
    """The accepted volume, relative to DATA_DIR."""
    code: str
    title: str
    detail: str

    @property
    def failure(self) -> Failure:
        """The reason as one value."""
        return Failure(code=self.code, title=self.title, detail=self.detail)


class JobFinished(_Event):
    """Every scan of a job has ended, well or not."""

    type: Literal["job.finished"] = "job.finished"


Event = Annotated[ScanUploaded | ScanProcessed | ScanFailed | JobFinished, Field(discriminator="type")]
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def parse_event(fields: Mapping[str, str]) -> Event:
    """Read the flat fields of a stream entry.

    Raises:
        UnknownEventError: The type, the schema or a field is not one this version understands.
    """
    try:
        return _EVENT.validate_python(dict(fields))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'type'}: {e['msg']}" for e in error.errors())
        raise UnknownEventError(
            f"Expected an event of schema {SCHEMA}, received type {fields.get('type')!r}, "
            f"schema {fields.get('schema')!r} ({wrong}). Upgrade this service or drop the entry."
        ) from error
