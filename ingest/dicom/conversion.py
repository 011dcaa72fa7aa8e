"""A series' pixels, taken out of their DICOM files by dcm2niix, under an affine of our own.

dcm2niix decodes every syntax that CT comes in. Its geometry is checked, not taken over: for a tilted gantry
its sform has slices a cosine too close (v1.0.20260724), and its corrected volume is resampled.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import dcm2niix
import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from ingest.dicom.series import Series
from ingest.refusals import file_invalid
from pipeline.web.problems import ProblemError

_OPTIONS = (
    *("-b", "n"),  # no side-car: it would carry tags
    *("-z", "n"),
    *("-x", "i"),  # neither crop nor turn
    *("-m", "y"),  # one stack, whatever differs between its slices: that has been looked at
    *("-f", "volume"),
)
_NAME = "volume.nii"
_TOLERANCE_MM = 0.01
_HEADER_BYTES = 348


def convert(series: Series, folder: Path) -> Path:
    """Write a series as an uncompressed NIfTI-1 volume.

    Args:
        series: What to write.
        folder: An empty one to work in.

    Returns:
        The volume, whose sform is the series' affine but for the order of rows and slices.

    Raises:
        ProblemError: dcm2niix cannot decode it, or did not give the volume that the headers describe.
    """
    taken, made = folder / "taken", folder / "made"
    taken.mkdir()
    made.mkdir()
    for number, image in enumerate(series.slices):
        (taken / f"{number:05}.dcm").symlink_to(image.path)
    ended = subprocess.run(  # noqa: S603 - the package's own binary, and paths of our own
        [dcm2niix.bin, *_OPTIONS, "-o", str(made), str(taken)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # it prints what the headers hold
        stderr=subprocess.DEVNULL,
        check=False,
    )
    volume = made / _NAME
    if ended.returncode != 0 or not volume.is_file():
        raise _not_decoded(series)
    _set_geometry(volume, series)
    return volume


def _set_geometry(volume: Path, series: Series) -> None:
    """Check that a volume's rows and slices lie as dcm2niix says, and write the affine that follows."""
    with volume.open("rb") as file:
        header = nib.Nifti1Header.from_fileobj(file)
    first = series.slices[0]
    if header.get_data_shape() != (first.columns, first.rows, len(series.slices)):
        raise _not_decoded(series)
    theirs = header.get_sform()
    for ours in _readings(series):
        if np.allclose(theirs[:3, [0, 1, 3]], ours[:3, [0, 1, 3]], rtol=0, atol=_TOLERANCE_MM):
            break
    else:
        raise _not_decoded(series)
    header.set_sform(ours, code=1)
    header.set_qform(None, code=0)  # a qform holds no shear
    with volume.open("r+b") as file:
        file.write(header.binaryblock[:_HEADER_BYTES])


def _readings(series: Series) -> list[NDArray[np.float64]]:
    """Return the affine for each way to count rows and slices: forwards or backwards."""
    rows, slices = series.slices[0].rows, len(series.slices)
    readings = []
    for back_rows in (True, False):  # dcm2niix counts rows backwards
        for back_slices in (False, True):
            turn = np.eye(4)
            if back_rows:
                turn[1, [1, 3]] = -1, rows - 1
            if back_slices:
                turn[2, [2, 3]] = -1, slices - 1
            readings.append(series.affine @ turn)
    return readings


def _not_decoded(series: Series) -> ProblemError:
    return file_invalid(
        "dicom-not-converted",
        "Series not converted",
        "CT images, uncompressed or as RLE, JPEG, JPEG-LS or JPEG 2000",
        f"images ({series.slices[0].syntax.name}) that dcm2niix does not turn into that volume",
        "Export the series uncompressed (Explicit VR Little Endian), or submit it as NIfTI.",
    )
