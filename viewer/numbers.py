"""The numbers of a job's scans as a table: CSV for spreadsheets and scripts."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from aiohttp import web

from pipeline.report import RESEARCH_USE_ONLY
from viewer.access import Access
from viewer.result_page import ScanView, view_scans

COLUMNS = (
    "scan",
    "scan_id",
    "scan_sha256",
    "state",
    "core_estimate",
    "core_estimate_unit",
    "core_estimate_rmse",
    "side",
    "map_positive",
    "raw_max",
    "floor",
    "peak_x_mm",
    "peak_y_mm",
    "peak_z_mm",
    "model",
    "model_sha256",
    "alignment",
    "warnings",
    "error",
    "judged",
    "note",
)


class Numbers:
    """Serves the table.

    Args:
        access: What a request may see.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    async def serve(self, request: web.Request) -> web.Response:
        """Answer with a line for each scan of a job, whatever became of it."""
        job = self._access.job(request)
        scans = view_scans(self._access.storage, job, request.match_info["token"])
        return web.Response(
            text=numbers_csv(scans),
            content_type="text/csv",
            charset="utf-8",
            headers={
                "Content-Disposition": f'attachment; filename="corestream-{job.job_id[:8]}-numbers.csv"'
            },
        )


def numbers_csv(scans: Sequence[ScanView]) -> str:
    """Write the table, RFC 4180, unrounded; an empty cell is what is not known."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS)
    table.writeheader()
    for scan in scans:
        table.writerow(_row(scan))
    return text.getvalue()


def _row(scan: ScanView) -> dict[str, object]:
    row: dict[str, object] = {
        "scan": scan.number,
        "scan_id": scan.scan_id,
        "scan_sha256": scan.sha256,
        "state": scan.state,
        "error": scan.failure.code if scan.failure else None,
        "judged": scan.feedback.verdict if scan.feedback else None,
        "note": RESEARCH_USE_ONLY,
    }
    if scan.report is None:
        return row
    report, saliency = scan.report, scan.report.saliency
    x, y, z = saliency.peak_mm or (None, None, None)
    return row | {
        "core_estimate": report.core_estimate.value,
        "core_estimate_unit": report.core_estimate.unit,
        "core_estimate_rmse": report.core_estimate.rmse,
        "side": saliency.side if saliency.positive else None,
        "map_positive": saliency.positive,
        "raw_max": saliency.raw_max,
        "floor": saliency.floor,
        "peak_x_mm": x,
        "peak_y_mm": y,
        "peak_z_mm": z,
        "model": report.model.name,
        "model_sha256": report.model.sha256,
        "alignment": report.alignment.method,
        "warnings": " | ".join(report.warnings),
    }
