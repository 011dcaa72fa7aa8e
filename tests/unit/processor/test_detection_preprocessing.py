"""What the network is shown of a scan."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from processor.detection.preprocessing import normalise


def plainly(hu: float) -> float:
    """Return the same for one voxel, rounded by Python's own half-precision format."""
    share = min(max(hu, 0.0), 100.0) / 100.0
    return float(struct.unpack("e", struct.pack("e", share))[0])


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
def test_a_volume_is_clipped_scaled_and_rounded_to_half_precision(dtype: type[np.generic]) -> None:
    """Air is 0, bone 1, and everything between has eleven bits."""
    hu = np.random.default_rng(2).uniform(-1024, 3071, (7, 5, 3))
    hu[0] = np.random.default_rng(3).uniform(0, 100, (5, 3))
    hu = hu.astype(dtype)
    normalised = normalise(hu)
    assert normalised.dtype == np.float32
    assert normalised.ravel().tolist() == [plainly(float(value)) for value in hu.ravel()]


def test_the_scan_is_left_as_it_was() -> None:
    """The picture and the viewer's file are made of the same array."""
    hu = np.array([-1000.0, 50.0, 900.0], np.float32)
    normalise(hu)
    assert hu.tolist() == [-1000.0, 50.0, 900.0]
