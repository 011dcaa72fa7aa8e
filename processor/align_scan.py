"""The alignment alone: a scan from its file to the same scan on the grid, for `corestream align`."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipeline.files import write_whole
from pipeline.report import RESEARCH_USE_ONLY, Alignment, InputFacts
from processor.alignment.picture import alignment_png
from processor.outputs import about_alignment, aligned_nifti
from processor.placement import orientation_note, read_onto_grid

ALIGNED_FILE, PICTURE_FILE, REPORT_FILE = "aligned.nii.gz", "alignment.png", "alignment.json"


class AlignmentReport(BaseModel):
    """The contract of `alignment.json`; its parts are those of `report.json`."""

    model_config = ConfigDict(frozen=True)

    research_use_only: str = RESEARCH_USE_ONLY
    input: InputFacts
    orientation_note: str
    alignment: Alignment
    timings_s: dict[str, float]
    warnings: tuple[str, ...]


def align_scan(scan: Path, out_dir: Path) -> AlignmentReport:
    """Align a file and write the aligned scan, the picture to judge it by, and the figures.

    Args:
        scan: A NIfTI volume of a head.
        out_dir: An existing folder; files of the same names are replaced.

    Raises:
        ScanRefusedError: The file cannot be aligned; says why.
        OSError: It cannot be read, or the result not be written.
    """
    placed, facts, timings_s = read_onto_grid(scan)
    report = AlignmentReport(
        input=facts,
        orientation_note=orientation_note(facts.orientation),
        alignment=placed.alignment,
        timings_s=timings_s,
        warnings=placed.warnings,
    )
    notes = about_alignment(report.alignment, report.orientation_note)
    files = {
        ALIGNED_FILE: aligned_nifti(placed, RESEARCH_USE_ONLY),
        PICTURE_FILE: alignment_png(placed.hu, report.warnings, notes, RESEARCH_USE_ONLY),
        REPORT_FILE: report.model_dump_json(indent=1).encode(),
    }
    for name, content in files.items():
        write_whole(out_dir / name, content)
    return report
