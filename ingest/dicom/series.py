"""From slices to a volume: the series to take, its order, and where its voxels lie."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.dicom.images import Slice
from pipeline.nifti.refusals import times
from pipeline.web.problems import ProblemError

_MAX_OFF_LINE_MM = 0.1
"""Scanners write positions with few digits; a slice this far from where even steps put it is another step."""
_SAME_POSITION_MM = 0.01
_ALIKE = 1e-4
"""What rounding does to direction cosines and pixel spacing from slice to slice."""
_TO_RAS = np.diag([-1.0, -1.0, 1.0])
"""From DICOM's world axes, left, posterior, superior (PS3.3 C.7.6.2.1.1), to NIfTI's."""


@dataclass(frozen=True)
class Series:
    """One volume.

    Attributes:
        slices: In the order of their positions along the normal of the first.
        affine: (4, 4), from (column, row, slice) to world, RAS millimetres. Its third column is the step
            between positions, so that a tilted gantry's shear is kept.
        others: How many other series lay beside it.
    """

    slices: tuple[Slice, ...]
    affine: NDArray[np.float64]
    others: int

    @property
    def data_bytes(self) -> int:
        """Of all voxels together."""
        first = self.slices[0]
        return first.columns * first.rows * len(self.slices) * first.pixels[2] // 8


def choose(slices: Sequence[Slice]) -> Series:
    """Return the series with the most slices, of these the one with the most pixels.

    Raises:
        ProblemError: It is not one evenly spaced volume; says why.
    """
    by_uid: dict[str, list[Slice]] = defaultdict(list)
    for image in slices:
        by_uid[image.series].append(image)
    largest = max(by_uid.values(), key=lambda found: (len(found), found[0].rows * found[0].columns))
    _check_alike(largest)
    normal = np.cross(largest[0].along_row, largest[0].along_column)
    ordered = sorted(largest, key=lambda image: float(image.position @ normal))
    return Series(tuple(ordered), _affine(ordered), len(by_uid) - 1)


def _check_alike(slices: Sequence[Slice]) -> None:
    if len(slices) == 1:
        raise _not_even(code="dicom-single-slice", received="one slice")
    first = slices[0]
    for image in slices[1:]:
        if (image.rows, image.columns) != (first.rows, first.columns):
            sizes = f"{times((first.columns, first.rows))} and {times((image.columns, image.rows))}"
            raise _not_even(code="dicom-mixed", received=f"slices of {sizes} pixels")
        if image.pixels != first.pixels or image.syntax != first.syntax:
            raise _not_even(
                code="dicom-mixed", received="slices whose pixels are stored or scaled differently"
            )
        if not (
            np.allclose(image.along_row, first.along_row, rtol=0, atol=_ALIKE)
            and np.allclose(image.along_column, first.along_column, rtol=0, atol=_ALIKE)
        ):
            raise _not_even(code="dicom-mixed", received="slices of different orientation or pixel spacing")


def _affine(ordered: Sequence[Slice]) -> NDArray[np.float64]:
    positions = np.array([image.position for image in ordered])
    steps = np.diff(positions, axis=0)
    lengths_mm = np.linalg.norm(steps, axis=1)
    if lengths_mm.min() < _SAME_POSITION_MM:
        number = int(lengths_mm.argmin()) + 1
        raise _not_even(
            code="dicom-slice-duplicate", received=f"slices {number} and {number + 1} at the same position"
        )
    usual = np.median(steps, axis=0)
    off_mm = np.linalg.norm(steps - usual, axis=1)
    step = (positions[-1] - positions[0]) / len(steps)
    line = positions[0] + np.arange(len(positions))[:, np.newaxis] * step
    limit_mm = min(_MAX_OFF_LINE_MM, float(np.linalg.norm(usual)) / 4)
    if max(off_mm.max(), np.linalg.norm(positions - line, axis=1).max()) > limit_mm:
        number = int(off_mm.argmax()) + 1
        raise _not_even(
            code="dicom-steps-uneven",
            received=f"a step of {lengths_mm[number - 1]:.2f} mm between slices {number} and {number + 1} "
            f"where most are {np.linalg.norm(usual):.2f} mm: a slice is missing, or the spacing changes",
        )
    first = ordered[0]
    affine = np.eye(4)
    affine[:3] = _TO_RAS @ np.column_stack([first.along_row, first.along_column, step, positions[0]])
    if abs(np.linalg.det(affine[:3, :3])) < _SAME_POSITION_MM**3:
        raise _not_even(
            code="dicom-steps-uneven", received="slices that lie side by side instead of one above the other"
        )
    return affine


def _not_even(received: str, *, code: str) -> ProblemError:
    return ProblemError(
        status=422,
        code=code,
        title="Not one whole volume",
        detail=f"Expected the slices of one CT volume, all alike and evenly spaced, received {received}. "
        "Export the whole series again, one reconstruction only, and submit that.",
    )
