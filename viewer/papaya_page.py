"""The page on which Papaya shows a scan with its saliency map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web

from pipeline.report import Report, Saliency
from pipeline.storage import JobRecord
from pipeline.web.pages import render
from viewer import wording
from viewer.access import Access, no_result
from viewer.result_page import ScanView, view_scan

log = structlog.get_logger()

# Papaya writes style attributes, draws into data: images, and adds one style element, whose hash this is.
_CSP = (
    "default-src 'none'; script-src 'self'; "
    "style-src-elem 'self' 'sha256-R6trzdVqMDrNZMpDKT9hTua0z868rc1nSeKuqGAaxuc='; "
    "style-src-attr 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_MAP_RANGE = (10, 100)
"""Colours of the map: percent of its largest value. Below the lower end it is transparent."""
_MAP_OPACITY = 0.65
_COLORS = ((0.0, (92, 16, 110)), (0.35, (206, 42, 74)), (0.7, (250, 128, 20)), (1.0, (255, 240, 120)))
"""The colours of the map, as on the summary picture: share of the scale, and red, green, blue."""
_CLIPPED_HU = 110.0
"""A scan that holds nothing above was exported through the network's window of 0 to 100."""


@dataclass(frozen=True)
class Window:
    """Grey levels that the scan can be looked at with.

    Attributes:
        name: What one looks for with it.
        low_hu: Black.
        high_hu: White.
        shows_more: Whether the scan holds what it shows.
    """

    name: str
    low_hu: int
    high_hu: int
    shows_more: bool = True


def windows(hu_range: tuple[float, float]) -> tuple[Window, ...]:
    """Return the windows for a scan that holds values in `hu_range`, HU; the first is shown at the start."""
    return (
        Window("As the network sees it", 0, 100),
        Window("Brain", 0, 80),
        Window("Stroke", 20, 60),
        Window("Vessels", 0, 600, shows_more=hu_range[1] > _CLIPPED_HU),
    )


class PapayaPage:
    """Serves the interactive viewer.

    Args:
        access: What a request may see.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    async def serve(self, request: web.Request) -> web.Response:
        """Answer with the viewer of one scan.

        Raises:
            ProblemError: The scan has no result.
        """
        job, scan_id = self._access.scan(request)
        scan = view_scan(self._access.storage, job, scan_id, request.match_info["token"])
        if scan.report is None:
            raise no_result()
        log.info("result.viewer_opened", job_id=job.job_id, scan_id=scan_id)
        answer = render(
            request,
            "papaya.html",
            scan=scan,
            report=scan.report,
            scans=len(job.scans),
            settings=_browser_settings(scan, scan.report, self._largest_raw(job)),
            windows=windows(scan.report.input.hu_range),
            wording=wording,
        )
        answer.headers["Content-Security-Policy"] = _CSP
        return answer

    def _largest_raw(self, job: JobRecord) -> float:
        """Return the largest raw value of all maps of a job: one fixed scale then serves them all."""
        reports = [self._access.storage.read_report(job.job_id, scan.scan_id) for scan in job.scans]
        return max(report.saliency.raw_max for report in reports if report)


def _browser_settings(scan: ScanView, report: Report, largest_raw: float) -> dict[str, Any]:
    """Return what the page's script needs, as its JSON has it."""
    saliency = report.saliency
    first, *_ = windows(report.input.hu_range)
    percent = {
        "name": "saliency",
        "label": "The saliency map",
        "url": scan.file("saliency.nii.gz"),
        "choice": "Percent of its maximum",
        "note": "Every map reaches 100 %: do not compare by colour.",
        "unit": "%",
        "range": _MAP_RANGE,
    }
    fixed = {
        "name": "fixed",
        "label": "The map in fixed units",
        "url": scan.file("saliency_fixed.nii.gz"),
        "choice": "Fixed units",
        "note": _fixed_note(saliency),
        "unit": "",
        "range": fixed_range(largest_raw, saliency.floor),
    }
    return {
        "volumes": [
            {
                "name": "scan",
                "label": "The scan",
                "url": scan.file("aligned.nii.gz"),
                "range": (first.low_hu, first.high_hu),
            },
            percent,
        ],
        "maps": [percent, fixed] if saliency.scale_fixed else [percent],
        "colors": {
            "name": "Saliency",
            "data": [(share, *(channel / 255 for channel in color)) for share, color in _COLORS],
        },
        "mapOpacity": _MAP_OPACITY,
        "peakMm": saliency.peak_mm if saliency.positive else None,
    }


def fixed_range(largest_raw: float, floor: float | None) -> tuple[float, float]:
    """Return where the colours of a map in fixed units begin and end.

    Args:
        largest_raw: Largest value of all maps that are to share the scale.
        floor: Of the model: below it a map says nothing. None where none is established.

    Returns:
        From the floor, or a tenth of the end, to the next round number above every map.
    """
    top = max(largest_raw, 2 * (floor or 0.0), 1e-12)
    decade = 10.0 ** math.floor(math.log10(top))
    end = math.ceil(top / decade) * decade
    return (floor if floor is not None else end / 10, end)


def _fixed_note(saliency: Saliency) -> str:
    begin = "from this model's floor" if saliency.floor is not None else "from a tenth of the scale"
    return f"Network output per feature, {begin}: the same colours for all scans of this submission."
