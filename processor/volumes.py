"""Volumes from NIfTI files: read whole, with a known orientation, or refused in words.

The file may come from anywhere: nothing of its header is believed before `pipeline.nifti` has checked it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip, isal_zlib

from pipeline.errors import ScanRefusedError
from pipeline.nifti.header import NIFTI1_BYTES, VolumeHeader, header_bytes, read_header
from pipeline.nifti.refusals import times
from processor.alignment.coarse import AIR_HU, HIGHEST_HU
from processor.alignment.space import Floats, StoredVolume

MOST_BYTES = 1 << 30
"""Of the voxels of one volume, in memory: 2000 slices of 512 x 512 in 16 bits."""

_MOST_WHOLE_BYTES = 2
"""Of a whole number that stays as it is stored: float32, in which sums are taken, counts to 2^24 only."""
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class ScanVolume:
    """A scan as its file has it.

    Attributes:
        volume: Its voxels, and where they lie in the file's world space, RAS millimetres.
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
        ScanVolume: Whole numbers of up to 16 bits as stored, in native byte order; anything else as finite
            Hounsfield units in float32, slope 1, intercept 0.

    Raises:
        ScanRefusedError: The file is damaged or not a volume; says what was expected.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        with _inflated(file) as content:
            header = _read_header(content)
            stored = _read_voxels(header, content)
    slope, intercept = header.slope, header.intercept
    warnings: tuple[str, ...] = ()
    if stored.dtype.kind == "f" or stored.dtype.itemsize > _MOST_WHOLE_BYTES:
        stored, warnings = _hounsfield_units(stored, slope, intercept)
        slope, intercept = 1.0, 0.0
    orientation = header.orientation
    volume = StoredVolume(stored, slope, intercept, orientation.affine)
    return ScanVolume(volume=volume, xform_code=orientation.xform_code, sha256=sha256, warnings=warnings)


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


def _read_header(content: BinaryIO) -> VolumeHeader:
    """Read as far as the first voxel."""
    block = content.read(NIFTI1_BYTES)
    size = header_bytes(block)
    if size is None:
        raise ScanRefusedError(
            code="not-nifti",
            title="Not a NIfTI file",
            detail="Expected one NIfTI volume (.nii or .nii.gz), received a file without its mark at the "
            "beginning. Convert the scan to NIfTI, dcm2niix does it for DICOM.",
        )
    block += content.read(size - len(block))
    if len(block) < size:
        raise _incomplete(f"a header of {size:,} bytes", f"{len(block):,}")
    header = read_header(block)
    content.read(header.offset_bytes - size)
    return header


def _read_voxels(header: VolumeHeader, content: BinaryIO) -> npt.NDArray[Any]:
    """Read the voxels, which are the rest of the file."""
    size = header.data_bytes
    if size > MOST_BYTES:
        raise ScanRefusedError(
            code="inflated-too-large",
            title="Scan too large",
            detail=f"Expected at most {MOST_BYTES:,} bytes of voxels, received {times(header.shape)} voxels, "
            f"which take {size:,}. Export the head alone, as 16-bit Hounsfield units.",
        )
    buffer, read = np.empty(size, np.uint8), 0
    while read < size:
        chunk = content.read(min(_CHUNK_BYTES, size - read))
        if not chunk:
            raise _incomplete(f"{size:,} bytes of voxels", f"{read:,}")
        buffer[read : read + len(chunk)] = np.frombuffer(chunk, np.uint8)
        read += len(chunk)
    content.read(1)  # a gzip file's checksum is looked at when its end is met
    voxels: npt.NDArray[Any] = buffer.view(header.dtype).reshape(header.shape, order="F")
    if not header.dtype.isnative:
        voxels = voxels.byteswap(inplace=True).view(header.dtype.newbyteorder("="))
    return voxels


def _hounsfield_units(
    stored: npt.NDArray[Any], slope: float, intercept: float
) -> tuple[Floats, tuple[str, ...]]:
    """Return voxels as finite Hounsfield units, and in words what was changed."""
    in_place = stored.itemsize == np.dtype(np.float32).itemsize  # no second large array then
    hu: Floats = stored.view(np.float32) if in_place else np.empty(stored.shape, np.float32, order="F")
    if stored.dtype != np.float32 or (slope, intercept) != (1, 0):
        with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is no finite number below
            for k in range(hu.shape[2]):  # slice by slice: float64 of all voxels would be large
                hu[:, :, k] = stored[:, :, k] * slope + intercept
    odd = int(hu.size - np.isfinite(hu).sum())
    if not odd:
        return hu, ()
    np.nan_to_num(hu, copy=False, nan=AIR_HU, posinf=HIGHEST_HU, neginf=AIR_HU)
    return hu, (f"Not finite numbers: {odd:,} of the voxels. NaN was read as air ({AIR_HU:g} HU).",)


def _incomplete(expected: str, received: str) -> ScanRefusedError:
    return ScanRefusedError(
        code="scan-incomplete",
        title="Scan incomplete",
        detail=f"Expected {expected}, received {received}. The file was cut off on its way, or its header is "
        "wrong: copy or export the scan again.",
    )
