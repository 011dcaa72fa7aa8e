"""NIfTI headers: what is accepted of them, and a fresh one that holds no text.

Only the header's bytes are looked at, never the voxels. Field names are those of the NIfTI-1 and NIfTI-2
standards (https://nifti.nimh.nih.gov/).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import nibabel as nib
import numpy as np

from ingest.geometry import Header, qfac, read_affine
from ingest.refusals import invalid, times
from ingest.sniff import looks_like
from ingest.source import GZIP_MAGIC
from pipeline.web.problems import ProblemError

NIFTI1_BYTES = 352
"""A NIfTI-1 header with the four bytes that announce extensions."""
NIFTI2_BYTES = 544
"""The same of NIfTI-2."""

_MAX_OFFSET_BYTES = 2**24
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
_TEXT_FIELDS = ("descrip", "aux_file", "db_name", "intent_name", "data_type")
_KEPT_FIELDS = (
    *("xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)
_SPACE_AXES = 3


@dataclass(frozen=True)
class Layout:
    """Where a volume's voxels lie in its file, and how to begin the file that keeps them.

    Attributes:
        offset_bytes: From the file's beginning to its first voxel.
        data_bytes: Of all voxels together.
        description: Shape and type of the voxels in words.
        fresh_header: The first bytes of the file to keep, up to its first voxel.
        removed: Names of the header fields that held text.
    """

    offset_bytes: int
    data_bytes: int
    description: str
    fresh_header: bytes
    removed: tuple[str, ...]


def header_bytes(head: bytes) -> int:
    """Return how many bytes the header takes that begins with `head`, its extension flag included.

    Raises:
        ProblemError: It is not the header of a NIfTI file.
    """
    for size, total, magic in ((348, NIFTI1_BYTES, b"n+1\0"), (540, NIFTI2_BYTES, b"n+2\0\r\n\x1a\n")):
        at = 344 if total == NIFTI1_BYTES else 4
        starts = {size.to_bytes(4, "little"), size.to_bytes(4, "big")}
        if head[:4] in starts and head[at : at + len(magic)] == magic:
            return total
    if head.startswith(GZIP_MAGIC):
        raise ProblemError(
            status=422,
            code="compressed-twice",
            title="Compressed twice",
            detail="Expected a NIfTI volume, compressed once or not at all; received gzip inside gzip. "
            "Run `gunzip` on it once and submit the result.",
        )
    raise ProblemError(
        status=415,
        code="not-nifti",
        title="Not a NIfTI file",
        detail=f"Expected one NIfTI volume (.nii or .nii.gz), received {looks_like(head)}. "
        "Convert the scan to NIfTI, dcm2niix does it for DICOM, and submit that.",
    )


def read_layout(block: bytes) -> Layout:
    """Check a header.

    Args:
        block: The `header_bytes` first bytes of a file.

    Raises:
        ProblemError: What the header says is impossible, or of a kind that is not accepted; says what.
    """
    kind = nib.Nifti1Header if len(block) == NIFTI1_BYTES else nib.Nifti2Header
    order = "<" if block[0] != 0 else ">"
    header: Header = kind(block[: kind.sizeof_hdr], endianness=order, check=False)  # type: ignore[no-untyped-call]  # nibabel does not type it
    datatype = _datatype(header)
    shape = _shape(header)
    read_affine(header)
    _check_scaling(header)
    return Layout(
        offset_bytes=_offset(header, len(block)),
        data_bytes=math.prod(shape) * datatype.itemsize,
        description=f"{times(shape)} voxels of {datatype.name}",
        fresh_header=_fresh(header, shape) + bytes(4),
        removed=tuple(
            name for name in _TEXT_FIELDS if name in header and header[name].tobytes().strip(b"\0 ")
        ),
    )


def _datatype(header: Header) -> np.dtype[np.generic]:
    code = int(header["datatype"])
    if code not in _REAL_DATATYPES:
        known = nib.nifti1.data_type_codes
        name = known.label[code] if code in known.code else "unknown"
        raise invalid(
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
        ProblemError: The lengths are impossible, or this is not one volume.
    """
    count = int(header["dim"][0])
    lengths = [int(length) for length in header["dim"][1 : 1 + count]] if 1 <= count <= 7 else []  # noqa: PLR2004 - NIfTI's
    if not lengths or min(lengths) < 1:
        raise invalid(
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
        raise invalid(
            "not-a-volume",
            "Not one volume",
            "one 3-D volume",
            f"{times(lengths)} entries" + (f" ({', '.join(many)})" if many else ""),
            "Export a single volume of the angiogram: no time series, no single slice, no scout.",
        )
    return lengths[0], lengths[1], lengths[2]


def _offset(header: Header, least: int) -> int:
    offset = float(header["vox_offset"])
    if not (math.isfinite(offset) and least <= offset <= _MAX_OFFSET_BYTES and offset.is_integer()):
        raise invalid(
            "voxel-offset-invalid",
            "Position of the voxels impossible",
            f"vox_offset from {least} to {_MAX_OFFSET_BYTES}",
            f"{offset:g}",
            "The header is damaged: export the scan again.",
        )
    return int(offset)


def _check_scaling(header: Header) -> None:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope and math.isfinite(slope) and not math.isfinite(intercept):
        raise invalid(
            "scaling-invalid",
            "Scaling impossible",
            "a finite scl_inter beside scl_slope",
            f"{intercept}",
            "The header is damaged: export the scan again.",
        )


def _fresh(header: Header, shape: tuple[int, int, int]) -> bytes:
    """Return a new header of the same version and byte order: geometry, type and scaling, nothing else."""
    fresh = type(header)(endianness=header.endianness)
    fresh["datatype"] = header["datatype"]
    fresh["bitpix"] = np.dtype(_REAL_DATATYPES[int(header["datatype"])]).itemsize * 8
    fresh["dim"] = [_SPACE_AXES, *shape, 1, 1, 1, 1]
    sizes = np.nan_to_num(np.abs(header["pixdim"][1:4]), posinf=0)
    fresh["pixdim"] = [qfac(header), *sizes, 1, 1, 1, 1]
    for name in _KEPT_FIELDS:
        fresh[name] = header[name]
    slope = float(header["scl_slope"])
    scaled = bool(slope) and math.isfinite(slope)
    fresh["scl_slope"] = slope if scaled else 1
    fresh["scl_inter"] = header["scl_inter"] if scaled else 0
    fresh["vox_offset"] = NIFTI1_BYTES if fresh.sizeof_hdr == 348 else NIFTI2_BYTES  # noqa: PLR2004 - the standard's
    return bytes(fresh.binaryblock)
