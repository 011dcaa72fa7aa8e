"""From Hounsfield units to what the network was trained on."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float32]

WINDOW_HU = (0, 100)
"""What the network sees of a scan: brain, blood and contrast; air is 0, bone is the upper end."""


def normalise(volume_hu: npt.NDArray[Any]) -> Array:
    """Clip a volume to the window and scale it to 0 ... 1.

    The values are rounded through float16, because the network's training data were stored so.

    Args:
        volume_hu: Hounsfield units, finite, any shape, integer or floating.

    Returns:
        Array: Of the same shape.
    """
    low, high = WINDOW_HU
    window: Array = np.clip(volume_hu, low, high).astype(np.float32)
    return (window / np.float32(high)).astype(np.float16).astype(np.float32)
