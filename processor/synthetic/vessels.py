"""Contrast-filled vessels: carotids, the circle of Willis, middle-cerebral trees, and the dural sinuses."""

from collections.abc import Sequence

import numpy as np

from processor.synthetic.anatomy import Head
from processor.synthetic.grid import ORIGIN_MM, SHAPE, Array, Mask, paint_tubes, polyline

STEP_MM = 0.7
# How likely a branch that enters the territory stops filling there.
OCCLUDED = 0.8

Curve = tuple[Array, Array]


def make_vessels(rng: np.random.Generator, head: Head, territory: Mask | None) -> Array:
    """Return how much of each voxel is vessel, 0 to 1, shape (146, 182, 133).

    Args:
        rng: Source of the branching.
        head: The head they run in.
        territory: Where few vessels fill, or None.
    """
    curves = [*_trunks(rng), *_sinuses(rng)]
    for side in (-1.0, 1.0):
        curves += _middle_cerebral(rng, side)
        curves += _cortical_veins(rng, side)
    curves += _anterior_and_posterior(rng)
    kept = [_unoccluded(rng, _moved(curve, head.shift_mm), territory) for curve in curves]
    points = np.concatenate([points for points, _ in kept])
    radii = np.concatenate([radii for _, radii in kept])
    # A vessel is a lumen inside the skull: whatever a random curve does, it stays there.
    return np.asarray(paint_tubes(points, radii) * np.clip(head.depth + 0.5, 0.0, 1.0), dtype=np.float32)


def _moved(curve: Curve, shift: Array) -> Curve:
    return curve[0] + shift, curve[1]


def _unoccluded(rng: np.random.Generator, curve: Curve, territory: Mask | None) -> Curve:
    """Return the curve up to where it enters the territory if it is one of those that do not fill beyond."""
    points, radii = curve
    # Drawn with or without a territory, so that the same seed has the same vessels elsewhere.
    fills = rng.random() > OCCLUDED
    if territory is None or fills:
        return curve
    voxel = np.rint((points - np.array(ORIGIN_MM)) * np.array([-1.0, 1.0, 1.0])).astype(int)
    voxel = np.clip(voxel, 0, np.array(SHAPE) - 1)
    inside = territory[tuple(voxel.T)]
    end = int(inside.argmax()) if inside.any() else len(points)
    return points[:end], radii[:end]


def _curve(
    rng: np.random.Generator,
    corners: Sequence[tuple[float, float, float]],
    radii: tuple[float, float],
    wander: float,
) -> Curve:
    """Return a wandering curve through `corners`, its radius from the first to the second of `radii`."""
    points = polyline(np.asarray(corners) + rng.normal(0.0, 0.5 * wander, (len(corners), 3)), STEP_MM)
    walk = np.cumsum(rng.normal(0.0, 1.0, points.shape), axis=0)
    bridge = walk - np.linspace(0.0, 1.0, len(points))[:, None] * walk[-1]
    points = points + wander * bridge / max(1.0, float(np.abs(bridge).max()))
    return points.astype(np.float32), np.linspace(*radii, len(points)).astype(np.float32)


def _trunks(rng: np.random.Generator) -> list[Curve]:
    """Return carotid siphons, first segments of the middle cerebral arteries, and the basilar artery."""
    curves = [_curve(rng, [(0, -18, -52), (0, -16, -36), (0, -14, -22)], (1.6, 1.4), 2.0)]
    for side in (-1.0, 1.0):
        siphon = [
            (side * 14, -12, -50),
            (side * 12, -2, -38),
            (side * 11, 8, -32),
            (side * 12, 0, -24),
            (side * 10, 2, -18),
        ]
        curves.append(_curve(rng, siphon, (2.2, 1.8), 1.0))
        curves.append(
            _curve(rng, [(side * 10, 2, -18), (side * 22, 4, -16), (side * 36, 2, -10)], (1.6, 1.3), 2.0)
        )
        curves.append(
            _curve(rng, [(side * 10, 2, -18), (side * 8, -8, -19), (side * 5, -15, -21)], (0.9, 0.9), 1.0)
        )
    return curves


def _on_cortex(side: float, azimuth: float, elevation: float) -> tuple[float, float, float]:
    """Return the point just below the skull seen from the insula (|x| = 20) at these angles (radians), mm."""
    direction = np.array(
        [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)]
    )
    reach = 1.0 / np.sqrt(
        (direction[0] / 43.0) ** 2 + (direction[1] / 66.0) ** 2 + (direction[2] / 62.0) ** 2
    )
    x, y, z = direction * reach * 0.93
    return float(side * (20.0 + x)), float(y - 14.0), float(z + 6.0)


def _middle_cerebral(rng: np.random.Generator, side: float) -> list[Curve]:
    """Return the branches over the insula and out over the convexity of one side."""
    curves = []
    for _ in range(rng.integers(3, 6)):
        rise, back = rng.uniform(0.0, 16.0), rng.uniform(-24.0, 14.0)
        insula = (side * rng.uniform(37.0, 41.0), back, rise)
        curves.append(_curve(rng, [(side * 36, 2, -10), insula], (1.3, 1.1), 2.5))
        for _ in range(rng.integers(3, 6)):
            azimuth = np.clip(back / 40.0 + rng.normal(0.0, 0.6), -1.3, 1.3)
            elevation = rng.uniform(-0.35, 1.15)
            cortex = _on_cortex(side, azimuth, elevation)
            turn = (side * 54.0, 0.5 * (back + cortex[1]), 0.5 * (rise + cortex[2]))
            curves.append(_curve(rng, [insula, turn, cortex], (1.0, 0.7), 4.0))
            beyond = _on_cortex(
                side, azimuth + rng.normal(0.0, 0.25), min(elevation + rng.uniform(0.1, 0.4), 1.4)
            )
            curves.append(_curve(rng, [cortex, beyond], (0.7, 0.5), 3.0))
    return curves


def _anterior_and_posterior(rng: np.random.Generator) -> list[Curve]:
    """Return anterior cerebral arteries along the midline, posterior ones round the midbrain."""
    curves = []
    for side in (-1.0, 1.0):
        arch = [
            (side * 10, 2, -18),
            (side * 2, 12, -14),
            (side * 2, 34, 0),
            (side * 2, 36, 18),
            (side * 2, 8, 34),
            (side * 2, -30, 40),
        ]
        curves.append(_curve(rng, arch, (1.2, 0.7), 2.0))
        for _ in range(3):
            start = (side * 2.0, rng.uniform(-20.0, 34.0), rng.uniform(26.0, 38.0))
            curves.append(
                _curve(rng, [start, (side * 5.0, start[1] + rng.normal(0, 10), 62.0)], (0.8, 0.5), 3.0)
            )
        ring = [
            (side * 2, -14, -21),
            (side * 16, -20, -18),
            (side * 20, -34, -12),
            (side * 14, -60, -2),
            (side * 10, -88, 0),
        ]
        curves.append(_curve(rng, ring, (1.2, 0.7), 2.0))
    return curves


def _sinuses(rng: np.random.Generator) -> list[Curve]:
    """Return superior sagittal, straight and transverse sinuses, one side often larger."""
    angle = np.linspace(-0.9, 2.75, 24)
    sagittal = [(0.0, float(-17 - 85 * np.sin(a - 0.6)), float(5 + 70 * np.cos(a - 0.6))) for a in angle]
    curves = [_curve(rng, sagittal, (1.5, 3.0), 0.5)]
    curves.append(_curve(rng, [(0, -38, 2), (0, -66, -6), (0, -97, -14)], (1.5, 2.2), 1.0))
    larger = float(rng.choice([-1.0, 1.0]))
    for side in (-1.0, 1.0):
        radius = 3.2 if side == larger else float(rng.uniform(1.6, 3.0))
        course = [
            (0, -98, -14),
            (side * 30, -89, -18),
            (side * 52, -66, -24),
            (side * 56, -50, -30),
            (side * 48, -38, -46),
        ]
        curves.append(_curve(rng, course, (radius, radius), 1.0))
    return curves


def _cortical_veins(rng: np.random.Generator, side: float) -> list[Curve]:
    """Return bridging veins that run up the convexity to the superior sagittal sinus."""
    curves = []
    for _ in range(rng.integers(3, 7)):
        azimuth = rng.uniform(-1.0, 0.9)
        lower, upper = _on_cortex(side, azimuth, rng.uniform(0.5, 0.9)), _on_cortex(side, azimuth, 1.3)
        curves.append(_curve(rng, [lower, upper, (side * 3.0, upper[1], 70.0)], (0.7, 1.1), 3.0))
    return curves
