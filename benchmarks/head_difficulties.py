"""What a head can have that a template has not, put into a real scan: for `benchmarks/alignment.py`.

Every difficulty leaves the skull where it is, so that the transform of the unchanged scan stays the truth.
Places are given in MNI152 world space, RAS millimetres.
"""

# ruff: noqa: PLR2004 - places, sizes and Hounsfield units are the data of this module
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from processor.alignment.space import Affine, Floats, StoredVolume, resample, voxel_sizes_mm
from processor.alignment.template import load_template

Difficulty: TypeAlias = Callable[[StoredVolume, "Anatomy"], StoredVolume]

SEED = 61


class Anatomy:
    """Where the voxels of a scan lie in the template.

    Args:
        volume: The scan, in Hounsfield units.
        to_scan: (4, 4), MNI152 world space to scan world space.
    """

    def __init__(self, volume: StoredVolume, to_scan: Affine) -> None:
        template = load_template()
        self._to_mni = np.linalg.inv(to_scan) @ volume.affine
        self._shape = volume.stored.shape
        to_distance = template.to_distance @ self._to_mni
        self.distance_mm = resample(template.distance_mm, to_distance, volume.stored.shape, outside=-100)

    def coordinate_mm(self, axis: int) -> npt.NDArray[np.floating[Any]]:
        """Return one coordinate of every voxel."""
        i, j, k = np.ogrid[tuple(slice(length) for length in self._shape)]
        row = self._to_mni[axis]
        return np.asarray(row[0] * i + row[1] * j + row[2] * k + row[3], np.float32)

    def radius(
        self, centre_mm: tuple[float, float, float], half_axes_mm: tuple[float, float, float]
    ) -> Floats:
        """Return every voxel's distance to a point, in half axes of an ellipsoid around it."""
        square = np.zeros(self._shape, np.float32)
        for axis, (centre, half) in enumerate(zip(centre_mm, half_axes_mm, strict=True)):
            square += ((self.coordinate_mm(axis) - centre) / half) ** 2
        return np.sqrt(square)


def midline_shift(volume: StoredVolume, anatomy: Anatomy) -> StoredVolume:
    """Push the midline 12 mm to the left, fading to nothing at the skull."""
    push = np.exp(-(anatomy.radius((-15, -20, 20), (45, 55, 40)) ** 2)) * np.clip(
        anatomy.distance_mm / 12, 0, 1
    )
    voxels = 12 * push / np.linalg.norm(volume.affine[:, 0])
    at = np.indices(volume.stored.shape, np.float32)
    at[0] += voxels * np.sign(volume.affine[0, 0])
    return _with(volume, ndimage.map_coordinates(volume.stored, at, order=1, mode="nearest"))


def haematoma(volume: StoredVolume, anatomy: Anatomy) -> StoredVolume:
    """Put a lens of 70 HU under the right skull and a clot of 40 ml into the left hemisphere."""
    lens = (anatomy.radius((62, -20, 30), (22, 55, 45)) < 1) & (anatomy.distance_mm > -2)
    clot = anatomy.radius((-28, -5, 5), (18, 26, 20)) < 1
    return _with(volume, np.where(lens | clot, 70, volume.stored))


def bright_vessels(volume: StoredVolume, anatomy: Anatomy) -> StoredVolume:
    """Fill the superior sagittal and transverse sinuses and the arteries at the base with 380 HU."""
    rim = (anatomy.distance_mm > -5) & (anatomy.distance_mm < 4)
    x, y, z = (anatomy.coordinate_mm(axis) for axis in range(3))
    sagittal = rim & (np.abs(x) < 5) & (z > 0)
    transverse = rim & (np.abs(z + 22) < 5) & (y < -50)
    circle = (np.abs(anatomy.radius((0, 5, -18), (22, 22, 12)) - 1) < 0.15) & (np.abs(z + 18) < 5)
    return _with(volume, np.where(sagittal | transverse | circle, 380, volume.stored))


def missing_bone_flap(volume: StoredVolume, anatomy: Anatomy) -> StoredVolume:
    """Take out the bone of the left side within 50 mm of a point above the ear."""
    flap = (anatomy.radius((-75, -15, 40), (50, 50, 50)) < 1) & (volume.stored > 100)
    return _with(volume, np.where(flap, 40, volume.stored))


def metal(volume: StoredVolume, anatomy: Anatomy) -> StoredVolume:
    """Put a coil of 10 mm at the skull's base, with streaks of up to 600 HU through its slices."""
    x, y, z = (anatomy.coordinate_mm(axis) for axis in range(3))
    x, y, z = x - 8, y - 5, z + 15
    angle, distance = np.arctan2(y, x), np.hypot(x, y)
    streaks = 600 * np.sin(16 * angle) * np.exp(-distance / 50) * (np.abs(z) < 7)
    hu = np.where(anatomy.radius((8, 5, -15), (5, 5, 5)) < 1, 3071, volume.stored + streaks)
    return _with(volume, np.clip(hu, -1024, 3071))


def thick_slices_with_gaps(volume: StoredVolume, anatomy: Anatomy) -> StoredVolume:
    """Keep every fourth slice: 6 mm from one to the next."""
    del anatomy
    return dataclasses.replace(
        volume, stored=volume.stored[:, :, ::4], affine=volume.affine @ np.diag([1.0, 1, 4, 1])
    )


def noise(volume: StoredVolume, anatomy: Anatomy) -> StoredVolume:
    """Add noise of 60 HU in every voxel, as of a tenth of the dose."""
    del anatomy
    added = np.random.default_rng(SEED).normal(0, 60, volume.stored.shape)
    return _with(volume, np.clip(volume.stored + added, -1024, 3071))


def large_missing_bone_flap(volume: StoredVolume, anatomy: Anatomy) -> StoredVolume:
    """Take out the bone of the whole left side and let the brain bulge: more than surgeons do."""
    flap = (anatomy.radius((-75, -20, 35), (80, 90, 80)) < 1) & (volume.stored > 100)
    return _with(volume, np.where(flap, 40, volume.stored))


def very_thick_slices_with_gaps(volume: StoredVolume, anatomy: Anatomy) -> StoredVolume:
    """Keep every seventh slice: 10.5 mm from one to the next."""
    del anatomy
    return dataclasses.replace(
        volume, stored=volume.stored[:, :, ::7], affine=volume.affine @ np.diag([1.0, 1, 7, 1])
    )


def fine_pixels_in_thick_slices(volume: StoredVolume, anatomy: Anatomy) -> StoredVolume:
    """Store the head in voxels of 0.4 x 0.4 x 5 mm."""
    del anatomy
    factors = np.array([0.4, 0.4, 5]) / voxel_sizes_mm(volume.affine)
    shape = np.ceil(volume.stored.shape / factors).astype(int).tolist()
    to_stored = np.diag([*factors, 1.0])
    hu = resample(volume.stored, to_stored, (shape[0], shape[1], shape[2]), outside=-1024)
    return dataclasses.replace(_with(volume, hu), affine=volume.affine @ to_stored)


def half_resolution(volume: StoredVolume, anatomy: Anatomy) -> StoredVolume:
    """Keep every second voxel along every axis."""
    del anatomy
    return dataclasses.replace(
        volume, stored=volume.stored[::2, ::2, ::2], affine=volume.affine @ np.diag([2.0, 2, 2, 1])
    )


def rows_and_columns_swapped(volume: StoredVolume, anatomy: Anatomy) -> StoredVolume:
    """Transpose every slice under the same header: that mirrors the head and turns it by 90 degrees."""
    del anatomy
    return dataclasses.replace(volume, stored=volume.stored.transpose(1, 0, 2))


DIFFICULTIES: tuple[Difficulty, ...] = (
    midline_shift,
    haematoma,
    bright_vessels,
    missing_bone_flap,
    large_missing_bone_flap,
    metal,
    thick_slices_with_gaps,
    very_thick_slices_with_gaps,
    fine_pixels_in_thick_slices,
    half_resolution,
    noise,
    rows_and_columns_swapped,
)


def _with(volume: StoredVolume, hu: npt.NDArray[Any]) -> StoredVolume:
    return dataclasses.replace(volume, stored=np.asfortranarray(np.rint(hu).astype(np.int16)))
