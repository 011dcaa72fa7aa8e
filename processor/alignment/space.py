"""Affines, points, and volumes whose voxels stay as the file stores them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Affine: TypeAlias = npt.NDArray[np.floating[Any]]
"""(4, 4), of homogeneous coordinates."""
Points: TypeAlias = npt.NDArray[np.floating[Any]]
"""(N, 3)."""
Mask: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StoredVolume:
    """A volume as its file stores it: a large scan is never held as floats.

    Attributes:
        stored: (i, j, k), any real type in native byte order, finite.
        slope: Hounsfield units of one stored unit; not 0.
        intercept: Hounsfield units of a stored 0.
        affine: (4, 4), voxel space to world space.
    """

    stored: npt.NDArray[Any]
    slope: float
    intercept: float
    affine: Affine

    def to_hu(self, values: npt.NDArray[Any]) -> Floats:
        """Return stored values in Hounsfield units."""
        return (values * self.slope + self.intercept).astype(np.float32, copy=False)


def transform(affine: Affine, points: npt.NDArray[Any]) -> Points:
    """Return points (N, 3) moved by an affine."""
    return np.asarray(points @ affine[:3, :3].T + affine[:3, 3], np.float64)


def slopes(values: Floats, voxel_mm: float) -> tuple[Floats, Floats, Floats]:
    """Return the derivatives of a volume along its three axes, per millimetre."""
    x, y, z = (np.gradient(values, voxel_mm, axis=axis) for axis in range(3))
    return x, y, z


def voxel_sizes_mm(affine: Affine) -> npt.NDArray[np.float64]:
    """Return the lengths of the three voxel edges."""
    return np.asarray(np.linalg.norm(affine[:3, :3], axis=0), np.float64)


def rotation_degrees(affine: Affine) -> float:
    """Return the angle of an affine's rotation, by its polar decomposition; it must not mirror."""
    left, _, right = np.linalg.svd(affine[:3, :3])
    cosine = (np.trace(left @ right) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def corners(shape: tuple[int, ...]) -> Points:
    """Return the (8, 3) centres of a volume's corner voxels, in voxel space."""
    ends = [(0.0, length - 1.0) for length in shape]
    return np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 3)


def resample(
    values: npt.NDArray[Any],
    to_voxel: Affine,
    shape: tuple[int, int, int],
    *,
    outside: float,
    order: Literal[0, 1] = 1,
) -> Floats:
    """Resample a volume onto another grid.

    Args:
        values: (i, j, k), read where it lies, without a copy.
        to_voxel: (4, 4), voxel space of the new grid to voxel space of `values`.
        shape: Of the new grid.
        outside: What lies beyond the volume's edge.
        order: 1 linear, 0 nearest neighbour.
    """
    resampled: Floats = ndimage.affine_transform(
        values,
        to_voxel[:3, :3],
        to_voxel[:3, 3],
        output_shape=shape,
        output=np.float32,
        order=order,
        cval=outside,
        prefilter=False,
    )
    return resampled
