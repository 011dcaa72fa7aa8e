"""The fit of a cavity's surface onto the surface of the template's brain.

Levenberg-Marquardt (Marquardt, 1963) on the signed distance of every surface point to the template's brain,
weighted by Tukey's biweight, so that what is not brain (an eye socket, a gap in the skull) loses its say.
The transform is stepped by the exponential of a combination of generators; which generators are allowed
makes it rigid, a similarity or affine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.linalg import expm

from processor.alignment.coarse import COARSE_MM, CoarseVolume
from processor.alignment.head import Cavity
from processor.alignment.space import Affine, Floats, Points, slopes, transform
from processor.alignment.template import Template

FINAL_POINTS = 6000
TRIAL_POINTS = 1500
"""Enough to tell a good start from a bad one."""

_ARM_MM = 70.0
"""About the brain's radius: a step of 1 moves its surface by about a millimetre, whatever the generator."""
_SCALE_LIMITS = (0.9, 1.2)
"""Of the first guess, from volumes alone."""
_CONVERGED = 1e-4
_MOST_TRIES = 5


@dataclass(frozen=True)
class Stage:
    """One run of the optimiser.

    Attributes:
        generators: (P, 4, 4), of the transforms it may combine.
        iterations: At most.
        tukey_mm: Distance from which on a point has no weight.
    """

    generators: npt.NDArray[np.float64]
    iterations: int
    tukey_mm: float


@dataclass(frozen=True)
class Fit:
    """A transform and how well it fits.

    Attributes:
        to_template: (4, 4), scan world space to MNI152 world space.
        rms_mm: Root mean square of the points' distances to the surface, each capped at the last stage's
            `tukey_mm`.
    """

    to_template: Affine
    rms_mm: float


def _generators(linear: Sequence[Sequence[tuple[int, int, float]]]) -> npt.NDArray[np.float64]:
    """Return generators of the given linear maps and of the three translations."""
    generators = np.zeros((len(linear) + 3, 4, 4))
    for generator, entries in zip(generators, linear, strict=False):
        for row, column, value in entries:
            generator[row, column] = value / _ARM_MM
    generators[-3:, :3, 3] = np.eye(3)
    return generators


_ROTATIONS = [[(b, a, 1.0), (a, b, -1.0)] for a, b in ((1, 2), (2, 0), (0, 1))]
_SCALING = [[(a, a, 1.0) for a in range(3)]]
RIGID = _generators(_ROTATIONS)
SIMILARITY = _generators(_ROTATIONS + _SCALING)
AFFINE = _generators([[(row, column, 1.0)] for row in range(3) for column in range(3)])

STAGES = (Stage(RIGID, 30, 25), Stage(SIMILARITY, 30, 15), Stage(AFFINE, 40, 8))
"""From coarse to fine; distances of outliers are known to count for less the nearer the fit is."""

HALF_TURNS = (np.diag([-1.0, -1, 1]), np.diag([1.0, -1, -1]), np.diag([-1.0, 1, -1]))
"""About the axes z, x, y: how a head would lie whose header lies."""


def surface_points(coarse: CoarseVolume, cavity: Cavity) -> Points:
    """Return at most `FINAL_POINTS` points (N, 3) of a cavity's surface, world space, in random order.

    Points where the field of view ends, or where the neck was cut off, are no surface and left out.
    """
    mask = cavity.mask
    at = np.argwhere(mask & ~ndimage.binary_erosion(mask) & coarse.inside)
    at = at[at[:, 2] > cavity.lowest + 1]
    smooth = ndimage.gaussian_filter(mask.astype(np.float32), 1.0)
    outward = -np.stack([slope[tuple(at.T)] for slope in slopes(smooth, COARSE_MM)], axis=1)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True) + 1e-6
    order = np.random.default_rng(0).permutation(len(at))[:FINAL_POINTS]
    return transform(coarse.affine, (at + outward / 2)[order])


def starts(coarse: CoarseVolume, cavity: Cavity, template: Template) -> list[Affine]:
    """Return the transform that puts centroid on centroid, scaled by the volumes, and its half turns."""
    centroid = transform(coarse.affine, np.argwhere(cavity.mask)).mean(axis=0)
    ratio = template.volume_mm3 / (cavity.volume_ml * 1000)
    scale = float(np.clip(ratio ** (1 / 3), *_SCALE_LIMITS))
    found: list[Affine] = []
    for turn in (np.eye(3), *HALF_TURNS):
        to_template = np.eye(4)
        to_template[:3, :3] = scale * turn
        to_template[:3, 3] = template.centroid_mm - scale * turn @ centroid
        found.append(to_template)
    return found


def fit_surface(points: Points, start: Affine, template: Template, stages: Sequence[Stage] = STAGES) -> Fit:
    """Fit surface points onto the surface of the template's brain.

    Args:
        points: (N, 3), scan world space.
        start: (4, 4), scan world space to MNI152 world space.
        template: The brain.
        stages: One after the other.
    """
    to_template, rms_mm = start, float("inf")
    for stage in stages:
        to_template, distances = _optimise(points, to_template, template, stage)
        rms_mm = float(np.sqrt(np.mean(np.minimum(distances**2, stage.tukey_mm**2))))
    return Fit(to_template, rms_mm)


def _optimise(
    points: Points, to_template: Affine, template: Template, stage: Stage
) -> tuple[Affine, npt.NDArray[np.float64]]:
    """Run one stage; return its transform and the points' signed distances under it."""
    damping = 1e-3
    distances = _distances(template, transform(to_template, points))
    cost = _tukey_cost(distances, stage.tukey_mm)
    for _ in range(stage.iterations):
        normal, slope = _normal_equations(points, to_template, distances, template, stage)
        for _ in range(_MOST_TRIES):
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -slope)
            tried = _stepped(to_template, step, stage.generators, template.centroid_mm)
            tried_distances = _distances(template, transform(tried, points))
            tried_cost = _tukey_cost(tried_distances, stage.tukey_mm)
            if tried_cost < cost:
                break
            damping *= 8
        else:
            break
        gain = cost - tried_cost
        to_template, distances, cost = tried, tried_distances, tried_cost
        damping = max(damping / 4, 1e-6)
        if gain < _CONVERGED * cost:
            break
    return to_template, distances


def _normal_equations(
    points: Points,
    to_template: Affine,
    distances: npt.NDArray[np.float64],
    template: Template,
    stage: Stage,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the weighted J'J, (P, P), and J'r, (P,), of the generators' coefficients."""
    moved = transform(to_template, points)
    arms = np.concatenate([moved - template.centroid_mm, np.ones((len(moved), 1))], axis=1)
    by_entry = (_gradient_at(template, moved)[:, :, None] * arms[:, None, :]).reshape(-1, 12)
    jacobian = by_entry @ stage.generators[:, :3].reshape(-1, 12).T
    weights = np.where(np.abs(distances) < stage.tukey_mm, (1 - (distances / stage.tukey_mm) ** 2) ** 2, 0)
    weighted = jacobian * weights[:, None]
    return jacobian.T @ weighted, weighted.T @ distances


def _stepped(
    to_template: Affine,
    step: npt.NDArray[np.floating[Any]],
    generators: npt.NDArray[np.float64],
    centre: Points,
) -> Affine:
    increment: Affine = expm(np.tensordot(step, generators, axes=1))
    increment[:3, 3] += centre - increment[:3, :3] @ centre
    moved: Affine = increment @ to_template
    return moved


def _distances(template: Template, points_mm: Points) -> npt.NDArray[np.float64]:
    voxels = transform(template.to_distance, points_mm).T
    return np.asarray(
        ndimage.map_coordinates(
            template.distance_mm, voxels, order=1, mode="nearest", output=np.float64, prefilter=False
        ),
        np.float64,
    )


def _gradient_at(template: Template, points_mm: Points) -> Floats:
    """Return the gradient (N, 3) in the nearest voxel: it only points the way, the distances decide."""
    voxels = np.rint(transform(template.to_distance, points_mm)).astype(int)
    i, j, k = np.clip(voxels, 0, np.array(template.distance_mm.shape) - 1).T
    nearest: Floats = template.gradient[i, j, k]
    return nearest


def _tukey_cost(distances: npt.NDArray[np.float64], tukey_mm: float) -> float:
    """Return the mean of Tukey's biweight loss (Beaton and Tukey, 1974)."""
    inner = np.clip(distances / tukey_mm, -1, 1) ** 2
    return float((tukey_mm**2 / 6 * (1 - (1 - inner) ** 3)).mean())
