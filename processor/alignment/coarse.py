"""The scan as the search for the head sees it: voxels of 3 mm along the world's axes.

Resampling by the whole affine takes out what a scan's axes have of obliquity and of the shear that a tilted
gantry leaves, so that everything after it works on plain boxes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from processor.alignment.space import (
    Affine,
    Floats,
    Mask,
    StoredVolume,
    corners,
    resample,
    transform,
    voxel_sizes_mm,
)

COARSE_MM = 3.0
AIR_HU = -1024.0
HIGHEST_HU = 3071.0
"""With `AIR_HU` the range of 12-bit scanners; padding and metal lie beyond it."""
_EDGE_VOXELS = 3
"""So near the edge of the field of view, a surface may be where the scan ends and not where the head does."""


@dataclass(frozen=True)
class CoarseVolume:
    """A scan in voxels of 3 mm, axes R, A, S.

    Attributes:
        hu: (x, y, z), clipped to 12 bits; air beyond the field of view.
        affine: (4, 4), voxel space to world space.
        inside: (x, y, z), True well within the field of view.
    """

    hu: Floats
    affine: Affine
    inside: Mask


def coarsen(volume: StoredVolume) -> CoarseVolume:
    """Return a volume in voxels of 3 mm along the axes of the world."""
    means, means_affine = _block_means(volume)
    world = transform(means_affine, corners(means.shape))
    low, high = world.min(axis=0), world.max(axis=0)
    x, y, z = (np.ceil((high - low) / COARSE_MM).astype(int) + 1).tolist()
    affine = np.diag([COARSE_MM, COARSE_MM, COARSE_MM, 1.0])
    affine[:3, 3] = low
    to_means = np.linalg.inv(means_affine) @ affine
    covered = resample(np.ones(means.shape, np.float32), to_means, (x, y, z), outside=0, order=0)
    eroded = ndimage.binary_erosion(np.pad(covered > 0, 1), iterations=_EDGE_VOXELS)
    return CoarseVolume(
        hu=resample(means, to_means, (x, y, z), outside=AIR_HU),
        affine=affine,
        inside=eroded[1:-1, 1:-1, 1:-1],
    )


def _block_means(volume: StoredVolume) -> tuple[Floats, Affine]:
    """Return the means of blocks of about 3 mm, Hounsfield units, and their affine."""
    sizes_mm = voxel_sizes_mm(volume.affine)
    factors: list[int] = np.maximum(1, np.round(COARSE_MM / sizes_mm)).astype(int).tolist()
    shape = [length // factor for length, factor in zip(volume.stored.shape, factors, strict=True)]
    sums = np.empty(shape, np.float32)
    for k in range(shape[2]):
        slab = volume.stored[:, :, k * factors[2] : (k + 1) * factors[2]]
        sums[:, :, k] = _block_sums(slab.sum(axis=2, dtype=np.float32), factors[0], factors[1])
    means = np.clip(volume.to_hu(sums / np.prod(factors)), AIR_HU, HIGHEST_HU)
    to_stored = np.diag([*factors, 1.0])
    to_stored[:3, 3] = (np.array(factors) - 1) / 2
    return means, volume.affine @ to_stored


def _block_sums(plane: npt.NDArray[Any], i: int, j: int) -> npt.NDArray[Any]:
    """Return the sums of blocks of i x j pixels; what is left at the far edges is dropped."""
    rows, columns = plane.shape[0] // i, plane.shape[1] // j
    lines = plane[:, : columns * j].reshape(plane.shape[0], columns, j).sum(axis=2)
    sums: npt.NDArray[Any] = lines[: rows * i].reshape(rows, i, columns).sum(axis=1)
    return sums
