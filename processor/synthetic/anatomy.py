"""A head without vessels: skull, scalp, face, brain, ventricles and sulci, a little different every time.

Shapes are given in canonical millimetres: world space, moved so that the mirror plane is x = 0, and bent by a
random pose and a smooth random displacement. Sizes and HU are round numbers of an adult head in MNI152
space.
"""

# ruff: noqa: PLR2004
# A drawing is made of numbers: each compares a coordinate in millimetres, and a name would only repeat it.

from dataclasses import dataclass

import numpy as np

from processor.synthetic.grid import MIDLINE_MM, Array, paint_tubes, polyline, smooth_field, world_axes

AIR_HU, FAT_HU, SOFT_TISSUE_HU, BONE_HU = -1000.0, -80.0, 50.0, 900.0
WHITE_HU, GREY_HU, CSF_HU, FALX_HU, EYE_HU = 34.0, 42.0, 8.0, 58.0, 15.0

BRAIN_CENTRE_MM = (0.0, -17.0, 5.0)
BRAIN_HALF_WIDTH_MM, BRAIN_HALF_LENGTH_MM, BRAIN_ABOVE_MM, BRAIN_BELOW_MM = 65.5, 86.0, 71.0, 63.0
# Above 2, so that the cavity is a little boxier than an ellipsoid.
BRAIN_EXPONENT = 2.5


@dataclass(frozen=True)
class Head:
    """A head on the grid, and what later steps need to know of it.

    Attributes:
        hu: Intensity without vessels, lesion and noise, shape (146, 182, 133).
        x: Canonical x (left negative) of every voxel, mm; y and z likewise.
        depth: Distance inside the skull's inner surface, mm, negative outside; same shape.
        tissue: How much of each voxel is brain tissue, 0 to 1; same shape.
        shift_mm: Mean displacement of the pose, world = canonical + shift, (3,).
    """

    hu: Array
    x: Array
    y: Array
    z: Array
    depth: Array
    tissue: Array
    shift_mm: Array


def make_head(rng: np.random.Generator) -> Head:
    """Draw a head. The same state of `rng` gives the same head."""
    x, y, z, shift = _coordinates(rng)
    outer = _depth_below_ellipsoid(x, y, z)
    above_floor = z - _skull_floor(x, y)
    depth = np.minimum(outer, above_floor).astype(np.float32)
    hu = _outside(rng, outer, above_floor, (x, y, z))
    brain, tissue = _brain(rng, (x, y, z), depth, shift)
    inside = np.clip(depth + 0.5, 0.0, 1.0)
    hu += inside * (brain - hu)
    tissue *= inside
    bone = paint_tubes(*_skull_base(rng, shift))
    hu += bone * (BONE_HU * 0.8 - hu)
    tissue *= 1.0 - bone
    return Head(hu.astype(np.float32), x, y, z, depth, tissue.astype(np.float32), shift)


def _coordinates(rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """Return canonical x, y, z under a random pose (about 2 degrees, 1 mm, 3 %) and bending."""
    wx, wy, wz = world_axes()
    yaw, roll, pitch = rng.normal(0.0, np.deg2rad([1.3, 1.3, 2.0]))
    shift = rng.normal(0.0, [0.7, 1.5, 1.5]).astype(np.float32) + np.array([MIDLINE_MM, 0.0, 0.0], np.float32)
    scale = rng.normal(1.0, [0.012, 0.015, 0.02])
    x, y, z = wx - shift[0], wy - shift[1], wz - shift[2]
    turned = (x + yaw * y + roll * z, y - yaw * x + pitch * z, z - roll * x - pitch * y)
    bent = [
        (axis * size + amplitude * smooth_field(rng, 38.0)).astype(np.float32)
        for axis, size, amplitude in zip(turned, scale, (1.0, 1.6, 1.6), strict=True)
    ]
    return bent[0], bent[1], bent[2], shift


def _depth_below_ellipsoid(x: Array, y: Array, z: Array) -> Array:
    """Return the distance inside the cavity's superellipsoid, mm, negative outside (roughly)."""
    _, centre_y, centre_z = BRAIN_CENTRE_MM
    half_height = np.where(z > centre_z, BRAIN_ABOVE_MM, BRAIN_BELOW_MM).astype(np.float32)
    # An egg: narrower in front.
    half_width = BRAIN_HALF_WIDTH_MM * (1.0 - 0.0012 * (y - centre_y))
    rho = (
        np.abs(x / half_width) ** BRAIN_EXPONENT
        + np.abs((y - centre_y) / BRAIN_HALF_LENGTH_MM) ** BRAIN_EXPONENT
        + np.abs((z - centre_z) / half_height) ** BRAIN_EXPONENT
    ) ** np.float32(1.0 / BRAIN_EXPONENT)
    return np.asarray((1.0 - rho) * BRAIN_HALF_WIDTH_MM, dtype=np.float32)


def _skull_floor(x: Array, y: Array) -> Array:
    """Return the height of the skull base, mm: posterior, middle and anterior fossa, each a step higher."""
    middle = (14.0 - 0.12 * np.abs(x) + 0.1 * y) / (1.0 + np.exp(-(y + 27.0) / 4.0))
    anterior = 23.0 / (1.0 + np.exp(-(y - 24.0) / 4.0))
    # Each orbit lifts the roof above it; the cribriform plate between them lies deeper.
    domed = anterior * (0.8 + 0.25 * np.sin(np.abs(x) / 16.0) - 0.008 * (y - 44.0))
    return np.asarray(middle + domed - 58.0, dtype=np.float32)


def _outside(
    rng: np.random.Generator, outer: Array, above_floor: Array, xyz: tuple[Array, Array, Array]
) -> Array:
    """Return the HU of everything outside the brain: bone, scalp, face with its cavities, air."""
    x, y, z = xyz
    skull, scalp = rng.uniform(5.0, 8.0), rng.uniform(3.0, 6.0)
    texture = smooth_field(rng, 9.0, symmetry=0.6)
    soft = np.where(texture > 0.7, FAT_HU, SOFT_TISSUE_HU)
    soft = np.where((texture < -0.9) & (y > 0), AIR_HU, soft)
    soft = np.where(np.abs(texture + 0.9) < 0.25, BONE_HU * 0.6, soft)
    eye = ((np.abs(x) - 32.0) / 13.0) ** 2 + ((y - 52.0) / 13.0) ** 2 + ((z + 38.0) / 13.0) ** 2
    soft = np.where(eye < 1.8, FAT_HU, soft)
    soft = np.where(eye < 1.0, EYE_HU, soft)
    base = np.where((outer > 0.0) & (above_floor < -0.5 * skull), soft, BONE_HU)
    hu = np.where(outer > -skull, base, np.where(outer > -skull - 1.5, FAT_HU, SOFT_TISSUE_HU))
    skin = np.clip(outer + skull + scalp + 0.5, 0.0, 1.0)
    return np.asarray(AIR_HU + skin * (hu - AIR_HU), dtype=np.float32)


def _brain(
    rng: np.random.Generator, xyz: tuple[Array, Array, Array], depth: Array, shift: Array
) -> tuple[Array, Array]:
    """Return the brain's HU and how much of each voxel is tissue (not CSF or falx)."""
    x, y, z = xyz
    fold = np.abs(smooth_field(rng, 8.0, symmetry=0.45))
    atrophy = rng.uniform(0.6, 1.5)
    cortical = np.clip((20.0 - depth) / 6.0, 0.0, 1.0)
    grey = np.maximum(
        np.clip((4.5 - depth) / 2.0, 0.0, 1.0), np.clip((0.45 - fold) / 0.2, 0.0, 1.0) * cortical
    )
    grey = np.maximum(grey, _deep_grey(x, y, z))
    cerebellum = np.clip((-16.0 - z - 0.25 * (y + 40.0)) / 3.0, 0.0, 1.0) * (y < -25.0)
    grey = np.maximum(grey, 0.7 * cerebellum)
    hu = WHITE_HU + rng.normal(0.0, 1.0) + (GREY_HU - WHITE_HU) * grey
    # Beam hardening and reconstruction leave slow differences of 1 HU or so, left against right too.
    hu += rng.uniform(0.4, 1.0) * smooth_field(rng, 30.0)
    csf = np.clip((0.13 * atrophy - fold) / 0.08, 0.0, 1.0) * cortical * (1.0 - 0.6 * cerebellum)
    for part in (np.clip(1.6 * atrophy - depth, 0.0, 1.0), *_cisterns(x, y, z, depth, atrophy)):
        np.maximum(csf, part, out=csf)
    np.maximum(csf, paint_tubes(*_ventricles(rng, shift, atrophy)), out=csf)
    hu += csf * (CSF_HU - hu)
    falx = np.clip(1.2 - np.abs(x), 0.0, 1.0) * (depth < 28.0) * (z > -5.0)
    hu += falx * (FALX_HU - hu)
    return hu.astype(np.float32), np.asarray((1.0 - csf) * (1.0 - falx), dtype=np.float32)


def _deep_grey(x: Array, y: Array, z: Array) -> Array:
    """Return thalamus, lentiform and caudate nucleus, 0 to 1."""
    side = np.abs(x)
    thalamus = ((side - 11.0) / 8.0) ** 2 + ((y + 17.0) / 13.0) ** 2 + ((z - 8.0) / 8.0) ** 2
    lentiform = ((side - 24.0) / 6.0) ** 2 + ((y - 3.0) / 16.0) ** 2 + ((z - 2.0) / 9.0) ** 2
    caudate = ((side - 13.0) / 4.5) ** 2 + ((y - 14.0) / 9.0) ** 2 + ((z - 10.0) / 9.0) ** 2
    nearest = np.minimum(np.minimum(thalamus, lentiform), caudate)
    return np.asarray(np.clip((1.2 - nearest) / 0.4, 0.0, 1.0), dtype=np.float32)


def _cisterns(x: Array, y: Array, z: Array, depth: Array, atrophy: float) -> list[Array]:
    """Return the large CSF spaces outside the ventricles, each 0 to 1."""
    side = np.abs(x)
    fissure = np.clip(1.6 * atrophy + 0.8 - side, 0.0, 1.0) * (depth < 30.0) * (z > -8.0)
    insula = np.clip(1.4 * atrophy - np.abs(side - 39.0 + 0.1 * np.abs(y)), 0.0, 1.0)
    insula = insula * ((y / 22.0) ** 2 + ((z - 5.0) / 14.0) ** 2 < 1.0)
    # The fissure climbs backwards, and wavers on its way out.
    course = z - 4.0 + 0.35 * y + 3.0 * np.sin(side / 6.0) + 2.0 * np.sin(y / 5.0)
    sylvian = np.clip(1.3 * atrophy - np.abs(course), 0.0, 1.0) * (side > 38.0) * (np.abs(y + 8.0) < 28.0)
    suprasellar = (side / 12.0) ** 2 + ((y + 2.0) / 10.0) ** 2 + ((z + 19.0) / 6.0) ** 2
    midbrain = np.sqrt((side / 1.1) ** 2 + (y + 26.0) ** 2 + (z + 14.0) ** 2)
    ambient = (
        np.clip(1.5 * atrophy - np.abs(midbrain - 19.0), 0.0, 1.0) * (np.abs(z + 13.0) < 9.0) * (y < -18.0)
    )
    fourth = (side / 7.0) ** 2 + ((y + 47.0) / 5.0) ** 2 + ((z + 32.0) / 9.0) ** 2
    pools = np.clip((1.1 - np.minimum(suprasellar, fourth)) / 0.3, 0.0, 1.0)
    return [np.asarray(part, dtype=np.float32) for part in (fissure, insula, sylvian, ambient, pools)]


def _ventricles(rng: np.random.Generator, shift: Array, atrophy: float) -> tuple[Array, Array]:
    """Return sphere centres (n, 3) in world mm and radii (n,) of the lateral and third ventricles."""
    points, radii = [], []
    for side in (-1.0, 1.0):
        wide = (2.8 + 2.4 * atrophy) * rng.normal(1.0, 0.08)
        body = [
            (8, 34, 6),
            (9, 24, 12),
            (11, 5, 20),
            (13, -18, 22),
            (20, -38, 16),
            (25, -52, 9),
            (24, -68, 6),
        ]
        horn = [(24, -42, 8), (33, -28, -8), (31, -12, -16)]
        for corners, radius in ((body, wide), (horn, 0.5 * wide)):
            centres = polyline(
                np.array(corners) * [side, 1, 1] + rng.normal(0.0, 0.8, (len(corners), 3)), 1.5
            )
            taper = np.interp(np.linspace(0.0, 1.0, len(centres)), [0.0, 0.2, 0.7, 1.0], [0.8, 1.0, 1.0, 0.5])
            points.append(centres)
            radii.append(radius * taper)
    third = polyline([(0, -2, -8), (0, -8, 2), (0, -22, 4)], 1.0)
    points.append(third)
    radii.append(np.full(len(third), 1.2 * atrophy))
    return (np.concatenate(points) + shift).astype(np.float32), np.concatenate(radii).astype(np.float32)


def _skull_base(rng: np.random.Generator, shift: Array) -> tuple[Array, Array]:
    """Return sphere centres (n, 3) in world mm and radii (n,) of petrous bones, sphenoid wings and clivus."""
    ridges = [([(0, 2, -34), (0, -14, -42), (0, -26, -56)], 8.0)]
    for side in (-1, 1):
        ridges.append(([(side * 16, -20, -42), (side * 40, -38, -40), (side * 64, -52, -36)], 7.5))
        ridges.append(([(side * 8, 16, -26), (side * 30, 20, -24), (side * 52, 18, -20)], 3.5))
    points = [polyline(np.array(corners) + rng.normal(0.0, 1.0, (3, 3)), 2.0) for corners, _ in ridges]
    radii = [np.full(len(p), radius) for p, (_, radius) in zip(points, ridges, strict=True)]
    return (np.concatenate(points) + shift).astype(np.float32), np.concatenate(radii).astype(np.float32)
