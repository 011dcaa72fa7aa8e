"""The page on which Papaya shows a scan with its saliency map."""

from __future__ import annotations

import structlog
from aiohttp import web

from pipeline.report import Report
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

_WINDOW_HU = (0, 100)
"""Grey levels of the scan: what the network sees of it."""
_MAP_RANGE = (10, 100)
"""Colours of the map: percent of its largest value. Below the lower end it is transparent; from 0, the
colour table's black would darken half the brain."""
_MAP_OPACITY = 0.6


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
            settings=_browser_settings(scan, scan.report),
            map_range=_MAP_RANGE,
            map_opacity=_MAP_OPACITY,
            wording=wording,
        )
        answer.headers["Content-Security-Policy"] = _CSP
        return answer


def _browser_settings(scan: ScanView, report: Report) -> dict[str, object]:
    """Return what the page's script needs, as its JSON has it."""
    saliency = report.saliency
    return {
        "volumes": [
            {"name": "scan", "label": "The scan", "url": scan.file("aligned.nii.gz")},
            {"name": "saliency", "label": "The saliency map", "url": scan.file("saliency.nii.gz")},
        ],
        "windowHu": _WINDOW_HU,
        "mapRange": _MAP_RANGE,
        "mapOpacity": _MAP_OPACITY,
        "peakMm": saliency.peak_mm if saliency.positive else None,
    }
