"""Small NIfTI files on the network's grid, good ones and ones that are spoilt in one way each."""

from __future__ import annotations

import functools
import gzip
import struct
from typing import Any, Literal

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Extension
from numpy.typing import NDArray

SHAPE = (146, 182, 133)
AFFINE = np.array([[-1.0, 0, 0, 72], [0, 1, 0, -107.5], [0, 0, 1, -51.5], [0, 0, 0, 1]])
"""(4, 4), voxel to world, RAS millimetres: axes left, anterior, superior."""


def voxels(shape: tuple[int, ...] = SHAPE) -> NDArray[np.int16]:
    """Return values that differ from place to place and compress well, int16."""
    return (np.arange(np.prod(shape)) // 64 % 100).astype(np.int16).reshape(shape)


def nifti(
    data: NDArray[Any] | None = None,
    *,
    affine: NDArray[np.float64] = AFFINE,
    sform: NDArray[np.float64] | None = None,
    version: type[nib.Nifti1Image] = nib.Nifti1Image,
    byte_order: Literal["<", ">"] = "<",
    text: bytes = b"",
) -> bytes:
    """Return an uncompressed file.

    Args:
        data: The voxels.
        affine: (4, 4), voxel to world, RAS millimetres: qform and, unless another is given, sform.
        sform: (4, 4), the same.
        version: NIfTI-1 or NIfTI-2.
        byte_order: Of header and voxels.
        text: Written into every text field, and as an extension.
    """
    data = voxels() if data is None else data
    header = version.header_class(endianness=byte_order)
    # nibabel would otherwise write float32, the header's own default.
    header.set_data_dtype(data.dtype)
    image = version(data, affine, header)
    image.set_qform(affine, code=1)
    image.set_sform(affine if sform is None else sform, code=1)
    if text:
        for field in ("descrip", "aux_file", "intent_name", "db_name"):
            image.header[field] = text
        image.header.extensions.append(Nifti1Extension("comment", text))
    return bytes(image.to_bytes())


@functools.cache
def good() -> bytes:
    """Return an uncompressed file that is accepted; built once, because it is 7 MB."""
    return nifti()


def patched(file: bytes, at: int, form: str, *values: float) -> bytes:
    """Return a little-endian file with other values in its header.

    Args:
        file: Uncompressed.
        at: Offset in bytes.
        form: Of the values, as `struct` writes it, without the byte order.
        values: The values.
    """
    new = struct.pack(f"<{form}", *values)
    return file[:at] + new + file[at + len(new) :]


def compressed(file: bytes) -> bytes:
    """Return a file as gzip, quickly."""
    return gzip.compress(file, compresslevel=1)
