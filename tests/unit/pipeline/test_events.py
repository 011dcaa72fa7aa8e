"""What travels through the streams."""

from __future__ import annotations

import pickle

import pytest

from pipeline.errors import ScanRefusedError
from pipeline.events import (
    JobFinished,
    ScanFailed,
    ScanProcessed,
    ScanUploaded,
    UnknownEventError,
    parse_event,
)
from pipeline.ids import new_id

JOB, SCAN = new_id(), new_id()
EVENTS = [
    ScanUploaded(job_id=JOB, scan_id=SCAN, path="jobs/a/b/scan.nii.gz"),
    ScanProcessed(job_id=JOB, scan_id=SCAN, path="jobs/a/b/result"),
    ScanFailed(job_id=JOB, scan_id=SCAN, path="jobs/a/b/scan.nii.gz", code="c", title="t", detail="d"),
    JobFinished(job_id=JOB),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: str(event.type))
def test_an_event_is_the_same_after_its_way_through_redis(event: ScanUploaded) -> None:
    """An event becomes flat text fields and is read back from them as it was."""
    fields = event.to_fields()
    assert all(isinstance(value, str) for value in fields.values())
    assert fields["type"].count(".") == 1
    assert fields["schema"] == "1"
    assert fields["at"].endswith("Z")
    assert len(fields["at"]) == len("2026-11-22T18:43:27.123Z")
    assert parse_event(fields) == event


def test_a_field_from_a_newer_producer_is_ignored() -> None:
    """Services can be upgraded one after the other."""
    assert parse_event({**EVENTS[0].to_fields(), "colour": "blue"}) == EVENTS[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [("type", "scan.exploded"), ("schema", "2"), ("job_id", "../../etc"), ("at", "yesterday")],
)
def test_an_event_that_is_not_understood_is_said_to_be_so(field: str, value: str) -> None:
    """An unknown type or schema, or a malformed field, is a permanent error that names what came."""
    with pytest.raises(
        UnknownEventError, match=r"Expected an event of schema 1.*Upgrade this service"
    ) as caught:
        parse_event({**EVENTS[0].to_fields(), field: value})
    fields = EVENTS[0].to_fields() | {field: value}
    assert f"type {fields['type']!r}, schema {fields['schema']!r}" in str(caught.value)
    assert field in str(caught.value)


def test_an_entry_without_fields_is_not_an_event() -> None:
    """Nothing is assumed of what somebody else wrote into the stream."""
    with pytest.raises(UnknownEventError):
        parse_event({})


def test_a_refusal_survives_the_way_from_a_child_process() -> None:
    """The reason a scan was refused in the child is the reason its submitter reads."""
    refusal = ScanRefusedError(code="not-hu", title="Not in HU", detail="Expected air.")
    copy = pickle.loads(pickle.dumps(refusal))  # noqa: S301 - our own bytes
    assert isinstance(copy, ScanRefusedError)
    assert copy.failure == refusal.failure
    assert str(copy) == str(refusal)
