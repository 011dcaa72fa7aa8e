"""The header that is kept of a NIfTI file: a fresh one, which holds no text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ingest.sniff import looks_like
from ingest.source import GZIP_MAGIC
from pipeline.errors import ScanRefusedError
from pipeline.nifti import header as nifti_header
from pipeline.nifti.header import VolumeHeader, read_header
from pipeline.nifti.orientation import qfac
from pipeline.nifti.refusals import times
from pipeline.web.problems import ProblemError

_TEXT_FIELDS = ("descrip", "aux_file", "db_name", "intent_name", "data_type")
_KEPT_FIELDS = (
    *("xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


@dataclass(frozen=True)
class Layout:
    """Where a volume's voxels lie in its file, and how to begin the file that keeps them.

    Attributes:
        offset_bytes: From the file's beginning to its first voxel.
        data_bytes: Of all voxels together.
        description: Shape and type of the voxels in words.
        fresh_header: The first bytes of the file to keep, up to its first voxel, which stays where it is.
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
    total = nifti_header.header_bytes(head)
    if total is not None:
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
    try:
        header = read_header(block)
    except ScanRefusedError as error:
        raise ProblemError(status=422, **error.failure.model_dump()) from error
    return Layout(
        offset_bytes=header.offset_bytes,
        data_bytes=header.data_bytes,
        description=f"{times(header.shape)} voxels of {header.dtype.name}",
        fresh_header=_fresh(header).ljust(header.offset_bytes, b"\0"),
        removed=tuple(
            name
            for name in _TEXT_FIELDS
            if name in header.fields and header.fields[name].tobytes().strip(b"\0 ")
        ),
    )


def _fresh(header: VolumeHeader) -> bytes:
    """Return a new header of the same version and byte order: geometry, type and scaling, nothing else."""
    fields = header.fields
    fresh = type(fields)(endianness=fields.endianness)
    fresh["datatype"] = fields["datatype"]
    fresh["bitpix"] = header.dtype.itemsize * 8
    fresh["dim"] = [len(header.shape), *header.shape, 1, 1, 1, 1]
    sizes = np.nan_to_num(np.abs(fields["pixdim"][1:4]), posinf=0)
    fresh["pixdim"] = [qfac(fields), *sizes, 1, 1, 1, 1]
    for name in _KEPT_FIELDS:
        fresh[name] = fields[name]
    fresh["scl_slope"], fresh["scl_inter"] = header.slope, header.intercept
    fresh["vox_offset"] = header.offset_bytes
    return bytes(fresh.binaryblock)
