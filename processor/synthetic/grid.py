"""The grid of the synthetic scans, and smooth random fields and tubes drawn on it.

The grid is the network's: 146 x 182 x 133 voxels of 1 mm, array axes L, A, S (index 0 of the first axis is
the patient's right), and voxel (i, j, k) at world x = 72 - i, y = -107.5 + j, z = -51.5 + k mm (RAS, MNI152).
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from processor.detection.grid import GRID_AFFINE, GRID_SHAPE

Array: TypeAlias = npt.NDArray[np.float32]
Mask: TypeAlias = npt.NDArray[np.bool_]

SHAPE = GRID_SHAPE
AFFINE = GRID_AFFINE
ORIGIN_MM: tuple[float, float, float] = tuple(GRID_AFFINE[:3, 3].tolist())
# The network cuts the array between i = 72 (x = 0) and i = 73 (x = -1): its mirror plane is between them.
MIDLINE_MM = -0.5


def world_axes() -> tuple[Array, Array, Array]:
    """Return world x (146, 1, 1), y (1, 182, 1) and z (1, 1, 133) of the voxel centres, in mm."""
    i, j, k = (np.arange(n, dtype=np.float32) for n in SHAPE)
    x = (ORIGIN_MM[0] - i)[:, None, None]
    y = (ORIGIN_MM[1] + j)[None, :, None]
    z = (ORIGIN_MM[2] + k)[None, None, :]
    return x, y, z


def _spread(size: int, spacing: float) -> Array:
    """Return the (size, nodes) matrix spreading nodes `spacing` apart over `size` voxels."""
    nodes = np.arange(-spacing, size + spacing, spacing, dtype=np.float32)
    offset = (np.arange(size, dtype=np.float32)[:, None] - nodes[None, :]) / spacing
    weights = np.exp(-2.0 * offset**2)
    # Dividing by the norm, not the sum, keeps the variance of the field 1 everywhere.
    return np.asarray(weights / np.linalg.norm(weights, axis=1, keepdims=True), dtype=np.float32)


def smooth_field(rng: np.random.Generator, spacing_mm: float, *, symmetry: float = 0.0) -> Array:
    """Draw a smooth Gaussian random field of mean 0 and variance 1.

    Args:
        rng: Source of the node values.
        spacing_mm: Distance of the nodes, about the size of the field's features.
        symmetry: 0 for independent halves, 1 for a field that mirrors itself left to right.

    Returns:
        Array: the field at every voxel of the grid, shape (146, 182, 133).
    """
    a, b, c = (_spread(n, spacing_mm) for n in SHAPE)
    nodes = rng.standard_normal((a.shape[1], b.shape[1], c.shape[1]), dtype=np.float32)
    field = np.tensordot(np.tensordot(a, nodes, 1), c.T, 1)
    field = np.einsum("jb,ibk->ijk", b, field, optimize=True)
    if symmetry:
        mixed = symmetry * (field + field[::-1]) / np.sqrt(2) + (1 - symmetry) * field
        field = mixed / np.sqrt(symmetry**2 + (1 - symmetry) ** 2 + np.sqrt(2) * symmetry * (1 - symmetry))
    return np.ascontiguousarray(field, dtype=np.float32)


def paint_tubes(points_mm: Array, radius_mm: Array) -> Array:
    """Paint spheres strung along curves.

    Args:
        points_mm: Sphere centres in world space, shape (n, 3).
        radius_mm: Sphere radii, shape (n,).

    Returns:
        Array: how much of each voxel a sphere fills, 0 to 1 with a 1 mm soft edge, shape (146, 182, 133).
    """
    painted = np.zeros(SHAPE, dtype=np.float32)
    centre = (points_mm - np.array(ORIGIN_MM)) * np.array([-1.0, 1.0, 1.0])
    reach = np.ceil(radius_mm + 0.5).astype(int)
    for size in np.unique(reach):
        chosen = reach == size
        _paint_spheres(painted, centre[chosen], radius_mm[chosen], int(size))
    return painted


def _paint_spheres(painted: Array, centre: npt.NDArray[np.float64], radius: Array, reach: int) -> None:
    """Paint into `painted` the spheres at voxel positions `centre` (n, 3), no larger than `reach`."""
    span = np.arange(-reach, reach + 1)
    cube = np.stack(np.meshgrid(span, span, span, indexing="ij"), axis=-1).reshape(-1, 3)
    cube = cube[np.linalg.norm(cube, axis=1) <= reach + 1]
    voxel = np.rint(centre).astype(int)[:, None, :] + cube[None, :, :]
    distance = np.linalg.norm(voxel - centre[:, None, :], axis=-1)
    fraction = np.clip(radius[:, None] + 0.5 - distance, 0.0, 1.0).astype(np.float32)
    seen = ((voxel >= 0) & (voxel < np.array(SHAPE))).all(axis=-1) & (fraction > 0)
    flat = np.ravel_multi_index(tuple(voxel[seen].T), SHAPE)
    np.maximum.at(painted.reshape(-1), flat, fraction[seen])


def polyline(corners_mm: npt.ArrayLike, step_mm: float) -> Array:
    """Return points (n, 3) about `step_mm` apart along the straight lines between `corners_mm` (m, 3)."""
    corners = np.asarray(corners_mm, dtype=np.float32)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    at = np.linspace(0.0, length[-1], max(2, int(length[-1] / step_mm) + 1))
    return np.stack([np.interp(at, length, corners[:, axis]) for axis in range(3)], axis=1).astype(np.float32)
