"""One synthetic scan, with the truth about what was planted in it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from processor.synthetic.anatomy import make_head
from processor.synthetic.grid import AFFINE, SHAPE, Array, Mask
from processor.synthetic.lesion import Lesion, Side, darken, make_territory
from processor.synthetic.vessels import make_vessels


@dataclass(frozen=True)
class Truth:
    """What was planted.

    Attributes:
        side: The patient's side of the territory, None without one.
        volume_ml: Volume of the territory, 0 without one.
        depth_hu: Change of intensity at its centre, 0 without one.
        territory: True in the territory, shape (146, 182, 133).
        centre_mm: Mean world position (x, y, z) of its voxels, RAS, None without one.
    """

    side: Side | None
    volume_ml: float
    depth_hu: float
    territory: Mask
    centre_mm: tuple[float, float, float] | None


@dataclass(frozen=True)
class SyntheticScan:
    """A scan on the grid of `processor.synthetic.grid` (affine `AFFINE`).

    Attributes:
        volume_hu: Intensity, int16, shape (146, 182, 133), air about -1000.
        truth: What was planted in it.
    """

    volume_hu: npt.NDArray[np.int16]
    truth: Truth


def synthesize(seed: int, lesion: Lesion | None = None) -> SyntheticScan:
    """Make a CT angiogram of a head that never lived.

    Args:
        seed: Chooses the head, the vessels, the noise and the place and shape of the territory.
        lesion: What to plant; None for a scan without lesion. `random_lesion` draws one.

    Returns:
        SyntheticScan: the same for the same arguments, always.

    Raises:
        ValueError: if the lesion does not fit into the head.
    """
    anatomy_rng, vessel_rng, noise_rng, lesion_rng = (
        np.random.default_rng([seed, part, 1]) for part in range(4)
    )
    head = make_head(anatomy_rng)
    territory = None if lesion is None else make_territory(lesion_rng, head, lesion)
    hu = head.hu
    if lesion is not None and territory is not None:
        hu = hu + darken(head, territory, lesion)
    vessels = make_vessels(vessel_rng, head, territory)
    hu = hu + vessels * (vessel_rng.uniform(220.0, 350.0) - hu)
    hu += _noise(noise_rng)
    hu += noise_rng.normal(0.0, 1.0)
    volume_hu = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    return SyntheticScan(volume_hu, _truth(lesion, territory))


def _noise(rng: np.random.Generator) -> Array:
    """Return noise of 3 to 6 HU, a little correlated between neighbours as reconstruction makes it."""
    white = rng.standard_normal(SHAPE, dtype=np.float32)
    kernel = np.array([0.25, 0.5, 0.25], dtype=np.float32) / np.sqrt(np.float32(0.375))
    for axis in range(2):
        white = ndimage.convolve1d(white, kernel, axis=axis)
    return np.asarray(rng.uniform(3.0, 6.0) * white, dtype=np.float32)


def _truth(lesion: Lesion | None, territory: Mask | None) -> Truth:
    if lesion is None or territory is None:
        return Truth(None, 0.0, 0.0, np.zeros(SHAPE, dtype=np.bool_), None)
    voxels = np.argwhere(territory)
    centre = AFFINE[:3, :3] @ voxels.mean(axis=0) + AFFINE[:3, 3]
    x, y, z = (float(value) for value in centre)
    return Truth(lesion.side, len(voxels) / 1000, lesion.depth_hu, territory, (x, y, z))
