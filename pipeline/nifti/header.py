"""One NIfTI header: which bytes are it, and what it says of its volume.

Only the header's bytes are looked at, never the voxels. Field names are those of the NIfTI-1 and NIfTI-2
standards (https://nifti.nimh.nih.gov/).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import nibabel as nib
import numpy as np

from pipeline.nifti.orientation import Header, Orientation, read_orientation
from pipeline.nifti.refusals import nifti_invalid, times

NIFTI1_BYTES = 352
"""A NIfTI-1 header with the four bytes that announce extensions."""
NIFTI2_BYTES = 544
"""The same of NIfTI-2."""

_MOST_OFFSET_BYTES = 2**24
"""NIfTI-1 writes the offset of its voxels as a float32, which counts whole bytes up to here."""
_REAL_DATATYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_SPACE_AXES = 3


@dataclass(frozen=True)
class VolumeHeader:
    """What a header says, checked.

    Attributes:
        fields: All of them, in the file's byte order.
        shape: Voxels along each axis.
        dtype: Of a voxel, in the file's byte order.
        orientation: Where the voxels lie in the patient.
        slope: Of the values; what is 0 or no number in the file is 1 here, as the standard has it.
        intercept: Of the values.
        offset_bytes: From the file's beginning to its first voxel.
    """

    fields: Header
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    orientation: Orientation
    slope: float
    intercept: float
    offset_bytes: int

    @property
    def data_bytes(self) -> int:
        """Of all voxels together."""
        return math.prod(self.shape) * self.dtype.itemsize


def header_bytes(head: bytes) -> int | None:
    """Return how many bytes a header takes, its extension flag included; None of what is no NIfTI file.

    Args:
        head: The file's first `NIFTI1_BYTES` bytes.
    """
    for size, total, magic in ((348, NIFTI1_BYTES, b"n+1\0"), (540, NIFTI2_BYTES, b"n+2\0\r\n\x1a\n")):
        at = 344 if total == NIFTI1_BYTES else 4
        starts = {size.to_bytes(4, "little"), size.to_bytes(4, "big")}
        if head[:4] in starts and head[at : at + len(magic)] == magic:
            return total
    return None


def read_header(block: bytes) -> VolumeHeader:
    """Check a header.

    Args:
        block: The `header_bytes` first bytes of a file.

    Raises:
        ScanRefusedError: What the header says is impossible, or of a kind that is not accepted; says what.
    """
    kind = nib.Nifti1Header if len(block) == NIFTI1_BYTES else nib.Nifti2Header
    order: Literal["<", ">"] = "<" if block[0] != 0 else ">"
    fields: Header = kind(block[: kind.sizeof_hdr], endianness=order, check=False)  # type: ignore[no-untyped-call]  # nibabel does not type it
    dtype = _dtype(fields).newbyteorder(order)
    shape = _shape(fields)
    orientation = read_orientation(fields)
    slope, intercept = _scaling(fields)
    return VolumeHeader(
        fields=fields,
        shape=shape,
        dtype=dtype,
        orientation=orientation,
        slope=slope,
        intercept=intercept,
        offset_bytes=_offset(fields, len(block)),
    )


def _dtype(header: Header) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code not in _REAL_DATATYPES:
        known = nib.nifti1.data_type_codes
        name = known.label[code] if code in known.code else "unknown"
        raise nifti_invalid(
            "datatype-unsupported",
            "Voxel type not supported",
            "one whole or real number a voxel, up to 64 bits",
            f"datatype {code} ({name})",
            "Export the scan as 16-bit Hounsfield units.",
        )
    return np.dtype(_REAL_DATATYPES[code])


def _shape(header: Header) -> tuple[int, int, int]:
    """Return the three lengths; further axes of length 1 are dropped.

    Raises:
        ScanRefusedError: The lengths are impossible, or this is not one volume.
    """
    count = int(header["dim"][0])
    lengths = [int(length) for length in header["dim"][1 : 1 + count]] if 1 <= count <= 7 else []  # noqa: PLR2004 - NIfTI's
    if not lengths or min(lengths) < 1:
        raise nifti_invalid(
            "dimensions-invalid",
            "Dimensions impossible",
            "1 to 7 axes of at least one entry each",
            f"dim = {[int(d) for d in header['dim']]}",
            "The header is damaged: export the scan again.",
        )
    while len(lengths) > _SPACE_AXES and lengths[-1] == 1:
        lengths.pop()
    if len(lengths) != _SPACE_AXES or min(lengths) == 1:
        many = [
            f"axis {n} has {length}"
            for n, length in enumerate(lengths, start=1)
            if n > _SPACE_AXES and length > 1
        ]
        raise nifti_invalid(
            "not-a-volume",
            "Not one volume",
            "one 3-D volume",
            f"{times(lengths)} entries" + (f" ({', '.join(many)})" if many else ""),
            "Export a single volume of the angiogram: no time series, no single slice, no scout.",
        )
    return lengths[0], lengths[1], lengths[2]


def _offset(header: Header, least: int) -> int:
    offset = float(header["vox_offset"])
    if not (math.isfinite(offset) and least <= offset <= _MOST_OFFSET_BYTES and offset.is_integer()):
        raise nifti_invalid(
            "voxel-offset-invalid",
            "Position of the voxels impossible",
            f"vox_offset from {least} to {_MOST_OFFSET_BYTES}",
            f"{offset:g}",
            "The header is damaged: export the scan again.",
        )
    return int(offset)


def _scaling(header: Header) -> tuple[float, float]:
    """Return slope and intercept; the standard reads a slope of 0 as no scaling."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not (slope and math.isfinite(slope)):
        return 1.0, 0.0
    if not math.isfinite(intercept):
        raise nifti_invalid(
            "scaling-invalid",
            "Scaling impossible",
            "a finite scl_inter beside scl_slope",
            f"{intercept}",
            "The header is damaged: export the scan again.",
        )
    return slope, intercept
