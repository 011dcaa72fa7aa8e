"""A job in words, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from corestream.errors import Document
from pipeline.report import NO_REGION_STANDS_OUT

_WIDTH = len("saliency_native")
_STYLES: Mapping[str, str] = {"done": "green", "failed": "red", "detecting": "cyan", "waiting": "yellow"}


def scan_line(number: int, scan: Mapping[str, Any]) -> str:
    """Return the state of one scan as a line of rich markup.

    Args:
        number: Counts from 1.
        scan: As the API has it.
    """
    state = scan["state"]
    line = f"scan {number}: [{_STYLES.get(state, 'default')}]{state}[/]"
    if state == "waiting" and scan.get("place_in_line"):
        line += f", place {scan['place_in_line']} in line"
    if scan.get("deliveries", 0) > 1 and state == "detecting":
        line += f", try {scan['deliveries']}"
    return line


def estimate_text(report: Mapping[str, Any]) -> str:
    """Return the network's number with its published error, and what the number is."""
    estimate = report["core_estimate"]
    error = "" if estimate["rmse"] is None else f" ± {estimate['rmse']:.1f} (RMSE)"
    return f"{estimate['value']:.1f}{error} {estimate['unit']}"


def finding_text(report: Mapping[str, Any]) -> str:
    """Return what the saliency map says, in words that claim no more than it does."""
    saliency = report["saliency"]
    if not saliency["positive"]:
        return NO_REGION_STANDS_OUT
    i, j, k = saliency["peak_voxel"]
    return f"regions that moved the estimate: {saliency['side']} hemisphere, peak at voxel ({i}, {j}, {k})"


def job_text(job: Document) -> str:
    """Return all that is known of a job as rich markup: states, numbers, errors, links.

    One line a fact, however long: a link that is broken over lines cannot be copied.
    """
    facts = [("job", f"{job['job_id']}, {job['state']}"), ("mail", job["mail"])]
    lines = [fact_line(*fact) for fact in facts]
    for number, scan in enumerate(job["scans"], start=1):
        lines += ["", scan_line(number, scan), *(fact_line(*fact) for fact in _scan_facts(scan))]
    return "\n".join([*lines, "", fact_line("result", job["result_url"])])


def fact_line(name: str, value: str) -> str:
    """Return one fact as rich markup."""
    return f"  [dim]{name:<{_WIDTH}}[/] {escape(value)}"


def report_text(report: Mapping[str, Any]) -> str:
    """Return what a report says as rich markup: number, map, model, warnings."""
    return "\n".join(fact_line(*fact) for fact in _report_facts(report))


def _scan_facts(scan: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    if error := scan.get("error"):
        facts.append(("why", f"{error['title']}. {error['detail']} ({error['code']})"))
    if report := scan.get("report"):
        facts += _report_facts(report)
        facts.append(("viewer", scan["viewer_url"]))
        facts += scan["files"].items()
    return facts


def _report_facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("estimate", estimate_text(report)),
        ("", report["core_estimate"]["note"]),
        ("map", finding_text(report)),
        ("model", f"{report['model']['name']}: {report['model']['description']}"),
        *(("warning", warning) for warning in report["warnings"]),
        ("", report["research_use_only"]),
    ]
