"""The grid, and how it is cut into hemispheres."""

from __future__ import annotations

import numpy as np

from processor.detection.grid import (
    GRID_AFFINE,
    GRID_SHAPE,
    HEMISPHERE_SHAPE,
    join_hemispheres,
    split_hemispheres,
)


def test_the_left_hemisphere_is_the_patients_left() -> None:
    """World x grows to the patient's right in no RAS space: left is where x is negative."""
    x_mm = np.broadcast_to(
        (GRID_AFFINE[0, 0] * np.arange(146) + GRID_AFFINE[0, 3])[:, None, None], GRID_SHAPE
    )
    left, right = split_hemispheres(x_mm)
    assert left.max() < 0 <= right.min()


def test_the_right_hemisphere_is_mirrored_onto_the_left() -> None:
    """Index 0 of both is next to the midline, index 72 at the side of the head."""
    index = np.broadcast_to(np.arange(146)[:, None, None], GRID_SHAPE)
    left, right = split_hemispheres(index)
    assert left.shape == right.shape == HEMISPHERE_SHAPE
    assert left[:, 0, 0].tolist() == list(range(73, 146))
    assert right[:, 0, 0].tolist() == list(range(72, -1, -1))


def test_hemispheres_join_to_the_volume_they_were_cut_from() -> None:
    """Nothing moves on the way there and back."""
    volume = np.random.default_rng(1).random(GRID_SHAPE, dtype=np.float32)
    np.testing.assert_array_equal(join_hemispheres(*split_hemispheres(volume)), volume)
