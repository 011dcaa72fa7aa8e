"""How long a scan will wait: from how long the last ones took, not from a promise."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from pipeline.ledger import ScanTimes

_LAST = 20
_LEAST = 3
"""Scans below which nothing is said: two can differ by anything."""
_MINUTE_S = 60


def wait_s(place: int, scans: Sequence[ScanTimes], running: int) -> float | None:
    """Return how many seconds a scan will probably wait, or None where too few were measured.

    Args:
        place: In line, from 1.
        scans: What the ledger knows, oldest first.
        running: Scans being processed: while anything waits, the number of processors.

    Returns:
        Median of the last scans' seconds from claim to result, times the rounds that are to go.
    """
    took = [s for scan in scans if (s := scan.seconds("processing")) is not None][-_LAST:]
    if len(took) < _LEAST:
        return None
    return statistics.median(took) * math.ceil(place / max(1, running))


def in_words(seconds: float) -> str:
    """Write a time as people estimate: 5, 10, 15 seconds; 2 minutes."""
    if seconds < _MINUTE_S:
        return f"about {max(5, 5 * round(seconds / 5))} seconds"
    minutes = round(seconds / _MINUTE_S)
    return f"about {minutes} minute{'s' if minutes > 1 else ''}"
