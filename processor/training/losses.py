"""What the network is trained to do: see the territory, point at it, and say how large it is."""

from typing import Any, TypeAlias

import tensorflow as tf

from processor.detection.network import head, hemisphere_map
from processor.detection.weights import Weights

Tensor: TypeAlias = Any

# Estimates and errors are counted in these while training; write-out multiplies the last layer by it.
VOLUME_SCALE_ML = 40.0
# Beyond this error (of that scale) the loss grows linearly, so that few large misses do not decide.
HUBER_KNEE = 0.5
# Far below the sum of a map (about 1e-8 in that scale): keeps the share defined where a map is zero.
TINY = 1e-14


def territory_loss(features: Tensor, readout: Tensor, territory: Tensor) -> Tensor:
    """Return how badly a linear readout of the features tells the territory, cell by cell.

    The readout is applied to both hemispheres and subtracted: what they have in common does not count.

    Args:
        features: Branch output, shape (2, a, b, c, filters), left hemisphere first.
        readout: Weights, shape (filters,).
        territory: Fraction of territory per cell, shape (2, a, b, c).

    Returns:
        Tensor: weighted mean squared error, a scalar.
    """
    told = tf.tensordot(features[0] - features[1], readout, 1)
    wanted = territory[0] - territory[1]
    # Territory is a few per cent of the cells; unweighted, saying "nowhere" would do.
    weight = 1.0 + 4.0 * tf.abs(wanted)
    return tf.reduce_sum(weight * (told - wanted) ** 2) / tf.reduce_sum(weight)


def volume_and_saliency_losses(
    weights: Weights[Any], left: Tensor, right: Tensor, territory: Tensor, volume_ml: Tensor
) -> tuple[Tensor, Tensor]:
    """Return how far the estimates are off, and how much saliency lies outside the territories.

    Args:
        weights: The network's, with the estimate in units of `VOLUME_SCALE_ML`.
        left: Branch output of left hemispheres, shape (n, 10, 23, 17, filters).
        right: The same of the right hemispheres, mirrored.
        territory: Fraction of territory per cell in either hemisphere, shape (n, 10, 23, 17).
        volume_ml: Planted volumes, shape (n,).

    Returns:
        tuple[Tensor, Tensor]: two scalars. The first is the mean Huber error of the volume; the second is
        the mean over scans with lesion of -log(share of the kept hemisphere's map inside the territory).
    """
    with tf.GradientTape() as tape:
        tape.watch((left, right))
        core, _ = head(weights, left, right)
        total = tf.reduce_sum(core)
    gradients = tape.gradient(total, (left, right))
    error = tf.abs(core - volume_ml / VOLUME_SCALE_ML)
    linear = HUBER_KNEE * (2.0 * error - HUBER_KNEE)
    volume_loss = tf.reduce_mean(tf.where(error < HUBER_KNEE, error**2, linear))

    shares = []
    for n in range(left.shape[0]):
        maps = [hemisphere_map(gradient[n : n + 1]) for gradient in gradients]
        # The detection keeps the hemisphere map with the larger sum.
        kept = tf.where(tf.reduce_sum(maps[1]) > tf.reduce_sum(maps[0]), maps[1], maps[0])
        inside = tf.reduce_sum(kept * territory[n])
        shares.append((inside + TINY) / (tf.reduce_sum(kept) + TINY))
    planted = tf.cast(volume_ml > 0, tf.float32)
    outside = -tf.math.log(tf.stack(shares)) * planted
    return volume_loss, tf.reduce_sum(outside) / tf.maximum(tf.reduce_sum(planted), 1.0)
