"""Jobs in words, for the terminal."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from corestream.job_text import estimate_text, finding_text, job_text, scan_line
from pipeline.report import NO_REGION_STANDS_OUT

LINK = "http://127.0.0.1:7606/r/" + "t" * 200


def report(*, positive: bool = True, rmse: float | None = 10.44) -> dict[str, Any]:
    """Return what of a report these words are made of."""
    return {
        "core_estimate": {"value": 31.26, "unit": "ml", "rmse": rmse, "note": "Not a volume."},
        "saliency": {"positive": positive, "side": "left", "peak_voxel": [1, 2, 3]},
        "model": {"name": "demo", "description": "synthetic"},
        "warnings": ["[odd] header"],
        "research_use_only": "Research use only. Not for diagnosis.",
    }


def printed(markup: str) -> str:
    """Return what a narrow terminal without colours shows."""
    screen = Console(file=StringIO(), width=40, soft_wrap=True)
    screen.print(markup)
    assert isinstance(screen.file, StringIO)
    return screen.file.getvalue()


def test_the_number_never_stands_without_its_error() -> None:
    """A number alone would be taken for a measurement; where no error is known none is made up."""
    assert estimate_text(report()) == "31.3 ± 10.4 (RMSE) ml"
    assert estimate_text(report(rmse=None)) == "31.3 ml"


def test_no_finding_never_reads_as_no_stroke() -> None:
    """The map says what moved the estimate, nothing about what is not there."""
    assert finding_text(report(positive=False)) == NO_REGION_STANDS_OUT
    assert finding_text(report()).startswith("regions that moved the estimate: left hemisphere")


@pytest.mark.parametrize(
    ("scan", "line"),
    [
        ({"state": "waiting", "place_in_line": 2}, "scan 1: waiting, place 2 in line"),
        ({"state": "detecting", "deliveries": 1}, "scan 1: detecting"),
        ({"state": "detecting", "deliveries": 2}, "scan 1: detecting, try 2"),
        ({"state": "done", "deliveries": 1}, "scan 1: done"),
    ],
)
def test_a_scan_that_waits_says_where_and_one_that_is_tried_again_says_so(
    scan: dict[str, Any], line: str
) -> None:
    """Whoever waits knows what for."""
    assert printed(scan_line(1, scan)).rstrip() == line


def test_links_stay_in_one_line_and_errors_say_what_to_do() -> None:
    """A link that is broken over lines cannot be copied; text of others is never markup."""
    error = {"code": "wrong-grid", "title": "Not on the grid", "detail": "Expected [146], align it."}
    scans = [
        {"state": "done", "report": report(), "viewer_url": LINK, "files": {"report": LINK}, "error": None},
        {"state": "failed", "report": None, "viewer_url": LINK, "files": {}, "error": error},
    ]
    shown = printed(
        job_text({"job_id": "j", "state": "finished", "mail": "sent", "scans": scans, "result_url": LINK})
    )
    assert shown.count(LINK) == 3
    assert "Not on the grid. Expected [146], align it. (wrong-grid)" in shown
    assert "[odd] header" in shown
    assert "Research use only. Not for diagnosis." in shown
