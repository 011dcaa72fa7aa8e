"""The template: the brain of MNI152, from which everything here knows where a head belongs.

It is the skull-stripped T1 average of the ICBM 2009a symmetric atlas (Fonov et al., 2009; free to use, copy
and distribute with its notice kept), as the package `nilearn` carries it. `nilearn` is only located, never
imported: that would cost a second and scikit-learn.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from processor.alignment.space import Affine, Floats, Mask, Points, slopes, transform

TEMPLATE_FILE = "nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
TEMPLATE_MM = 2
"""Fine enough for a fit of tenths of a millimetre, since it averages over thousands of points."""
_LEAST_T1 = 20
"""Of 255; the average's blurred edge lies below."""
_MARGIN_MM = 24
"""How far beyond the template distances are known."""


@dataclass(frozen=True)
class Template:
    """The brain of MNI152, 2 mm voxels, axes R, A, S.

    Attributes:
        t1: (X, Y, Z), intensities of the brain, 0 elsewhere.
        brain: (X, Y, Z), the brain with its ventricles.
        affine: (4, 4), voxel space of both to MNI152 world space.
        distance_mm: (X', Y', Z'), signed distance to the brain's surface, positive inside.
        gradient: (X', Y', Z', 3), its derivative along the world's axes.
        to_distance: (4, 4), MNI152 world space to the voxel space of these two.
        centroid_mm: (3,), of the brain, in world space.
        volume_mm3: Of the brain.
    """

    t1: Floats
    brain: Mask
    affine: Affine
    distance_mm: Floats
    gradient: Floats
    to_distance: Affine
    centroid_mm: Points
    volume_mm3: float


def template_path() -> Path:
    """Return where the template lies.

    Raises:
        PackageNotFoundError: `nilearn` is not installed (importlib's).
    """
    return Path(str(importlib.metadata.distribution("nilearn").locate_file(TEMPLATE_FILE)))


@cache
def load_template() -> Template:
    """Read the template; once in a process.

    Raises:
        PackageNotFoundError: `nilearn` is not installed (importlib's).
    """
    image = nib.as_closest_canonical(nib.Nifti1Image.from_filename(template_path()))
    t1, affine = _halved(np.asarray(image.dataobj, np.float32), np.asarray(image.affine, np.float64))
    brain: Mask = ndimage.binary_fill_holes(ndimage.binary_opening(t1 > _LEAST_T1))
    distance_mm, to_distance = _signed_distance(brain, affine)
    return Template(
        t1=t1,
        brain=brain,
        affine=affine,
        distance_mm=distance_mm,
        gradient=np.stack(slopes(distance_mm, TEMPLATE_MM), axis=-1),
        to_distance=to_distance,
        centroid_mm=transform(affine, np.argwhere(brain)).mean(axis=0),
        volume_mm3=float(brain.sum()) * TEMPLATE_MM**3,
    )


def _halved(t1: Floats, affine: Affine) -> tuple[Floats, Affine]:
    """Return means of 2 x 2 x 2 voxels of 1 mm."""
    x, y, z = (length // 2 for length in t1.shape)
    means = t1[: 2 * x, : 2 * y, : 2 * z].reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5))
    shift = np.array([[2, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 2, 0.5], [0, 0, 0, 1]])
    return means, affine @ shift


def _signed_distance(brain: Mask, affine: Affine) -> tuple[Floats, Affine]:
    margin = _MARGIN_MM // TEMPLATE_MM
    padded = np.pad(brain, margin)
    inside = ndimage.distance_transform_edt(padded, sampling=TEMPLATE_MM)
    outside = ndimage.distance_transform_edt(~padded, sampling=TEMPLATE_MM)
    distance = inside - outside
    distance -= np.sign(distance) * TEMPLATE_MM / 2  # the surface lies between voxels, not on their centres
    moved = affine.copy()
    moved[:3, 3] -= affine[:3, :3] @ np.full(3, margin)
    return distance.astype(np.float32), np.linalg.inv(moved)
