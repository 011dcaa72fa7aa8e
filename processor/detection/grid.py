"""The grid of voxels that the network was trained on: MNI152, 1 mm, cropped to the head.

Array axes run to the patient's left, anterior and superior (LAS): index 0 of the first axis is the patient's
right. Voxel (i, j, k) lies at about x = 72 - i, y = -107.5 + j, z = -51.5 + k mm of MNI152 world space.
"""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Volume: TypeAlias = npt.NDArray[np.float32]
ScalarT = TypeVar("ScalarT", bound=np.generic)

GRID_SHAPE = (146, 182, 133)
GRID_AXES = ("L", "A", "S")
GRID_AFFINE: npt.NDArray[np.float64] = np.array(
    [[-1.0, 0.0, 0.0, 72.0], [0.0, 1.0, 0.0, -107.5], [0.0, 0.0, 1.0, -51.5], [0.0, 0.0, 0.0, 1.0]]
)
"""(4, 4), voxel space to MNI152 world space, RAS millimetres."""

MIDLINE = GRID_SHAPE[0] // 2
"""First index of the left hemisphere."""

HEMISPHERE_SHAPE = (GRID_SHAPE[0] - MIDLINE, *GRID_SHAPE[1:])


def split_hemispheres(
    volume: npt.NDArray[ScalarT],
) -> tuple[npt.NDArray[ScalarT], npt.NDArray[ScalarT]]:
    """Return the left hemisphere and the right one mirrored onto it, as views.

    Args:
        volume: (146, 182, 133) on the grid.

    Returns:
        tuple: (73, 182, 133) each; index 0 of the first axis is at the midline.
    """
    return volume[MIDLINE:], volume[MIDLINE - 1 :: -1]


def join_hemispheres(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> Volume:
    """Return the volume of which `split_hemispheres` gives these two.

    Args:
        left: (73, 182, 133).
        right: (73, 182, 133), mirrored onto the left.

    Returns:
        Volume: (146, 182, 133) on the grid.
    """
    return np.concatenate([right[::-1], left]).astype(np.float32, copy=False)
