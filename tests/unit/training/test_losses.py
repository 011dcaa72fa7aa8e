"""The losses are the sums their docstrings say, reckoned here the plain way."""

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from processor.detection.network import head
from processor.detection.weights import Weights, weight_shapes
from processor.training.losses import VOLUME_SCALE_ML, territory_loss, volume_and_saliency_losses

Array = npt.NDArray[np.float32]


def _random_weights() -> Weights[Array]:
    rng = np.random.default_rng(2)
    return weight_shapes(3).map(lambda shape: rng.uniform(-0.4, 0.6, shape).astype(np.float32) ** 2)


def test_the_territory_loss_weighs_cells_by_how_much_of_them_is_planted() -> None:
    """Cell by cell: what the readout tells of left minus right, against what was planted left minus right."""
    rng = np.random.default_rng(1)
    features = rng.normal(size=(2, 3, 2, 2, 4)).astype(np.float32)
    readout = rng.normal(size=4).astype(np.float32)
    territory = rng.uniform(size=(2, 3, 2, 2)).astype(np.float32)

    loss = float(territory_loss(features, readout, territory))

    errors, weights = 0.0, 0.0
    for a, b, c in np.ndindex(3, 2, 2):
        told = sum(readout[f] * (features[0, a, b, c, f] - features[1, a, b, c, f]) for f in range(4))
        wanted = territory[0, a, b, c] - territory[1, a, b, c]
        weight = 1 + 4 * abs(wanted)
        errors += weight * (told - wanted) ** 2
        weights += weight
    assert loss == pytest.approx(errors / weights, rel=1e-5)


def test_the_volume_loss_is_square_for_small_errors_and_linear_for_large_ones() -> None:
    """Errors of 0.3 and of 2 of the volume scale cost 0.3 squared and 0.5 (4 - 0.5)."""
    weights, left, right = _random_weights(), *np.random.default_rng(3).normal(size=(2, 2, 4, 4, 4, 3))
    left, right = tf.constant(left, tf.float32), tf.constant(right, tf.float32)
    core = head(weights, left, right)[0].numpy()
    volume_ml = (core - np.array([0.3, -2.0], np.float32)) * VOLUME_SCALE_ML

    loss, _ = volume_and_saliency_losses(weights, left, right, np.ones((2, 4, 4, 4), np.float32), volume_ml)

    assert float(loss) == pytest.approx((0.3**2 + 0.5 * (2 * 2.0 - 0.5)) / 2, rel=1e-3)


def test_the_saliency_loss_counts_only_what_lies_outside_the_territory() -> None:
    """All inside costs nothing, nothing inside costs much, and scans without lesion do not count."""
    weights, left, right = _random_weights(), *np.random.default_rng(3).normal(size=(2, 1, 4, 4, 4, 3))
    left, right = tf.constant(left, tf.float32), tf.constant(right, tf.float32)
    everywhere, nowhere = np.ones((1, 4, 4, 4), np.float32), np.zeros((1, 4, 4, 4), np.float32)
    planted, free = np.array([10.0], np.float32), np.array([0.0], np.float32)

    def loss(territory: Array, volume_ml: Array) -> float:
        return float(volume_and_saliency_losses(weights, left, right, territory, volume_ml)[1])

    assert loss(everywhere, planted) == pytest.approx(0.0, abs=1e-4)
    assert loss(nowhere, planted) > 5
    assert loss(nowhere, free) == 0
    halves = np.zeros((2, 1, 4, 4, 4), np.float32)
    halves[0, :, :2], halves[1, :, 2:] = 1.0, 1.0
    shares = [np.exp(-loss(half, planted)) for half in halves]
    assert sum(shares) == pytest.approx(1.0, abs=1e-3)
