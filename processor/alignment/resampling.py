"""From a scan onto the grid, and from the grid back onto the scan: at most one linear interpolation each."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from processor.alignment.coarse import AIR_HU, HIGHEST_HU
from processor.alignment.space import Affine, Floats, StoredVolume, corners, resample, transform
from processor.detection.grid import GRID_AFFINE, GRID_SHAPE


def onto_grid(volume: StoredVolume, to_scan: Affine) -> npt.NDArray[np.int16]:
    """Return a scan on the network's grid.

    Args:
        volume: In Hounsfield units.
        to_scan: (4, 4), MNI152 world space to scan world space.

    Returns:
        ndarray: (146, 182, 133), axes L, A, S; whole Hounsfield units of 12 bits, air beyond the scan.
    """
    to_stored = np.linalg.inv(volume.affine) @ to_scan @ GRID_AFFINE
    air = (AIR_HU - volume.intercept) / volume.slope
    stored = resample(volume.stored, to_stored, GRID_SHAPE, outside=air)
    return np.rint(np.clip(volume.to_hu(stored), AIR_HU, HIGHEST_HU)).astype(np.int16)


def onto_scan(levels: Floats, to_voxel: Affine, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Return a saliency map on a scan's own voxels.

    Args:
        levels: (146, 182, 133) on the grid, whole numbers 0 ... 100.
        to_voxel: (4, 4), voxel space of the grid to voxel space of the scan.
        shape: Of the scan.

    Returns:
        ndarray: Of that shape, whole numbers 0 ... 100, 0 outside of the grid.
    """
    turned = _turned(levels, to_voxel)
    if turned is not None and turned.shape == shape:
        return turned.astype(np.uint8)
    on_scan = np.zeros(shape, np.uint8, order="F")  # as NIfTI stores it; untouched pages take no memory
    box = _box(levels, to_voxel, shape)
    if box is None:
        return on_scan
    low, high = box
    from_box = np.linalg.inv(to_voxel) @ _moved(low)
    i, j, k = (high - low).tolist()
    part = resample(levels, from_box, (i, j, k), outside=0)
    on_scan[low[0] : high[0], low[1] : high[1], low[2] : high[2]] = np.rint(part, out=part)
    return on_scan


def _turned(levels: Floats, to_voxel: Affine) -> Floats | None:
    """Return a map whose axes are swapped and reversed as an affine says, None if that does more."""
    axes = nib.orientations.io_orientation(to_voxel)
    back = nib.orientations.inv_ornt_aff(axes, levels.shape)
    if not np.array_equal(to_voxel @ back, np.eye(4)):
        return None
    turned: Floats = nib.orientations.apply_orientation(levels, axes)
    return turned


def _box(
    levels: Floats, to_voxel: Affine, shape: tuple[int, int, int]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    """Return first and last (exclusive) voxels of the part of a scan in which a map is not zero."""
    found = np.nonzero(levels)
    if not found[0].size:
        return None
    first = np.array([axis.min() - 1 for axis in found])
    last = np.array([axis.max() + 1 for axis in found])
    reached = transform(to_voxel, corners(tuple(last - first + 1)) + first)
    low = np.clip(np.floor(reached.min(axis=0)).astype(int), 0, shape)
    high = np.clip(np.ceil(reached.max(axis=0)).astype(int) + 1, 0, shape)
    return (low, high) if (high > low).all() else None


def _moved(by: npt.NDArray[Any]) -> Affine:
    """Return the translation by some voxels."""
    moved = np.eye(4)
    moved[:3, 3] = by
    return moved
