"""Whether a detection gives again what a report says: the same number, the same bytes in every file."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import nibabel as nib
import numpy as np
import numpy.typing as npt

from pipeline.report import Report
from pipeline.storage import ResultFile
from processor.detect import detect_scan
from processor.detection.detector import Detector
from processor.models import Model

REPORT_FILE: ResultFile = "report.json"
MAPS: tuple[ResultFile, ...] = ("saliency.nii.gz", "saliency_fixed.nii.gz")
_MAY_DIFFER = {"job_id", "scan_id", "timings_s", "times", "software"}
"""Fields of a report that tell two runs apart, not two results."""


@dataclass(frozen=True)
class Comparison:
    """How a new run compares with a result.

    Attributes:
        number: Absolute difference of the two estimates.
        maps: Largest absolute difference of each map that lay beside the report, in its own unit; infinity
            where its shape or its place in space is another.
        fields: Those of the report that differ, as `core_estimate`.
        files: Those that do not have the same bytes.
        compared: The files that lay beside the report.
        same_input: Whether the scan's file has the bytes of the reported one; the service strips names from
            what is uploaded, so that the same scan has others there.
        same_software: Whether all versions are the reported ones.
    """

    number: float
    maps: dict[ResultFile, float]
    fields: tuple[str, ...]
    files: tuple[ResultFile, ...]
    compared: tuple[ResultFile, ...]
    same_input: bool
    same_software: bool

    @property
    def identical(self) -> bool:
        """Whether nothing differs."""
        return not (self.fields or self.files)


def beside(report: Path, name: ResultFile) -> Path:
    """Return where a file of the same result lies, also under the names that the viewer gives downloads."""
    return report.with_name(f"{report.name.removesuffix(REPORT_FILE)}{name}")


def verify(report_path: Path, scan: Path, detector: Detector, model: Model) -> Comparison:
    """Run the detection again and compare it with a result.

    Args:
        report_path: A `report.json`; what else of its result lies beside it is compared too.
        scan: The scan it was made of.
        detector: With the weights of `model`, in the report's precision.
        model: The one the report names.

    Returns:
        Comparison: Of the report, but for its identifiers and timings, and of the files.

    Raises:
        ScanRefusedError: The scan cannot be processed.
        OSError: It or the result cannot be read.
        ValidationError: The report is not one (pydantic's).
    """
    reported = Report.model_validate_json(report_path.read_bytes())
    names: list[ResultFile] = [name for name in get_args(ResultFile) if name != REPORT_FILE]
    compared = tuple(name for name in names if beside(report_path, name).is_file())
    with tempfile.TemporaryDirectory(prefix="corestream-verify-") as folder:
        again_dir = Path(folder)
        again = detect_scan(scan, again_dir, detector, model=model)
        differ = tuple(
            name
            for name in compared
            if beside(report_path, name).read_bytes() != (again_dir / name).read_bytes()
        )
        maps = {
            name: _map_difference(beside(report_path, name), again_dir / name)
            for name in MAPS
            if name in compared
        }
    return Comparison(
        number=abs(again.core_estimate.value - reported.core_estimate.value),
        maps=maps,
        fields=_fields_that_differ(reported, again),
        files=differ,
        compared=compared,
        same_input=again.input.sha256 == reported.input.sha256,
        same_software=again.software == reported.software,
    )


def _fields_that_differ(one: Report, other: Report) -> tuple[str, ...]:
    same_input = other.input.model_copy(update={"sha256": one.input.sha256})
    other = other.model_copy(update={"input": same_input})
    kept = set(Report.model_fields) - _MAY_DIFFER
    return tuple(sorted(name for name in kept if getattr(one, name) != getattr(other, name)))


def _map_difference(one: Path, other: Path) -> float:
    first, second = nib.Nifti1Image.from_filename(one), nib.Nifti1Image.from_filename(other)
    if first.shape != second.shape or not np.array_equal(first.affine, second.affine):
        return float("inf")
    return float(np.abs(_voxels(first) - _voxels(second)).max())


def _voxels(image: nib.Nifti1Image) -> npt.NDArray[np.float64]:
    return np.asarray(image.dataobj, dtype=np.float64)
