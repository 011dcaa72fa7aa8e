"""What the monitor makes of the time ledger, and how it writes numbers."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ingest.admin import wording
from ingest.admin.history import HOURS, read_history
from pipeline.clock import now
from pipeline.ids import new_id
from pipeline.ledger import ScanTimes

AT = now()


def ended(hours_ago: float, *, took_s: float = 1.0, code: str | None = None) -> ScanTimes:
    """Return a scan that ended so long ago, well unless there is a code."""
    end = AT - timedelta(hours=hours_ago)
    start = end - timedelta(seconds=took_s)
    scan = ScanTimes(new_id(), new_id(), {"queued": start, "claimed": start}, code=code)
    scan.moments["failed" if code else "published"] = end
    if not code:
        scan.timings_s = {"network": took_s / 2}
    return scan


def test_scans_are_counted_in_the_hour_in_which_they_ended() -> None:
    """The last hour ends now; what ended before the first one, or has not ended, counts nowhere."""
    waiting = ScanTimes(new_id(), new_id(), {"queued": AT})
    scans = [ended(0), ended(0.5), ended(1.5, code="not-a-head"), ended(23.9), ended(24.1), waiting]
    history = read_history(scans, AT)
    assert len(history.hours) == HOURS
    assert [(hour.done, hour.failed) for hour in history.hours[-2:]] == [(0, 1), (2, 0)]
    assert history.hours[0].done == 1
    assert (history.done, history.failed) == (3, 1)
    assert history.hours[-1].start == AT - timedelta(hours=1)


def test_stages_have_the_quantiles_of_the_scans_that_went_well() -> None:
    """Of 1 to 101 seconds the median is 51 and the 95th percentile 96."""
    scans = [ended(1, took_s=float(seconds)) for seconds in range(1, 102)]
    stages = {stage.name: stage for stage in read_history([*scans, ended(1, code="x")], AT).stages}
    assert (stages["processing"].p50_s, stages["processing"].p95_s) == (51, 96)
    assert (stages["network"].p50_s, stages["network"].scans) == (25.5, 101)
    assert "mail" not in stages


def test_failures_are_counted_by_code_the_most_frequent_first() -> None:
    """Where to look first stands first."""
    codes = ["a", "b", "b"]
    failures = read_history([ended(1, code=code) for code in codes], AT).failures
    assert [(failure.code, failure.scans) for failure in failures] == [("b", 2), ("a", 1)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.042, "0.04 s"),
        (3.21, "3.2 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3840, "1 h 4 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_time_is_written_in_its_two_largest_units(seconds: float, text: str) -> None:
    """As one would say it."""
    assert wording.span(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(512, "512 bytes"), (1_500, "1.5 kB"), (68.5e9, "68.5 GB"), (2e12, "2.0 TB")]
)
def test_a_size_is_written_in_its_decimal_unit(size_bytes: float, text: str) -> None:
    """As disks are sold."""
    assert wording.size(size_bytes) == text
