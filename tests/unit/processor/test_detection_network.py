"""The network against the same arithmetic written out in numpy, and its gradient by finite differences."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest

from processor.detection.network import Network, branch, head
from processor.detection.precision import IN_BFLOAT16
from processor.detection.weights import Affine, Array, BatchNorm, Block, Weights, weight_shapes
from tests.support.cpus import needs_bfloat16

# isort: split
import tensorflow as tf

Float64 = npt.NDArray[np.float64]
SHAPE = (16, 18, 17)
"""Of a small hemisphere; one axis is odd at every pooling."""


@pytest.fixture(scope="module")
def weights() -> Weights[Array]:
    """A network of three filters in which no layer is dead."""
    rng = np.random.default_rng(11)

    def leaf(shape: tuple[int, ...]) -> Array:
        fan_in = int(np.prod(shape[:-1])) if len(shape) > 1 else 25
        drawn = rng.standard_normal(shape) * (2 / fan_in) ** 0.5
        return np.asarray(drawn, dtype=np.float32)

    def norm(of: BatchNorm[Array]) -> BatchNorm[Array]:
        return BatchNorm(1 + of.gamma, of.beta, of.moving_mean, np.abs(1 + of.moving_variance))

    def block(of: Block[Array]) -> Block[Array]:
        return Block(of.convolutions, norm(of.norm))

    drawn = weight_shapes(3).map(leaf)
    b0, b1, b2 = drawn.branch
    h0, h1 = drawn.head
    return Weights(
        (block(b0), block(b1), block(b2)),
        (block(h0), block(h1)),
        norm(drawn.head_norm),
        drawn.core_dense,
        drawn.core_output,
        drawn.pen_dense,
        drawn.pen_output,
    )


@pytest.fixture(scope="module")
def hemispheres() -> tuple[Array, Array]:
    """Two small hemispheres."""
    left, right = np.random.default_rng(12).random((2, *SHAPE), dtype=np.float32)
    return left, right


def in_bfloat16(values: npt.NDArray[np.floating]) -> Float64:
    """Round to the nearest number of 8 significant bits, ties to even; the exponents are those of float32."""
    mantissa, exponent = np.frexp(values.astype(np.float64))
    return np.asarray(np.ldexp(np.rint(mantissa * 2**8), exponent - 8))


def plain_block(block: Block[Array], x: Float64, rounded: tuple[int, ...] = ()) -> Float64:
    """Compute a block on (x, y, z, channels): shifted copies for a convolution, 2 x 2 x 2 maxima.

    The convolutions of `rounded` take and give numbers in bfloat16.
    """
    for number, convolution in enumerate(block.convolutions):
        held = in_bfloat16 if number in rounded else np.asarray
        padded = np.pad(held(x), [(1, 1), (1, 1), (1, 1), (0, 0)])
        total = np.zeros((*x.shape[:3], convolution.bias.size))
        for i, j, k in np.ndindex(3, 3, 3):
            shifted = padded[i : i + x.shape[0], j : j + x.shape[1], k : k + x.shape[2]]
            total += shifted @ held(convolution.kernel[i, j, k]).astype(np.float64)
        x = held(np.maximum(total + held(convolution.bias), 0))
    even = np.pad(x, [(0, n % 2) for n in x.shape[:3]] + [(0, 0)], constant_values=-np.inf)
    corners = [even[i::2, j::2, k::2] for i, j, k in np.ndindex(2, 2, 2)]
    return plain_norm(block.norm, np.max(corners, axis=0))


def plain_norm(norm: BatchNorm[Array], x: Float64) -> Float64:
    """Compute the definition of batch normalisation with moving statistics."""
    return (
        norm.gamma * (x - norm.moving_mean) / np.sqrt(norm.moving_variance.astype(np.float64) + 1e-3)
        + norm.beta
    )


def plain_branch(
    weights: Weights[Array], hemisphere: npt.NDArray[np.floating], rounded: tuple[int, ...] = ()
) -> Float64:
    """Compute the features of one hemisphere; convolutions of the first block may be in bfloat16."""
    x = hemisphere.astype(np.float64)[..., None]
    for number, block in enumerate(weights.branch):
        x = plain_block(block, x, () if number else rounded)
    return x


def plain_head(weights: Weights[Array], left: Float64, right: Float64) -> tuple[float, float]:
    """Compute core and penumbra estimate."""

    def dense(layer: Affine[Array], x: Float64) -> Float64:
        return x @ layer.kernel.astype(np.float64) + layer.bias

    x = np.abs(left - right)
    for block in weights.head:
        x = plain_block(block, x)
    hidden = np.maximum(dense(weights.core_dense, plain_norm(weights.head_norm, x).mean(axis=(0, 1, 2))), 0)
    penumbra = dense(weights.pen_output, np.maximum(dense(weights.pen_dense, hidden), 0))
    return float(dense(weights.core_output, hidden)[0]), float(penumbra[0])


def plain_map(weights: Weights[Array], features: list[Float64], side: int) -> Float64:
    """Compute a hemisphere's map with the gradient taken by central differences."""
    step = 1e-5
    gradient = np.zeros_like(features[side])
    for at in np.ndindex(gradient.shape):
        value = features[side][at]
        moved = []
        for offset in (step, -step):
            features[side][at] = value + offset
            moved.append(plain_head(weights, features[0], features[1])[0])
        features[side][at] = value
        gradient[at] = (moved[0] - moved[1]) / (2 * step)
    channel_weights = gradient.mean(axis=(0, 1, 2))
    return np.asarray(np.maximum((np.maximum(gradient, 0) * channel_weights).mean(axis=-1), 0))


def test_estimates_are_those_of_the_arithmetic_written_out(
    weights: Weights[Array], hemispheres: tuple[Array, Array]
) -> None:
    """Branch and head, in float64 and without TensorFlow, give the same two numbers."""
    left, right = hemispheres
    features = [plain_branch(weights, part) for part in hemispheres]
    expected = plain_head(weights, features[0], features[1])
    core, penumbra = head(
        weights, branch(weights, left[None, ..., None]), branch(weights, right[None, ..., None])
    )
    np.testing.assert_allclose([core[0], penumbra[0]], expected, rtol=1e-4)


def test_the_graph_gives_the_estimate_and_the_maps_by_finite_differences(
    weights: Weights[Array], hemispheres: tuple[Array, Array]
) -> None:
    """Gradient, its spatial mean and the two ReLUs, without automatic differentiation."""
    output = Network(weights)(*hemispheres)
    features = [plain_branch(weights, part) for part in hemispheres]
    expected = [plain_map(weights, features, side) for side in (0, 1)]
    assert max(part.max() for part in expected) > 0
    assert output.core == pytest.approx(plain_head(weights, features[0], features[1])[0], rel=1e-4)
    for found, plain in zip((output.left_map, output.right_map), expected, strict=True):
        np.testing.assert_allclose(found, plain, rtol=1e-3, atol=1e-7)


@needs_bfloat16
def test_the_fast_branch_is_the_arithmetic_with_two_convolutions_in_bfloat16(
    weights: Weights[Array], hemispheres: tuple[Array, Array]
) -> None:
    """Nearer to it than to any other choice: sums in another order are rounded otherwise here and there."""
    hemisphere = hemispheres[0]
    # As a graph, in which TensorFlow makes one of convolution, bias and ReLU and rounds once.
    found = tf.function(lambda features: branch(weights, features, IN_BFLOAT16["fast"]))(
        hemisphere[None, ..., None]
    )
    assert found.dtype == tf.float32

    def distance(rounded: tuple[int, ...]) -> float:
        return float(np.abs(found[0] - plain_branch(weights, hemisphere, rounded)).mean())

    for other in ((), (1,), (2,), (0, 1, 2)):
        assert distance((1, 2)) < distance(other) / 50


def test_equal_hemispheres_give_maps_of_zeros(
    weights: Weights[Array], hemispheres: tuple[Array, Array]
) -> None:
    """Where nothing differs nothing moves the estimate: the derivative of |x| at 0 is taken as 0."""
    output = Network(weights)(hemispheres[0], hemispheres[0])
    assert not output.left_map.any()
    assert not output.right_map.any()


def test_the_graph_is_traced_once(weights: Weights[Array], hemispheres: tuple[Array, Array]) -> None:
    """A second scan of the same shape costs no tracing."""
    network = Network(weights)
    network(*hemispheres)
    network(*(part.copy() for part in hemispheres))
    assert network._graph.experimental_get_tracing_count() == 1


def test_training_can_differentiate_through_branch_and_head(
    weights: Weights[Array], hemispheres: tuple[Array, Array]
) -> None:
    """With variables for leaves, every weight that takes part in the estimate has a gradient."""
    variables = weights.map(tf.Variable)
    left, right = (part[None, ..., None] for part in hemispheres)
    with tf.GradientTape() as tape:
        core, penumbra = head(variables, branch(variables, left), branch(variables, right))
        total = core + penumbra
    assert all(gradient is not None for gradient in tape.gradient(total, list(variables.leaves())))


def test_the_fast_convolutions_are_in_use() -> None:
    """Importing the processor tells TensorFlow to use oneDNN; without it a scan takes 2.5 times more."""
    program = (
        "import processor.detection.network\n"
        "from tensorflow.python.util import _pywrap_util_port as port\n"
        "print(port.IsMklEnabled())"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "True"
