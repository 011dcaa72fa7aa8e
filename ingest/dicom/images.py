"""What the headers of DICOM images say, and which of them are slices of a CT volume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import UID

from ingest.refusals import file_invalid
from pipeline.web.problems import ProblemError

_TAGS = (
    *("SOPClassUID", "Modality", "ImageType", "SeriesInstanceUID", "NumberOfFrames", "SamplesPerPixel"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"),
    *("RescaleSlope", "RescaleIntercept", "BitsAllocated", "PixelRepresentation"),
)
"""No name of a person among them: nothing else is taken from a file."""
_ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
_MAPS = {"PERFUSION", "CBF", "CBV", "RCBF", "RCBV", "MTT", "TTP", "TMAX", "TTD", "PERF", "RGB"}
"""Values of ImageType (PS3.3 C.8.16 and vendors') on parameter maps, whose pixels are no HU."""
_UNIT_TOLERANCE = 1e-3
"""How far direction cosines, written with few digits, may be from unit length and a right angle."""


@dataclass(frozen=True)
class Slice:
    """One image of a series.

    Attributes:
        path: Its file.
        series: Its SeriesInstanceUID.
        syntax: Its transfer syntax.
        position: (3,) centre of the first pixel, LPS millimetres.
        along_row: (3,) from one column to the next, LPS millimetres.
        along_column: (3,) from one row to the next, LPS millimetres.
        rows: Of the image.
        columns: Of the image.
        pixels: Slope, intercept, bits and sign: how stored values become HU.
    """

    path: Path
    series: str
    syntax: UID
    position: NDArray[np.float64]
    along_row: NDArray[np.float64]
    along_column: NDArray[np.float64]
    rows: int
    columns: int
    pixels: tuple[float, float, int, int]


@dataclass(frozen=True)
class _NoSliceError(Exception):
    """Raised for an image that is no slice of a CT volume; says what it is."""

    code: str
    received: str


def read_slices(files: Iterable[Path]) -> list[Slice]:
    """Return the images that are slices of a CT volume.

    Raises:
        ProblemError: There are none; says what the most of the images are.
    """
    slices: list[Slice] = []
    others: Counter[tuple[str, str]] = Counter()
    for path in files:
        try:
            slices.append(_read(path))
        except _NoSliceError as other:
            others[other.code, other.received] += 1
    if not slices:
        raise _no_slices(others)
    return slices


def _read(path: Path) -> Slice:
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
        _check_kind(header)
        return _slice(path, header)
    except _NoSliceError:
        raise
    except Exception as error:  # pydicom raises whatever the damage makes it stumble over
        raise _NoSliceError(
            code="dicom-unreadable", received="images whose headers are damaged or incomplete"
        ) from error


def _check_kind(header: pydicom.Dataset) -> None:
    modality = str(header.Modality)
    values = header.get("ImageType", None) or ()
    kinds = {str(value).upper() for value in ([values] if isinstance(values, str) else values)}
    if modality != "CT":
        raise _NoSliceError(code="dicom-not-ct", received=f"images of modality {modality[:16]}")
    if str(header.get("SOPClassUID")) == _ENHANCED_CT or int(header.get("NumberOfFrames", None) or 1) > 1:
        raise _NoSliceError(code="dicom-multi-frame", received="enhanced multi-frame images")
    if "LOCALIZER" in kinds:
        raise _NoSliceError(code="dicom-scout", received="scout images (localizers)")
    if kinds & _MAPS or int(header.get("SamplesPerPixel", None) or 1) != 1:
        raise _NoSliceError(
            code="dicom-map", received="perfusion or colour maps, whose pixels are no Hounsfield units"
        )


def _slice(path: Path, header: pydicom.FileDataset) -> Slice:
    cosines = np.array(header.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    between_rows, between_columns = (float(value) for value in header.PixelSpacing)
    position = np.array(header.ImagePositionPatient, dtype=np.float64).reshape(3)
    numbers = np.array([*cosines.ravel(), *position, between_rows, between_columns])
    if not np.isfinite(numbers).all() or np.abs(cosines @ cosines.T - np.eye(2)).max() > _UNIT_TOLERANCE:
        raise ValueError("geometry")
    if min(between_rows, between_columns) <= 0 or min(header.Rows, header.Columns) < 1:
        raise ValueError("size")
    return Slice(
        path=path,
        series=str(header.SeriesInstanceUID),
        syntax=UID(header.file_meta.TransferSyntaxUID),
        position=position,
        along_row=cosines[0] * between_columns,
        along_column=cosines[1] * between_rows,
        rows=int(header.Rows),
        columns=int(header.Columns),
        pixels=(
            float(header.get("RescaleSlope", 1)),
            float(header.get("RescaleIntercept", 0)),
            int(header.BitsAllocated),
            int(header.PixelRepresentation),
        ),
    )


_ADVICE = {
    "dicom-not-ct": "Export the CT angiogram's axial series.",
    "dicom-multi-frame": "Export the series as single-frame CT images, or convert it with dcm2niix to NIfTI.",
    "dicom-scout": "Export the angiogram's axial series instead of its scout.",
    "dicom-map": "Export the angiogram itself instead of maps that were computed from it.",
    "dicom-unreadable": "Export the series again, with its whole headers.",
}


def _no_slices(others: Counter[tuple[str, str]]) -> ProblemError:
    if not others:
        return file_invalid(
            "dicom-none",
            "No DICOM files",
            "an archive with the files of one DICOM CT series",
            "one without a single DICOM file",
            "Pack the series' files themselves; a NIfTI scan is submitted as it is, not in an archive.",
        )
    (code, received), _ = others.most_common(1)[0]
    return file_invalid(code, "Not a CT series", "the slices of a CT series", received, _ADVICE[code])
