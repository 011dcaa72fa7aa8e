"""A scan on the network's grid: aligned, or taken as it is where it already lies there."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from pipeline.errors import ScanRefusedError
from pipeline.report import Alignment, InputFacts, Matrix
from processor.alignment.align import METHOD, align
from processor.alignment.errors import AlignmentRefusedError
from processor.alignment.grid_check import LEAST_SKULL_SHARE, GridCheck, check_on_grid
from processor.alignment.resampling import onto_grid
from processor.alignment.space import Affine
from processor.detection.grid import GRID_AFFINE, GRID_AXES, GRID_SHAPE
from processor.volumes import ScanVolume, read_volume

ON_GRID = "none"
"""The method of alignment of a scan that came on the grid."""

_MNI152_XFORM = 4
"""NIfTI's code of that world space."""


@dataclass(frozen=True)
class NativeGrid:
    """The voxels of a scan's file.

    Attributes:
        shape: Along each axis.
        affine: (4, 4), their voxel space to the file's world space, RAS millimetres.
        xform_code: NIfTI's code of that world space.
        from_grid: (4, 4), voxel space of the network's grid to theirs.
    """

    shape: tuple[int, int, int]
    affine: Affine
    xform_code: int
    from_grid: Affine


@dataclass(frozen=True)
class PlacedScan:
    """A scan on the network's grid.

    Attributes:
        hu: (146, 182, 133), array axes L, A, S; Hounsfield units, finite.
        affine: (4, 4), voxel space of `hu` to its world space, RAS millimetres.
        xform_code: NIfTI's code of that world space.
        native: Where it came from.
        alignment: As the report has it.
        warnings: What was changed or looks odd, in words.
    """

    hu: npt.NDArray[Any]
    affine: Affine
    xform_code: int
    native: NativeGrid
    alignment: Alignment
    warnings: tuple[str, ...]


def read_onto_grid(path: Path) -> tuple[PlacedScan, InputFacts, dict[str, float]]:
    """Read a file and bring its scan onto the grid.

    Returns:
        tuple: The scan on the grid, what a report says of the file, and the seconds of either step. The
            file's own voxels are let go: a large scan's must not lie in memory while the network runs.

    Raises:
        ScanRefusedError: The file cannot be read as a volume or not be aligned; says why.
        OSError: It cannot be read.
    """
    started = time.perf_counter()
    volume = read_volume(path)
    facts = _input_facts(volume)
    read = time.perf_counter()
    placed = place_on_grid(volume)
    ended = time.perf_counter()
    return placed, facts, {"reading": round(read - started, 3), "alignment": round(ended - read, 3)}


def place_on_grid(scan: ScanVolume) -> PlacedScan:
    """Bring a scan onto the grid; one of the grid's shape that looks like a head there is not touched.

    Raises:
        ScanRefusedError: It cannot be aligned with certainty; says what was measured.
    """
    stored = nib.orientations.io_orientation(scan.volume.affine)
    turn = nib.orientations.ornt_transform(stored, nib.orientations.axcodes2ornt(GRID_AXES))
    turned = nib.orientations.apply_orientation(scan.volume.stored, turn)
    if turned.shape == GRID_SHAPE:
        hu = turned if _unscaled(scan) else scan.volume.to_hu(turned)
        check = check_on_grid(hu)
        if check.aligned:
            return _as_it_is(scan, hu, nib.orientations.inv_ornt_aff(turn, scan.shape), check)
    return _aligned(scan)


def _input_facts(volume: ScanVolume) -> InputFacts:
    return InputFacts(
        sha256=volume.sha256,
        shape=volume.shape,
        voxel_size_mm=volume.voxel_size_mm,
        orientation=volume.orientation,
        hu_range=volume.hu_range,
    )


def orientation_note(codes: str) -> str:
    """Say what a header claims about left and right.

    Args:
        codes: Of the file's axes, as `LAS`.
    """
    words = {"L": "left", "R": "right", "A": "front", "P": "back", "S": "top", "I": "bottom"}
    first, second, third = (words[code] for code in codes)
    return (
        f"Left and right are as the scan's header says: its axes run to the patient's {first}, {second} and "
        f"{third} ({codes}). A header that swaps left and right cannot be told from a true one."
    )


def _unscaled(scan: ScanVolume) -> bool:
    return (scan.volume.slope, scan.volume.intercept) == (1, 0)


def _as_it_is(scan: ScanVolume, hu: npt.NDArray[Any], back: Affine, check: GridCheck) -> PlacedScan:
    warnings = scan.warnings
    if check.skull_share < LEAST_SKULL_SHARE:
        warnings += (
            (
                "The volume has the grid's shape and was taken as aligned, but only "
                f"{check.skull_share:.0%} of the skull is where the grid has it (aligned heads: "
                f"{LEAST_SKULL_SHARE:.0%} and more). Look at alignment.png before you use the result."
            ),
        )
    own = "world space of the scan, RAS millimetres, as its header has it"
    return PlacedScan(
        hu=hu,
        affine=scan.volume.affine @ back,
        xform_code=scan.xform_code,
        native=NativeGrid(scan.shape, scan.volume.affine, scan.xform_code, back),
        alignment=Alignment(
            method=ON_GRID,
            applied=False,
            quality=check.figures(),
            spaces=_spaces(own, own),
        ),
        warnings=warnings,
    )


def _aligned(scan: ScanVolume) -> PlacedScan:
    try:
        alignment = align(scan.volume)
    except AlignmentRefusedError as error:
        raise ScanRefusedError(code=error.code, title=error.title, detail=error.detail) from error
    to_scan = alignment.to_scan
    from_grid = np.linalg.inv(scan.volume.affine) @ to_scan @ GRID_AFFINE
    return PlacedScan(
        hu=onto_grid(alignment.volume, to_scan),
        affine=GRID_AFFINE,
        xform_code=_MNI152_XFORM,
        native=NativeGrid(scan.shape, scan.volume.affine, scan.xform_code, from_grid),
        alignment=Alignment(
            method=METHOD,
            applied=True,
            quality=alignment.quality.figures(),
            transform=_matrix(to_scan),
            inverse=_matrix(np.linalg.inv(to_scan)),
            spaces=_spaces(
                "world space of aligned.nii.gz, RAS millimetres of MNI152",
                "world space of the scan, RAS millimetres, as its header has it",
            ),
        ),
        warnings=(*scan.warnings, *alignment.warnings),
    )


def _spaces(grid: str, native: str) -> dict[str, str]:
    return {
        "saliency.peak_voxel": "voxel (i, j, k) of saliency.nii.gz, saliency_fixed.nii.gz and aligned.nii.gz",
        "saliency.peak_mm": grid,
        "saliency.peak_native_mm": f"{native}; that of saliency_native.nii.gz",
    }


def _matrix(affine: Affine) -> Matrix:
    rows: list[list[float]] = affine.tolist()
    return tuple((x, y, z, shift) for x, y, z, shift in rows)
