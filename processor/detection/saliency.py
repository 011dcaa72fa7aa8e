"""From the network's two hemisphere maps to the saliency map of the whole volume.

Every step to the levels is that of the public code, number for number; it is a map of the regions that moved
the estimate. A second map beside it, which the public code does not make, keeps the unit of the raw one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from processor.detection.grid import GRID_SHAPE, HEMISPHERE_SHAPE, Volume, join_hemispheres, split_hemispheres

Array: TypeAlias = npt.NDArray[np.float32]
Levels: TypeAlias = npt.NDArray[np.int16]
Voxel: TypeAlias = tuple[int, int, int]
Side: TypeAlias = Literal["left", "right"]

FULL_SCALE = 100
"""What the maximum of a hemisphere map is scaled to, before smoothing takes some of it."""
HALF_SCALE = 50
"""Voxels above it decide the side."""
SIGMA_VOXELS = 1.5
TRUNCATE_SIGMAS = 4.0


@dataclass(frozen=True)
class SaliencyMap:
    """The map of one volume.

    Attributes:
        levels: (146, 182, 133) on the grid, whole numbers in 0 ... 100, zero on one side.
        fixed: The same hemisphere map on the same side, enlarged and smoothed alike, but neither scaled nor
            rounded: in units of the network's output per feature, so that scans can be compared.
        raw_max: Maximum of the chosen hemisphere map before scaling.
        side: The patient's side that carries the map; None where the map is zero everywhere.
        peak: Voxel of the largest level; of several the one nearest to their centre. None as for `side`.
    """

    levels: Volume
    fixed: Volume
    raw_max: float
    side: Side | None
    peak: Voxel | None


def saliency_map(left_map: Array, right_map: Array, normalised: Array) -> SaliencyMap:
    """Make the map of the whole volume.

    Args:
        left_map: (10, 23, 17), the network's map of the left hemisphere, not negative.
        right_map: The same of the right hemisphere, mirrored onto the left.
        normalised: (146, 182, 133), what the network was shown.

    Returns:
        SaliencyMap: On the grid.
    """
    # Compared after enlarging, which shows less of some cells than of others.
    left_large, right_large = (enlarge(part, HEMISPHERE_SHAPE) for part in (left_map, right_map))
    right_larger = _sum(right_large) > _sum(left_large)
    chosen, chosen_small = (right_large, right_map) if right_larger else (left_large, left_map)
    raw_max = float(chosen.max())
    if not raw_max > 0:
        nothing = np.zeros(GRID_SHAPE, np.float32)
        return SaliencyMap(nothing, nothing, 0.0, None, None)
    half_levels = _smooth(_scale(chosen))
    side = _darker_side(normalised, half_levels > HALF_SCALE)
    levels = _on_side(half_levels, side)
    return SaliencyMap(levels, _on_side(_enlarge_smoothly(chosen_small), side), raw_max, side, _peak(levels))


def enlarge(small: Array, shape: Voxel) -> Array:
    """Enlarge a map by nearest neighbour, as `skimage.transform.resize(order=0)` does.

    Voxel o of `shape` takes its value from where its centre falls: floor((o + 1/2) n / N).
    """
    index = [
        (2 * np.arange(large) + 1) * few // (2 * large) for few, large in zip(small.shape, shape, strict=True)
    ]
    return small[np.ix_(*index)]


def _sum(part: Array) -> float:
    return float(part.sum(dtype=np.float64))


def _scale(part: Array) -> Levels:
    """Scale to a maximum of 100 and drop the fractions."""
    levels: Levels = (part / part.max() * FULL_SCALE).astype(np.int16)
    return levels


def _smooth(levels: Levels) -> Levels:
    """Smooth by a Gaussian; the array is of integers, so that fractions are dropped after every axis."""
    smoothed = np.empty_like(levels)
    ndimage.gaussian_filter(levels, SIGMA_VOXELS, output=smoothed, truncate=TRUNCATE_SIGMAS)
    return smoothed


def _enlarge_smoothly(small: Array) -> Array:
    """Enlarge a map to a hemisphere and smooth it as `enlarge` and `_smooth` do, but in floating point.

    Both are linear and go axis by axis: together they are one small matrix for each axis.
    """
    smoothed: npt.NDArray[np.float64] = small.astype(np.float64)
    for cells, voxels in zip(small.shape, HEMISPHERE_SHAPE, strict=True):
        # The axis in front is replaced by its enlargement at the end: after three turns all are in order.
        smoothed = np.tensordot(smoothed, _spread(cells, voxels), axes=(0, 0))
    return smoothed.astype(np.float32)


@cache
def _spread(cells: int, voxels: int) -> npt.NDArray[np.float64]:
    """Return what each cell of an axis adds to each of its voxels, (cells, voxels)."""
    enlarged = np.eye(cells)[:, (2 * np.arange(voxels) + 1) * cells // (2 * voxels)]
    spread: npt.NDArray[np.float64] = ndimage.gaussian_filter1d(
        enlarged, SIGMA_VOXELS, axis=1, truncate=TRUNCATE_SIGMAS
    )
    return spread


def _on_side(hemisphere: npt.NDArray[Any], side: Side) -> Volume:
    """Put a hemisphere's map, (73, 182, 133), on a side of the whole volume; the other side is zero."""
    nothing = np.zeros_like(hemisphere)
    return join_hemispheres(*((hemisphere, nothing) if side == "left" else (nothing, hemisphere)))


def _darker_side(normalised: Array, where: npt.NDArray[np.bool_]) -> Side:
    """Return the side of lower mean intensity; an infarct is darker than the tissue opposite."""
    left, right = (float(part[where].mean(dtype=np.float64)) for part in split_hemispheres(normalised))
    return "right" if right < left else "left"


def _peak(levels: Volume) -> Voxel:
    highest = np.argwhere(levels == levels.max())
    distance = ((highest - highest.mean(axis=0)) ** 2).sum(axis=1)
    i, j, k = highest[distance.argmin()].tolist()
    return i, j, k
