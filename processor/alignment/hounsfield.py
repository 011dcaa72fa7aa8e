"""Whether a volume's values are Hounsfield units of a head, before anything else is believed of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from processor.alignment.errors import AlignmentRefusedError
from processor.alignment.space import Floats, StoredVolume, voxel_sizes_mm

OFFSET_HU = 1024
"""What scanners add to Hounsfield units to store them without a sign."""

_SAMPLED = (6, 6, 3)
"""Every so manieth voxel along each axis; the third is that of slices."""
_LOWEST_PERCENTILE, _HIGHEST_PERCENTILE = 0.1, 99.9
_STORED_TISSUE = (950, 1150)
"""Brain, muscle and water with `OFFSET_HU` added."""
_LEAST_STORED_TISSUE_SHARE = 0.03
_AIR_HU, _BONE_HU = -200, 400
_VOXEL_MM = (0.1, 12.0)
_EXTENT_MM = (60.0, 1100.0)


def check_size(volume: StoredVolume) -> None:
    """Refuse a volume whose header gives it a size no head CT has.

    Raises:
        AlignmentRefusedError: Voxels or the whole are too small or too large.
    """
    sizes = voxel_sizes_mm(volume.affine)
    extents = sizes * volume.stored.shape
    low, high = _VOXEL_MM
    least, most = _EXTENT_MM
    if low <= sizes.min() and sizes.max() <= high and least <= extents.min() and extents.max() <= most:
        return
    raise AlignmentRefusedError(
        code="scan-size-implausible",
        title="Size of the scan implausible",
        detail=f"Expected voxels of {low:g} to {high:g} mm and a scan of {least:g} to {most:g} mm along "
        f"every axis, received voxels of {_by(sizes, 2)} mm and a scan of {_by(extents, 0)} mm. "
        "Export the whole head with its true voxel size.",
    )


def in_hounsfield_units(volume: StoredVolume) -> tuple[StoredVolume, tuple[str, ...]]:
    """Return a volume in Hounsfield units, and in words what had to be changed.

    Raises:
        AlignmentRefusedError: The values are none, or there is no bone.
    """
    i, j, k = _SAMPLED
    sample = volume.to_hu(volume.stored[::i, ::j, ::k])
    low, high = np.percentile(sample, [_LOWEST_PERCENTILE, _HIGHEST_PERCENTILE]).tolist()
    warnings: tuple[str, ...] = ()
    if low > -10 and _stored_tissue_share(sample) > _LEAST_STORED_TISSUE_SHARE:  # noqa: PLR2004 - of air as 0
        volume = dataclasses.replace(volume, intercept=volume.intercept - OFFSET_HU)
        low, high = low - OFFSET_HU, high - OFFSET_HU
        warnings = (f"The values are Hounsfield units plus {OFFSET_HU}; {OFFSET_HU} was subtracted.",)
    if low > _AIR_HU:
        raise AlignmentRefusedError(
            code="not-hounsfield",
            title="Not in Hounsfield units",
            detail=f"Expected Hounsfield units, in which the air around a head is below {_AIR_HU}; received "
            f"values from {low:.0f} to {high:.0f}: windowed, 8-bit, skull-stripped, or no CT. Export the CT "
            "again with its full range of values.",
        )
    if high < _BONE_HU:
        raise AlignmentRefusedError(
            code="bone-missing",
            title="No bone found",
            detail=f"Expected a head CT with its skull, in which bone is above {_BONE_HU} HU; received "
            f"values up to {high:.0f} HU. Export the scan unwindowed, and before the skull is taken off.",
        )
    return volume, warnings


def _stored_tissue_share(sample: Floats) -> float:
    low, high = _STORED_TISSUE
    return float(((sample > low) & (sample < high)).mean())


def _by(values: npt.NDArray[np.float64], digits: int) -> str:
    return " x ".join(f"{value:.{digits}f}" for value in values)
