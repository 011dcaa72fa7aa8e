"""Files that no way in lets through, each with the answer it gets."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import numpy as np

from tests.support.nifti_files import AFFINE, compressed, good, nifti, patched, voxels

DIM, DATATYPE, PIXDIM, VOX_OFFSET, SCL_INTER, QFORM, QUATERN, SROW = 40, 70, 76, 108, 116, 252, 256, 280
"""Offsets of NIfTI-1 header fields in bytes."""


def zip_archive() -> bytes:
    """A real one."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("scan.nii", b"voxels")
    return archive.getvalue()


def bad_crc() -> bytes:
    """A gzip whose checksum was damaged on its way."""
    content = bytearray(compressed(good()))
    content[-8] ^= 1
    return bytes(content)


REFUSALS: dict[str, tuple[Callable[[], bytes], int, str, str]] = {
    "an empty file": (lambda: b"", 415, "not-nifti", "an empty file"),
    "a web page": (lambda: b"<!DOCTYPE html><html>" + b" " * 500, 415, "not-nifti", "a web page"),
    "a PNG picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(500), 415, "not-nifti", "a PNG picture"),
    "a ZIP archive without DICOM": (zip_archive, 422, "dicom-none", "without a single DICOM file"),
    "a DICOM file without a header": (
        lambda: bytes(128) + b"DICM" + bytes(500),
        422,
        "dicom-unreadable",
        "headers are damaged",
    ),
    "a compressed PNG": (lambda: compressed(b"\x89PNG\r\n\x1a\n" + bytes(500)), 415, "not-nifti", "PNG"),
    "an MGH volume": (lambda: b"\0\0\0\x01\0\0\0\x92" + bytes(500), 415, "not-nifti", "MGH"),
    "an Analyze header": (lambda: patched(good(), 344, "4s", b"\0\0\0\0"), 415, "not-nifti", "Analyze"),  # type: ignore[arg-type]  # struct takes bytes too
    "half of a pair": (lambda: patched(good(), 344, "4s", b"ni1\0"), 415, "not-nifti", "pair"),  # type: ignore[arg-type]
    "gzip in gzip": (lambda: compressed(compressed(good())), 422, "compressed-twice", "gzip inside gzip"),
    "a gzip cut in its voxels": (lambda: compressed(good())[:-5000], 422, "scan-incomplete", "7,068,152"),
    "a gzip cut in its checksum": (lambda: compressed(good())[:-3], 422, "scan-incomplete", "checksum"),
    "a gzip cut in its header": (lambda: compressed(good())[:40], 422, "scan-incomplete", "header"),
    "a gzip with a wrong CRC": (bad_crc, 422, "gzip-damaged", "checksum"),
    "a gzip followed by garbage": (lambda: compressed(good()) + b"garbage", 422, "gzip-damaged", "gzip -t"),
    "a file cut in its voxels": (lambda: good()[:-1], 422, "scan-incomplete", "received 7,068,151"),
    "a file cut in its header": (lambda: good()[:200], 422, "scan-incomplete", "200 bytes"),
    "huge dimensions without voxels": (
        lambda: patched(good()[:1400], DIM, "4h", 3, 3000, 3000, 700),
        422,
        "scan-incomplete",
        "3000 × 3000 × 700",  # noqa: RUF001 - the multiplication sign is meant
    ),
    "a dimension of 0": (lambda: patched(good(), DIM + 2, "h", 0), 422, "dimensions-invalid", "dim ="),
    "a negative dimension": (
        lambda: patched(good(), DIM + 2, "h", -146),
        422,
        "dimensions-invalid",
        "dim =",
    ),
    "200 dimensions": (lambda: patched(good(), DIM, "h", 200), 422, "dimensions-invalid", "dim ="),
    "two dimensions": (lambda: nifti(voxels((146, 182))), 422, "not-a-volume", "146 × 182"),  # noqa: RUF001
    "a time series": (lambda: nifti(voxels((146, 182, 3, 2))), 422, "not-a-volume", "axis 4 has 2"),
    "datatype 0": (lambda: patched(good(), DATATYPE, "h", 0), 422, "datatype-unsupported", "datatype 0"),
    "datatype 9999": (lambda: patched(good(), DATATYPE, "h", 9999), 422, "datatype-unsupported", "9999"),
    "colours": (lambda: patched(good(), DATATYPE, "h", 128), 422, "datatype-unsupported", "RGB"),
    "complex numbers": (
        lambda: patched(good(), DATATYPE, "h", 32),
        422,
        "datatype-unsupported",
        "complex64",
    ),
    "voxels at 0": (lambda: patched(good(), VOX_OFFSET, "f", 0), 422, "voxel-offset-invalid", "from 352"),
    "voxels nowhere": (lambda: patched(good(), VOX_OFFSET, "f", np.nan), 422, "voxel-offset-invalid", "nan"),
    "voxels far off": (lambda: patched(good(), VOX_OFFSET, "f", 1e9), 422, "voxel-offset-invalid", "1e+09"),
    "an intercept that is none": (
        lambda: patched(good(), SCL_INTER - 4, "2f", 1, np.inf),
        422,
        "scaling-invalid",
        "inf",
    ),
    "an sform of NaN": (
        lambda: patched(good(), SROW, "f", np.nan),
        422,
        "orientation-invalid",
        "not finite",
    ),
    "an sform of zeros": (
        lambda: patched(good(), SROW, "12f", *[0] * 12),
        422,
        "orientation-invalid",
        "sing",
    ),
    "a singular sform": (
        lambda: patched(good(), SROW, "12f", *[1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0]),
        422,
        "orientation-invalid",
        "singular",
    ),
    "a quaternion too long": (
        lambda: patched(good(), QUATERN, "3f", 1, 1, 1),
        422,
        "orientation-invalid",
        "quaternion",
    ),
    "a voxel size of 0": (
        lambda: patched(good(), PIXDIM + 4, "f", 0),
        422,
        "orientation-invalid",
        "sizes 0",
    ),
    "no orientation at all": (
        lambda: patched(good(), QFORM, "2h", 0, 0),
        422,
        "orientation-unknown",
        "neither",
    ),
    "mirrored forms": (
        lambda: nifti(sform=np.diag([-1.0, 1, 1, 1]) @ AFFINE),
        422,
        "orientation-contradictory",
        "agree",
    ),
    "forms turned by 180°": (
        lambda: nifti(sform=np.diag([-1.0, -1, 1, 1]) @ AFFINE),
        422,
        "orientation-contradictory",
        "agree",
    ),
}
