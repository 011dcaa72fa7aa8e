"""A hypodense territory: where, how large, how dark."""

# ruff: noqa: PLR2004
# The arterial region is drawn in canonical millimetres, as the head is in processor.synthetic.anatomy.

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from scipy import ndimage

from processor.synthetic.anatomy import Head
from processor.synthetic.grid import SHAPE, Array, Mask, smooth_field

Side: TypeAlias = Literal["left", "right"]

SMALLEST_ML, LARGEST_ML = 10.0, 150.0
FAINTEST_HU, DARKEST_HU = -6.0, -15.0
BORDER_MM = 2.0


@dataclass(frozen=True)
class Lesion:
    """A territory to plant.

    Attributes:
        side: The patient's side.
        volume_ml: Volume of the territory.
        depth_hu: Change of intensity at its centre, negative.
    """

    side: Side
    volume_ml: float
    depth_hu: float


def random_lesion(seed: int) -> Lesion:
    """Draw side, volume (10 to 150 ml) and depth (-6 to -15 HU). The same seed gives the same lesion."""
    rng = np.random.default_rng([seed, 2])
    side: Side = "left" if rng.random() < 0.5 else "right"
    # Between uniform and log-uniform: small cores are commoner, large ones still well represented.
    volume_ml = float(rng.uniform(SMALLEST_ML**0.5, LARGEST_ML**0.5) ** 2)
    return Lesion(side, volume_ml, float(rng.uniform(DARKEST_HU, FAINTEST_HU)))


def make_territory(rng: np.random.Generator, head: Head, lesion: Lesion) -> Mask:
    """Choose the voxels of the territory, as compact as the middle cerebral artery's region allows.

    Args:
        rng: Source of place and shape.
        head: The head to plant in.
        lesion: Side and volume. The territory has as many voxels of brain tissue (1 mm, so 0.001 ml) as that
            volume takes, rounded.

    Returns:
        Mask: True in the territory, shape (146, 182, 133).

    Raises:
        ValueError: if the volume is not between 1 voxel and what the region holds (about 200 ml).
    """
    lateral = -head.x if lesion.side == "left" else head.x
    region = (lateral > 18.0) & (head.depth > 1.5) & (head.tissue > 0.5)
    region &= (head.y > -75.0) & (head.y < 42.0) & (head.z > -22.0) & (head.z < 62.0)
    count = round(lesion.volume_ml * 1000)
    available = int(region.sum())
    if not 0 < count <= available:
        message = (
            f"Expected a lesion of 0.001 to {available / 1000:.0f} ml here, got {lesion.volume_ml} ml. "
            "Ask for a volume in that range."
        )
        raise ValueError(message)
    centre = (rng.uniform(34.0, 46.0), rng.uniform(-38.0, 16.0), rng.uniform(2.0, 30.0))
    stretch = rng.uniform(0.8, 1.25, 3)
    away = np.sqrt(
        ((lateral - centre[0]) / stretch[0]) ** 2
        + ((head.y - centre[1]) / (1.25 * stretch[1])) ** 2
        + ((head.z - centre[2]) / stretch[2]) ** 2
    )
    # Ragged in proportion to size, so that a small territory does not fall apart.
    ragged = away * (1.0 + 0.15 * smooth_field(rng, 12.0))
    order = np.where(region, ragged, np.inf).reshape(-1)
    territory = np.zeros(order.size, dtype=np.bool_)
    territory[np.argpartition(order, count - 1)[:count]] = True
    return territory.reshape(SHAPE)


def darken(head: Head, territory: Mask, lesion: Lesion) -> Array:
    """Return the change of HU the territory makes, soft at its border, in tissue only, (146, 182, 133)."""
    change = np.zeros(SHAPE, dtype=np.float32)
    margin = int(4 * BORDER_MM)
    found = ndimage.find_objects(territory.astype(np.uint8))[0]
    box = tuple(
        slice(max(0, axis.start - margin), min(size, axis.stop + margin))
        for axis, size in zip(found, SHAPE, strict=True)
    )
    soft = ndimage.gaussian_filter(territory[box].astype(np.float32), BORDER_MM)
    change[box] = lesion.depth_hu * soft * head.tissue[box]
    return change
