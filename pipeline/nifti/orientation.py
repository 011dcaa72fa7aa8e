"""Where a volume's voxels lie in the patient: what its header claims, and whether that can be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ScanRefusedError
from pipeline.nifti.refusals import nifti_invalid

Header: TypeAlias = nib.Nifti1Header
"""nibabel's NIfTI-2 header is a subclass of its NIfTI-1 header."""

_ROUNDING = 1e-5
"""What float32 arithmetic may add to 1, or leave of 0."""


@dataclass(frozen=True)
class Orientation:
    """Where the voxels lie.

    Attributes:
        affine: (4, 4), voxel space to world space, RAS millimetres.
        xform_code: NIfTI's code of that world space (1 scanner, 2 aligned, 3 Talairach, 4 MNI152).
    """

    affine: NDArray[np.float64]
    xform_code: int


def read_orientation(header: Header) -> Orientation:
    """Return what the sform says where there is one, else what the qform says, as nibabel.

    Raises:
        ScanRefusedError: There is neither, one is impossible, or the two contradict each other.
    """
    sform = _sform(header) if header["sform_code"] > 0 else None
    qform = _qform(header) if header["qform_code"] > 0 else None
    if sform is not None and qform is not None and not _same_sides(sform, qform):
        raise nifti_invalid(
            "orientation-contradictory",
            "Left and right contradictory",
            "sform and qform to agree about left and right",
            "a header in which they do not",
            "Left and right must be certain: export the scan again with one orientation.",
        )
    if sform is not None:
        return Orientation(sform, int(header["sform_code"]))
    if qform is not None:
        return Orientation(qform, int(header["qform_code"]))
    raise nifti_invalid(
        "orientation-unknown",
        "Orientation unknown",
        "sform_code or qform_code above 0",
        "a header with neither",
        "Without it left and right can only be guessed. Convert the scan again from DICOM with dcm2niix.",
    )


def _sform(header: Header) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3] = [header["srow_x"], header["srow_y"], header["srow_z"]]
    if not np.isfinite(matrix).all() or _is_singular(matrix):
        raise _orientation_invalid("sform", "not finite" if not np.isfinite(matrix).all() else "singular")
    return matrix


def _qform(header: Header) -> NDArray[np.float64]:
    vector = np.array([header[f"quatern_{axis}"] for axis in "bcd"], dtype=np.float64)
    offset = np.array([header[f"qoffset_{axis}"] for axis in "xyz"], dtype=np.float64)
    sizes = np.array(header["pixdim"][:4], dtype=np.float64)
    square = float(vector @ vector)
    if not (np.isfinite(offset).all() and np.isfinite(square) and square <= 1 + _ROUNDING):
        raise _orientation_invalid("qform", "no unit quaternion or no finite offset")
    if not (np.isfinite(sizes).all() and (sizes[1:] > 0).all()):
        raise _orientation_invalid("qform", f"voxel sizes {', '.join(f'{size:g}' for size in sizes[1:])}")
    matrix = np.eye(4)
    rotation = nib.quaternions.quat2mat([math.sqrt(max(0.0, 1 - square)), *vector])
    matrix[:3, :3] = rotation * (sizes[1], sizes[2], sizes[3] * qfac(header))
    matrix[:3, 3] = offset
    return matrix


def qfac(header: Header) -> float:
    """Return the sign of the third axis; the standard reads 0 as 1."""
    return -1.0 if header["pixdim"][0] < 0 else 1.0


def _is_singular(affine: NDArray[np.float64]) -> bool:
    """Tell whether an axis has no length, or the axes do not span space, to float32's precision."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return bool((lengths == 0).any() or abs(np.linalg.det(affine[:3, :3] / lengths)) < _ROUNDING)


def _orientation_invalid(form: str, received: str) -> ScanRefusedError:
    return nifti_invalid(
        "orientation-invalid",
        "Orientation matrix invalid",
        f"a finite, invertible {form}",
        f"one that is {received}" if received in {"singular", "not finite"} else received,
        "Convert the scan again from DICOM with dcm2niix.",
    )


def _same_sides(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Tell whether two affines agree on handedness, and on which voxels lie to the left."""
    same_hand = np.linalg.det(one[:3, :3]) * np.linalg.det(other[:3, :3]) > 0
    return bool(same_hand and one[0, :3] @ other[0, :3] > 0)
