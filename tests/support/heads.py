"""Raw head CTs made in code: a head around the template's brain, as a scanner would store it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from processor.alignment.space import Affine, StoredVolume, resample
from processor.alignment.template import load_template

AIR_HU = -1024
SKULL_MM = (3, 9)
SCALP_MM = 16
"""Distances from the brain's surface."""
HEAD_SCALE = 0.93
"""MNI152 is larger than most heads."""
SCANNER_SHAPE = (220, 250, 120)
SCANNER_AFFINE = np.array([[-1.0, 0, 0, 110], [0, 1, 0, -145], [0, 0, 2, -120], [0, 0, 0, 1]])
"""(4, 4), voxel to world: axes left, anterior, superior, 1 x 1 x 2 mm, all of the head within."""


@cache
def template_head() -> npt.NDArray[np.float32]:
    """Return a head built around the template's brain, Hounsfield units; where it lies is known exactly.

    Skull and scalp are shells; shape and place are those of `Template.distance_mm`.
    """
    template = load_template()
    depth = template.distance_mm
    t1 = np.pad(template.t1, [(a // 2, a // 2) for a in np.subtract(depth.shape, template.t1.shape)])
    noise = np.random.default_rng(3).normal(0, 4, depth.shape)
    hu = np.where(depth > -SCALP_MM, 40, AIR_HU)
    hu = np.where((depth < -SKULL_MM[0]) & (depth > -SKULL_MM[1]), 900, hu)
    hu = np.where(depth > -SKULL_MM[0], 8 + t1 * 0.18 + noise, hu)
    return np.asarray(hu, np.float32)


def moved(
    degrees: Sequence[float] = (0, 0, 0), shift_mm: Sequence[float] = (0, 0, 0), scale: float = HEAD_SCALE
) -> Affine:
    """Return the (4, 4) motion of a head: scaled, turned about x, y, z, then shifted; world to world."""
    motion = np.eye(4)
    motion[:3, :3] = scale * Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    motion[:3, 3] = shift_mm
    return motion


def raw_head(
    motion: Affine | None = None,
    *,
    affine: Affine = SCANNER_AFFINE,
    shape: tuple[int, int, int] = SCANNER_SHAPE,
) -> StoredVolume:
    """Return the head as a scanner stores it.

    Args:
        motion: (4, 4), from where the head lies in MNI152 world space to where it lies in the scanner's.
        affine: (4, 4), voxel to world.
        shape: Voxels.
    """
    to_template = np.linalg.inv(moved() if motion is None else motion) @ affine
    hu = resample(template_head(), load_template().to_distance @ to_template, shape, outside=AIR_HU)
    return StoredVolume(np.rint(hu).astype(np.int16), 1, 0, affine)
