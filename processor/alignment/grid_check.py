"""Whether a volume of the grid's shape is a head that somebody has already aligned.

A look, not a proof: such volumes are usually windowed, so that there is no air to find a head by, and they
are never touched. What is clearly no aligned head is told by the share of tissue where the brain must be;
whether the skull lies around it is a figure to warn by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from processor.alignment.space import resample
from processor.alignment.template import load_template
from processor.detection.grid import GRID_AFFINE, GRID_SHAPE

LEAST_TISSUE_SHARE = 0.7
"""Aligned heads have 0.85 to 0.97, a volume of air or of MR intensities next to nothing."""
LEAST_SKULL_SHARE = 0.9
"""Aligned heads have 0.98 to 1; shifted by 10 mm 0.91 to 0.99, by 20 mm 0.54 to 0.83."""

_TISSUE_HU = (0, 100)
_BONE_HU = 99
"""Windowed to 0 ... 100, bone is 100."""
_STEP = 2
_DEEP_MM = 6
_SKULL_MM = 5
"""Where the skull is looked for outside the brain's surface, give or take as much."""


@dataclass(frozen=True)
class GridCheck:
    """What is where on the grid.

    Attributes:
        tissue_share: Of the deep brain of the template, what has 0 to 100 HU.
        skull_share: Of the surface 5 mm around its upper half, what has bone within 5 mm.
    """

    tissue_share: float
    skull_share: float

    @property
    def aligned(self) -> bool:
        """Whether this can be taken for an aligned head."""
        return self.tissue_share >= LEAST_TISSUE_SHARE

    def figures(self) -> dict[str, float]:
        """Return the figures by name, as a report has them."""
        return {"tissue_share": round(self.tissue_share, 3), "skull_share": round(self.skull_share, 3)}


def check_on_grid(hu: npt.NDArray[Any]) -> GridCheck:
    """Look whether a head lies where the grid has it.

    Args:
        hu: (146, 182, 133), axes L, A, S; windowed or not.
    """
    template = load_template()
    step = np.diag([_STEP, _STEP, _STEP, 1.0])
    x, y, z = (length // _STEP for length in GRID_SHAPE)
    distance_mm = resample(
        template.distance_mm, template.to_distance @ GRID_AFFINE @ step, (x, y, z), outside=-100
    )
    even = hu[: x * _STEP, : y * _STEP, : z * _STEP]
    deep = even[::_STEP, ::_STEP, ::_STEP][distance_mm > _DEEP_MM]
    bone = (even >= _BONE_HU).reshape(x, _STEP, y, _STEP, z, _STEP).any(axis=(1, 3, 5))
    near = ndimage.maximum_filter(bone, size=2 * (_SKULL_MM // _STEP) + 1)
    upper_half = GRID_AFFINE[2, 3] + _STEP * np.arange(z) > 0
    around = (np.abs(distance_mm + _SKULL_MM) <= 1) & upper_half
    low, high = _TISSUE_HU
    return GridCheck(
        tissue_share=float(((deep > low) & (deep < high)).mean()), skull_share=float(near[around].mean())
    )
