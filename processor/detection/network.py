"""The network: one branch for both hemispheres, and a head on their absolute difference.

The architecture is that of the published weights (Giancardo Lab, `Luyaochen1/glabapp_deploy`): the branch
has three blocks, the head two; a block is three 3 x 3 x 3 convolutions with ReLU, a max-pooling and a
batch normalisation. It is defined once, as functions of the weights, for inference and training alike.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from processor.detection.weights import Affine, BatchNorm, Block, Weights

Array: TypeAlias = npt.NDArray[np.float32]
Tensor: TypeAlias = Any
"""A `tf.Tensor`; TensorFlow ships no types."""

NORM_EPSILON = 1e-3
"""Added to the variance by Keras' batch normalisation unless told otherwise."""

_SPACE = (1, 2, 3)
"""Axes of space in (batch, x, y, z, channels)."""


def branch(weights: Weights[Any], hemispheres: Tensor, in_bfloat16: Collection[int] = ()) -> Tensor:
    """Compute the features of hemispheres.

    Args:
        weights: Arrays, tensors or variables, float32.
        hemispheres: (n, x, y, z, 1), float32, normalised intensities in 0 ... 1.
        in_bfloat16: Convolutions to compute in bfloat16, counted from 0, three to a block.

    Returns:
        Tensor: (n, ceil(x / 8), ceil(y / 8), ceil(z / 8), filters), float32.
    """
    features = hemispheres
    for number, block in enumerate(weights.branch):
        features = _block(block, features, [n - 3 * number for n in in_bfloat16])
    return features


def head(weights: Weights[Any], left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the estimates from the features of two hemispheres.

    Args:
        weights: Arrays, tensors or variables.
        left: (n, x, y, z, filters), what `branch` makes of left hemispheres.
        right: The same of right hemispheres, mirrored onto the left.

    Returns:
        tuple[Tensor, Tensor]: core and penumbra estimate, (n,) each.
    """
    features = tf.abs(left - right)
    for block in weights.head:
        features = _block(block, features)
    pooled = tf.reduce_mean(_normalise(weights.head_norm, features), axis=_SPACE)
    hidden = tf.nn.relu(_dense(weights.core_dense, pooled))
    core = _dense(weights.core_output, hidden)
    penumbra = _dense(weights.pen_output, tf.nn.relu(_dense(weights.pen_dense, hidden)))
    return core[:, 0], penumbra[:, 0]


def hemisphere_map(gradient: Tensor) -> Tensor:
    """Reduce the gradient of the estimate to a map: ReLU(mean over channels of ReLU(g) * w).

    Not the textbook's Grad-CAM: w, the gradient's spatial mean, weighs the gradient itself, not the
    activation. That is what the published code does.

    Args:
        gradient: (1, x, y, z, filters), of the estimate by the features of one hemisphere.

    Returns:
        Tensor: (x, y, z).
    """
    channel_weights = tf.reduce_mean(gradient, axis=_SPACE, keepdims=True)
    return tf.nn.relu(tf.reduce_mean(tf.nn.relu(gradient) * channel_weights, axis=-1))[0]


@dataclass(frozen=True)
class NetworkOutput:
    """What the network says of one volume.

    Attributes:
        core: The core estimate.
        left_map: (10, 23, 17), where a change of the left hemisphere's features moves the core estimate.
        right_map: The same of the right hemisphere, mirrored onto the left.
    """

    core: float
    left_map: Array
    right_map: Array


class Network:
    """The network as one traced graph, its weights built in as constants.

    Args:
        weights: Of any number of filters.
        in_bfloat16: As `branch` takes them; faster only where the CPU has the instructions.
    """

    def __init__(self, weights: Weights[Array], in_bfloat16: Collection[int] = ()) -> None:
        self._graph = tf.function(partial(_graph, weights, in_bfloat16), autograph=False)

    def __call__(self, left: Array, right: Array) -> NetworkOutput:
        """Run the network; the first call on a shape traces the graph, which takes seconds.

        Args:
            left: (73, 182, 133), normalised intensities of the left hemisphere.
            right: The same of the right hemisphere, mirrored onto the left.
        """
        core, left_map, right_map = self._graph(
            tf.constant(left[None, ..., None]), tf.constant(right[None, ..., None])
        )
        return NetworkOutput(float(core), left_map.numpy(), right_map.numpy())


def _graph(
    arrays: Weights[Array], in_bfloat16: Collection[int], left: Tensor, right: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the core estimate, (), and the maps of both hemispheres, from (1, x, y, z, 1) each."""
    weights = arrays.map(tf.constant)
    left_features = branch(weights, left, in_bfloat16)
    # One after the other: side by side or as a batch they take 0.5 GB and a tenth of the CPU time more.
    with tf.control_dependencies([left_features]):
        right_features = branch(weights, tf.identity(right), in_bfloat16)
    # The gradient is taken by the features, so that nothing of the branch is kept for it.
    with tf.GradientTape() as tape:
        tape.watch((left_features, right_features))
        core, _ = head(weights, left_features, right_features)
    left_gradient, right_gradient = tape.gradient(core, (left_features, right_features))
    return core[0], hemisphere_map(left_gradient), hemisphere_map(right_gradient)


def _block(block: Block[Any], features: Tensor, in_bfloat16: Collection[int] = ()) -> Tensor:
    for number, convolution in enumerate(block.convolutions):
        features = _convolve(convolution, features, tf.bfloat16 if number in in_bfloat16 else tf.float32)
    pooled = tf.nn.max_pool3d(features, ksize=2, strides=2, padding="SAME")
    return _normalise(block.norm, tf.cast(pooled, tf.float32))


def _convolve(convolution: Affine[Any], features: Tensor, dtype: tf.DType) -> Tensor:
    """Apply a convolution with its ReLU, in the arithmetic of a type; casts to the same type cost nothing."""
    features, kernel, bias = (
        tf.cast(part, dtype) for part in (features, convolution.kernel, convolution.bias)
    )
    features = tf.nn.conv3d(features, kernel, strides=[1, 1, 1, 1, 1], padding="SAME")
    return tf.nn.relu(tf.nn.bias_add(features, bias))


def _normalise(norm: BatchNorm[Any], features: Tensor) -> Tensor:
    """Apply a batch normalisation with its moving statistics, as inference does."""
    scale = norm.gamma * tf.math.rsqrt(norm.moving_variance + NORM_EPSILON)
    return features * scale + (norm.beta - norm.moving_mean * scale)


def _dense(dense: Affine[Any], features: Tensor) -> Tensor:
    return tf.matmul(features, dense.kernel) + dense.bias
