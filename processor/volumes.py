"""Volumes from NIfTI files: read whole, told apart left from right, or refused in words.

Field names are those of the NIfTI-1 and NIfTI-2 standards (https://nifti.nimh.nih.gov/). The file may come
from anywhere: nothing of its header is believed before it is checked.
"""

from __future__ import annotations

import hashlib
import io
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
from processor.detection.grid import GRID_AXES, GRID_SHAPE

Affine: TypeAlias = npt.NDArray[np.float64]
Header: TypeAlias = nib.Nifti1Header
"""nibabel's NIfTI-2 header is a subclass of its NIfTI-1 header."""

AIR_HU = -1024
HIGHEST_HU = 3071
"""With `AIR_HU` the range of 12-bit scanners. NaN becomes air, infinity one of the two."""

_GZIP_MAGIC = b"\x1f\x8b"
_NIFTI1_BYTES, _NIFTI2_BYTES = 348, 540
_MOST_OFFSET_BYTES = 1 << 24
_SPACE_AXES = 3


@dataclass(frozen=True)
class ScanVolume:
    """A volume on the network's grid.

    Attributes:
        hu: (146, 182, 133), array axes L, A, S; Hounsfield units, finite.
        affine: (4, 4), voxel space of `hu` to the file's world space, RAS millimetres.
        xform_code: NIfTI's code of that world space (1 scanner, 2 aligned, 3 Talairach, 4 MNI152).
        sha256: Of the file's bytes, hexadecimal.
        stored_shape: Voxels along each axis of the file.
        voxel_size_mm: Along the same axes.
        orientation: Codes of the same axes, as `LAS`.
        warnings: What was changed, in words.
    """

    hu: npt.NDArray[Any]
    affine: Affine
    xform_code: int
    sha256: str
    stored_shape: tuple[int, int, int]
    voxel_size_mm: tuple[float, float, float]
    orientation: str
    warnings: tuple[str, ...]


def read_volume(path: Path) -> ScanVolume:
    """Read a NIfTI-1 or NIfTI-2 volume, compressed or not, and turn its axes to L, A, S.

    Args:
        path: The file; its name does not matter.

    Returns:
        ScanVolume: Slope and intercept are applied.

    Raises:
        ScanRefusedError: The file is damaged, not a volume, or not on the grid; says what was expected.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        with _inflated(file) as content:
            kind, header = _read_header(content)
            shape = _space_shape(header)
            affine, xform_code = _orientation(header)
            turn = _turn_to_grid(shape, affine)
            image = _read_image(kind, header, content)
    hu, warnings = _finite(np.asarray(image.dataobj).reshape(shape, order="F"))
    turned = nib.orientations.apply_orientation(hu, turn)
    back = nib.orientations.inv_ornt_aff(turn, shape)
    i, j, k = nib.affines.voxel_sizes(affine).tolist()
    return ScanVolume(
        hu=turned,
        affine=affine @ back,
        xform_code=xform_code,
        sha256=sha256,
        stored_shape=shape,
        voxel_size_mm=(i, j, k),
        orientation="".join(nib.orientations.aff2axcodes(affine)),
        warnings=warnings,
    )


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


def _read_header(content: BinaryIO) -> tuple[type[nib.Nifti1Image], Header]:
    start = content.read(_NIFTI1_BYTES)
    kind: type[nib.Nifti1Image]
    if start[344:348] == b"n+1\0":
        kind = nib.Nifti1Image
    elif start[4:8] == b"n+2\0":
        kind = nib.Nifti2Image
        start += content.read(_NIFTI2_BYTES - _NIFTI1_BYTES)
    else:
        raise ScanRefusedError(
            code="not-nifti",
            title="Not a NIfTI file",
            detail="Expected one NIfTI volume (.nii or .nii.gz), received a file without its mark at the "
            "beginning. Convert the scan to NIfTI, dcm2niix does it for DICOM.",
        )
    try:
        header: Header = kind.header_class(start)
        _dtype(header)
    except (nib.spatialimages.HeaderDataError, ValueError, KeyError) as error:
        raise _header_invalid(str(error)) from error
    offset = float(header["vox_offset"])
    if not len(start) <= offset <= _MOST_OFFSET_BYTES:
        raise _header_invalid(f"vox_offset {offset:g} does not lie behind the header")
    return kind, header


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


def _turn_to_grid(shape: tuple[int, int, int], affine: Affine) -> npt.NDArray[Any]:
    """Return nibabel's orientation transform from the file's axes to L, A, S."""
    stored = nib.orientations.io_orientation(affine)
    if np.isnan(stored).any():
        raise _orientation_invalid("one whose axes have no direction")
    grid = nib.orientations.axcodes2ornt(GRID_AXES)
    turn: npt.NDArray[Any] = nib.orientations.ornt_transform(stored, grid)
    turned = [0, 0, 0]
    for length, axis in zip(shape, turn[:, 0], strict=True):
        turned[int(axis)] = length
    if tuple(turned) != GRID_SHAPE:
        raise ScanRefusedError(
            code="not-on-grid",
            title="Not on the grid",
            detail=f"Expected a scan aligned to the MNI152 grid of {_times(GRID_SHAPE)} voxels of 1 mm "
            f"(left, anterior, superior), received {_times(turned)}. Register and resample the "
            "scan to that grid.",
        )
    return turn


def _read_image(kind: type[nib.Nifti1Image], header: Header, content: BinaryIO) -> nib.Nifti1Image:
    """Read the rest of the file; its size was bounded by the check of the shape."""
    start: bytes = header.binaryblock
    missing = int(header["vox_offset"]) - len(start)
    between = content.read(missing)
    size = int(np.prod(GRID_SHAPE)) * _dtype(header).itemsize
    voxels = content.read(size)
    if len(voxels) < size:
        raise _incomplete(f"{size:,} bytes of voxels", f"{len(voxels):,}")
    content.read(1)  # a gzip file's checksum is looked at when its end is met
    file = nib.FileHolder(fileobj=io.BytesIO(b"".join((start, between, voxels))))
    return kind.from_file_map({"image": file})  # type: ignore[no-any-return]  # nibabel's


def _finite(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Make every voxel a finite number of at most 32 bits where it is real; say what was changed."""
    if values.dtype.kind != "f":
        return values, ()
    hu = values.astype(np.float32)
    odd = int(hu.size - np.isfinite(hu).sum())
    if not odd:
        return hu, ()
    np.nan_to_num(hu, copy=False, nan=AIR_HU, posinf=HIGHEST_HU, neginf=AIR_HU)
    return hu, (f"{odd:,} voxels were not finite numbers; NaN was read as air ({AIR_HU} HU).",)


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
