"""The last day, as the time ledger tells it: throughput, how long each stage took, what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

import numpy as np
from pydantic import BaseModel, ConfigDict

from pipeline.clock import Instant
from pipeline.ledger import SPANS, ScanTimes, Span

HOURS = 24
_HOUR = timedelta(hours=1)
_BEFORE_STEPS: tuple[Span, ...] = ("upload", "queueing", "waiting")
"""The detection's own steps stand after these."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True)


class Hour(_Document):
    """The scans that ended within one hour."""

    start: Instant
    done: int
    failed: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.done + self.failed


class Stage(_Document):
    """How long a stage took, over the scans that went well."""

    name: str
    scans: int
    p50_s: float
    p95_s: float


class Failure(_Document):
    """How often scans failed for one reason."""

    code: str
    scans: int


class History(_Document):
    """The last day."""

    hours: tuple[Hour, ...]
    """Oldest first; the last one ends now."""
    stages: tuple[Stage, ...]
    failures: tuple[Failure, ...]
    """Most frequent first."""

    @property
    def done(self) -> int:
        """Scans that went well."""
        return sum(hour.done for hour in self.hours)

    @property
    def failed(self) -> int:
        """Scans that did not."""
        return sum(hour.failed for hour in self.hours)


def read_history(scans: Iterable[ScanTimes], at: datetime) -> History:
    """Return the day before an instant.

    Args:
        scans: Of the ledger; older ones are left out.
        at: The end of the last hour.
    """
    first = at - HOURS * _HOUR
    ended = [(scan, when) for scan in scans if (when := _ended_at(scan)) and first <= when <= at]
    done, failed = Counter[int](), Counter[int]()
    for scan, when in ended:
        (done if scan.outcome == "done" else failed)[min((when - first) // _HOUR, HOURS - 1)] += 1
    codes = Counter(scan.code or "unknown" for scan, _ in ended if scan.outcome == "failed")
    return History(
        hours=tuple(Hour(start=first + n * _HOUR, done=done[n], failed=failed[n]) for n in range(HOURS)),
        stages=tuple(_stages([scan for scan, _ in ended if scan.outcome == "done"])),
        failures=tuple(Failure(code=code, scans=count) for code, count in codes.most_common()),
    )


def _ended_at(scan: ScanTimes) -> datetime | None:
    return scan.moments.get("published") or scan.moments.get("failed")


def _stages(scans: list[ScanTimes]) -> list[Stage]:
    spans: dict[str, list[float]] = {
        name: [s for scan in scans if (s := scan.seconds(name)) is not None] for name in SPANS
    }
    steps: dict[str, list[float]] = {}
    for scan in scans:
        for step, seconds in scan.timings_s.items():
            steps.setdefault(step, []).append(seconds)
    before: dict[str, list[float]] = {name: spans.pop(name) for name in _BEFORE_STEPS}
    stages = []
    for name, seconds_each in {**before, **steps, **spans}.items():
        if seconds_each:
            p50_s, p95_s = np.quantile(seconds_each, [0.5, 0.95]).round(3).tolist()
            stages.append(Stage(name=name, scans=len(seconds_each), p50_s=p50_s, p95_s=p95_s))
    return stages
