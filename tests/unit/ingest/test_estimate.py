"""What a submitter is told of the wait: measured, or nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ingest.estimate import in_words, wait_s
from pipeline.ledger import ScanTimes

CLAIMED = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)


def scans(*seconds: float) -> list[ScanTimes]:
    """Return scans that took so long from their claim to their result."""
    return [
        ScanTimes("a" * 32, f"{n:032x}", {"claimed": CLAIMED, "published": CLAIMED + timedelta(seconds=s)})
        for n, s in enumerate(seconds)
    ]


def test_nothing_is_promised_before_three_scans_were_measured() -> None:
    """Two can differ by anything; a scan that failed or still runs measures nothing."""
    unfinished = [ScanTimes("a" * 32, "f" * 32, {"claimed": CLAIMED})]
    assert wait_s(1, scans(4.0, 6.0) + 5 * unfinished, running=1) is None
    assert wait_s(1, scans(4.0, 6.0, 5.0), running=1) == 5.0


def test_one_slow_scan_does_not_frighten_the_others() -> None:
    """The middle one of the last scans counts, not their mean."""
    assert wait_s(1, scans(4.0, 4.0, 5.0, 5.0, 600.0), running=1) == 5.0


def test_only_the_last_twenty_scans_count() -> None:
    """A machine that has become faster is as fast as it is now."""
    assert wait_s(1, scans(*[60.0] * 30, *[3.0] * 20), running=1) == 3.0


@pytest.mark.parametrize(
    ("place", "running", "rounds"), [(1, 1, 1), (3, 1, 3), (2, 2, 1), (3, 2, 2), (4, 3, 2), (2, 0, 2)]
)
def test_processors_work_through_the_line_side_by_side(place: int, running: int, rounds: int) -> None:
    """As many scans end at a time as are running; none running is one that is about to."""
    assert wait_s(place, scans(5.0, 5.0, 5.0), running) == 5.0 * rounds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "about 5 seconds"),
        (12.0, "about 10 seconds"),
        (13.0, "about 15 seconds"),
        (57.0, "about 55 seconds"),
        (70.0, "about 1 minute"),
        (200.0, "about 3 minutes"),
    ],
)
def test_a_wait_is_said_as_people_estimate(seconds: float, text: str) -> None:
    """More digits would be a promise."""
    assert in_words(seconds) == text
