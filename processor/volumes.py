"""Volumes from NIfTI files: read whole, with a known orientation, or refused in words.

Field names are those of the NIfTI-1 and NIfTI-2 standards (https://nifti.nimh.nih.gov/). The file may come
from anywhere: nothing of its header is believed before it is checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip, isal_zlib

from pipeline.errors import ScanRefusedError
from processor.alignment.coarse import AIR_HU, HIGHEST_HU
from processor.alignment.space import Affine, StoredVolume

Header: TypeAlias = nib.Nifti1Header
"""nibabel's NIfTI-2 header is a subclass of its NIfTI-1 header."""

MOST_BYTES = 1 << 30
"""Of the voxels of one volume, in memory: 2000 slices of 512 x 512 in 16 bits."""

_GZIP_MAGIC = b"\x1f\x8b"
_NIFTI1_BYTES, _NIFTI2_BYTES = 348, 540
_MOST_OFFSET_BYTES = 1 << 24
_SPACE_AXES = 3
_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class ScanVolume:
    """A scan as its file has it.

    Attributes:
        volume: Its voxels as stored, and where they lie in the file's world space, RAS millimetres.
        xform_code: NIfTI's code of that world space (1 scanner, 2 aligned, 3 Talairach, 4 MNI152).
        sha256: Of the file's bytes, hexadecimal.
        warnings: What was changed, in words.
    """

    volume: StoredVolume
    xform_code: int
    sha256: str
    warnings: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along each axis of the file."""
        i, j, k = self.volume.stored.shape
        return i, j, k

    @property
    def voxel_size_mm(self) -> tuple[float, float, float]:
        """Along the same axes."""
        i, j, k = nib.affines.voxel_sizes(self.volume.affine).tolist()
        return i, j, k

    @property
    def orientation(self) -> str:
        """Codes of the same axes, as `LAS`."""
        return "".join(nib.orientations.aff2axcodes(self.volume.affine))

    @property
    def hu_range(self) -> tuple[float, float]:
        """Least and greatest value, as the header scales them."""
        ends = np.array([self.volume.stored.min(), self.volume.stored.max()])
        low, high = sorted(self.volume.to_hu(ends).tolist())
        return low, high


def read_volume(path: Path) -> ScanVolume:
    """Read a NIfTI-1 or NIfTI-2 volume, compressed or not.

    Args:
        path: The file; its name does not matter.

    Returns:
        ScanVolume: Voxels as stored, in native byte order and of at most 32 bits.

    Raises:
        ScanRefusedError: The file is damaged or not a volume; says what was expected.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        with _inflated(file) as content:
            header = _read_header(content)
            shape = _space_shape(header)
            affine, xform_code = _orientation(header)
            stored = _read_voxels(header, shape, content)
    slope, intercept = _scaling(header)
    stored, warnings = _finite(stored, slope, intercept)
    volume = StoredVolume(stored, slope, intercept, affine)
    return ScanVolume(volume=volume, xform_code=xform_code, sha256=sha256, warnings=warnings)


@contextmanager
def _inflated(file: BinaryIO) -> Iterator[BinaryIO]:
    """Give the content of a file that may be gzip; what is wrong with the gzip shows while it is read."""
    compressed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    file.seek(0)
    if not compressed:
        yield file
        return
    try:
        with igzip.GzipFile(fileobj=file) as content:
            yield cast("BinaryIO", content)
    except EOFError as error:
        raise _incomplete("a gzip file with its end", "one that was cut off") from error
    except (igzip.BadGzipFile, isal_zlib.error) as error:  # type: ignore[misc]  # its stub forgets that it is a class
        raise ScanRefusedError(
            code="gzip-damaged",
            title="File damaged",
            detail=f"Expected an intact gzip file, received one that does not inflate ({error}). "
            "Copy or export the scan again, and check it with `gzip -t`.",
        ) from error


def _read_header(content: BinaryIO) -> Header:
    start = content.read(_NIFTI1_BYTES)
    kind: type[Header]
    if start[344:348] == b"n+1\0":
        kind = nib.Nifti1Header
    elif start[4:8] == b"n+2\0":
        kind = nib.Nifti2Header
        start += content.read(_NIFTI2_BYTES - _NIFTI1_BYTES)
    else:
        raise ScanRefusedError(
            code="not-nifti",
            title="Not a NIfTI file",
            detail="Expected one NIfTI volume (.nii or .nii.gz), received a file without its mark at the "
            "beginning. Convert the scan to NIfTI, dcm2niix does it for DICOM.",
        )
    try:
        header = kind(start)
        _dtype(header)
    except (nib.spatialimages.HeaderDataError, ValueError, KeyError) as error:
        raise _header_invalid(str(error)) from error
    offset = float(header["vox_offset"])
    if not len(start) <= offset <= _MOST_OFFSET_BYTES:
        raise _header_invalid(f"vox_offset {offset:g} does not lie behind the header")
    content.read(int(offset) - len(start))
    return header


def _dtype(header: Header) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(header.get_data_dtype())
    return dtype


def _space_shape(header: Header) -> tuple[int, int, int]:
    """Return the three lengths; further axes of length 1 are dropped."""
    count = int(header["dim"][0])
    lengths = [int(length) for length in header["dim"][1 : 1 + count]]
    while len(lengths) > _SPACE_AXES and lengths[-1] == 1:
        lengths.pop()
    kind = _dtype(header).kind
    if len(lengths) != _SPACE_AXES or kind not in "iuf":
        received = f"{_times(lengths)} entries" + ("" if kind in "iuf" else " that are not real numbers")
        raise ScanRefusedError(
            code="not-a-volume",
            title="Not one volume",
            detail=f"Expected one 3-D volume of whole or real numbers, received {received}. Export a single "
            "volume of the angiogram: no time series, no single slice, no colours.",
        )
    return lengths[0], lengths[1], lengths[2]


def _orientation(header: Header) -> tuple[Affine, int]:
    """Return the sform, or the qform where there is none, with its code."""
    try:
        sform, sform_code = header.get_sform(coded=True)
        qform, qform_code = header.get_qform(coded=True)
    except (ValueError, nib.spatialimages.HeaderDataError) as error:
        raise _orientation_invalid(str(error)) from error
    if sform is None and qform is None:
        raise ScanRefusedError(
            code="orientation-unknown",
            title="Orientation unknown",
            detail="Expected sform_code or qform_code above 0, received a header with neither. Without it "
            "left and right can only be guessed. Convert the scan again from DICOM with dcm2niix.",
        )
    for name, form in (("sform", sform), ("qform", qform)):
        if form is not None and not (np.isfinite(form).all() and np.linalg.matrix_rank(form) == len(form)):
            raise _orientation_invalid(f"a {name} that is singular or not finite")
    if sform is None:
        return np.asarray(qform, dtype=np.float64), int(qform_code)
    if qform is not None and (sform[0, :3] @ qform[0, :3] <= 0 or np.linalg.det(sform @ qform) <= 0):
        raise ScanRefusedError(
            code="orientation-contradictory",
            title="Left and right contradictory",
            detail="Expected sform and qform to agree about left and right, received a header in which they "
            "do not. Left and right must be certain: export the scan again with one orientation.",
        )
    return np.asarray(sform, dtype=np.float64), int(sform_code)


def _read_voxels(header: Header, shape: tuple[int, int, int], content: BinaryIO) -> npt.NDArray[Any]:
    """Read the voxels, which are the rest of the file."""
    dtype = _dtype(header)
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size > MOST_BYTES:
        raise ScanRefusedError(
            code="inflated-too-large",
            title="Scan too large",
            detail=f"Expected at most {MOST_BYTES:,} bytes of voxels, received {_times(shape)} voxels, which "
            f"take {size:,}. Export the head alone, as 16-bit Hounsfield units.",
        )
    buffer, read = np.empty(size, np.uint8), 0
    while read < size:
        chunk = content.read(min(_CHUNK_BYTES, size - read))
        if not chunk:
            raise _incomplete(f"{size:,} bytes of voxels", f"{read:,}")
        buffer[read : read + len(chunk)] = np.frombuffer(chunk, np.uint8)
        read += len(chunk)
    content.read(1)  # a gzip file's checksum is looked at when its end is met
    voxels: npt.NDArray[Any] = buffer.view(dtype).reshape(shape, order="F")
    if not dtype.isnative:
        voxels = voxels.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return voxels


def _scaling(header: Header) -> tuple[float, float]:
    """Return slope and intercept; the standard reads a slope of 0 as no scaling."""
    slope, intercept = header.get_slope_inter()
    return (1.0, 0.0) if slope is None else (float(slope), float(intercept))


def _finite(
    stored: npt.NDArray[Any], slope: float, intercept: float
) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Make every voxel a finite number of at most 32 bits where it is real; say what was changed."""
    if stored.dtype.kind != "f":
        return stored, ()
    stored = stored.astype(np.float32, copy=False)
    odd = int(stored.size - np.isfinite(stored).sum())
    if not odd:
        return stored, ()
    air, highest = ((hu - intercept) / slope for hu in (AIR_HU, HIGHEST_HU))
    least, most = (air, highest) if slope > 0 else (highest, air)
    np.nan_to_num(stored, copy=False, nan=air, posinf=most, neginf=least)
    return stored, (f"{odd:,} voxels were not finite numbers; NaN was read as air ({AIR_HU:g} HU).",)


def _times(lengths: Iterable[int]) -> str:
    return " × ".join(map(str, lengths))  # noqa: RUF001 - the multiplication sign is meant


def _incomplete(expected: str, received: str) -> ScanRefusedError:
    return ScanRefusedError(
        code="scan-incomplete",
        title="Scan incomplete",
        detail=f"Expected {expected}, received {received}. The file was cut off on its way, or its header is "
        "wrong: copy or export the scan again.",
    )


def _header_invalid(reason: str) -> ScanRefusedError:
    return ScanRefusedError(
        code="header-invalid",
        title="Header damaged",
        detail=f"Expected a valid NIfTI header, received one that is not: {reason}. Export the scan again.",
    )


def _orientation_invalid(received: str) -> ScanRefusedError:
    return ScanRefusedError(
        code="orientation-invalid",
        title="Orientation matrix invalid",
        detail=f"Expected a finite, invertible orientation matrix, received {received}. "
        "Convert the scan again from DICOM with dcm2niix.",
    )
