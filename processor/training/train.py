"""Train the demonstration model: `python -m processor.training.train`.

Every stage works on what the one before has made of the training scans, so that little is computed twice: the
first block is designed (`processor.training.filters`); the other two blocks of the branch learn to tell the
territory cell by cell, on crops; the head learns the volume, and to point at the territory.
"""

import argparse
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

if __name__ == "__main__":
    # The shipped weights were trained without oneDNN: its kernels round otherwise, and training makes much of
    # little. TensorFlow reads this when it is imported; `processor` has it on, for speed.
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

import tensorflow as tf

from processor.detection.network import NORM_EPSILON, branch
from processor.detection.weights import Affine, BatchNorm, Block, Weights, weight_shapes, write_weights
from processor.training.dataset import FIRST_TRAINING_SEED, Example, blocks_of_cells, examples
from processor.training.filters import first_block, plain_norm, widen
from processor.training.losses import VOLUME_SCALE_ML, territory_loss, volume_and_saliency_losses

Array: TypeAlias = npt.NDArray[np.float32]
Tensor: TypeAlias = Any
Variables: TypeAlias = Weights[Any]

FILTERS = 8
SEED = 1
SCANS = 224
# Features of the training scans, 1.6 GB.
CACHE = Path.home() / ".cache" / "corestream" / "training"
# Scans that the branch's crops come from: their features stay in memory, 7 MB each.
CROPPED_SCANS = 120
# In voxels of the first block's output (2 mm): whole width, and whole cells of the branch's output (4 each).
CROP = (37, 40, 32)
VOXELS_PER_CELL = 4
BRANCH_STEPS, BRANCH_RATE = 500, 4e-3
HEAD_STEPS, HEAD_RATE, HEAD_BATCH = 1600, 3e-3, 8
SALIENCY_SHARE = 0.2

log = logging.getLogger(__name__)


def train(cache: Path, processes: int, branch_steps: int, head_steps: int) -> Weights[Array]:
    """Train and return the weights. Deterministic for the same versions, machine and number of threads.

    Args:
        cache: Folder for the training scans' features; what is there already is not made again.
        processes: How many scans are made at a time.
        branch_steps: Optimiser steps of the branch.
        head_steps: Optimiser steps of the head.
    """
    rng = np.random.default_rng(SEED)
    weights = _initial(rng)
    scans = list(examples(range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + SCANS), cache, processes))
    log.info("%d training scans", len(scans))
    weights = _scale_first_block(weights, scans[:8])
    _train_branch(weights, scans[:CROPPED_SCANS], rng, branch_steps)
    features = np.stack([_branch_output(weights, scan.features) for scan in scans])
    log.info("branch output of %d scans", len(features))
    _train_head(weights, features, scans, np.random.default_rng([SEED, 2]), head_steps)
    return _finished(weights)


def _initial(rng: np.random.Generator) -> Variables:
    """Return variables: He's initialisation, zero biases, and the designed first block."""

    def layer(shape: Affine[tuple[int, ...]]) -> Affine[Any]:
        deviation = np.sqrt(2.0 / np.prod(shape.kernel[:-1]))
        kernel = rng.normal(0.0, deviation, shape.kernel).astype(np.float32)
        return Affine(tf.Variable(kernel), tf.Variable(np.zeros(shape.bias, np.float32)))

    def block(shape: Block[tuple[int, ...]]) -> Block[Any]:
        one, two, three = (layer(convolution) for convolution in shape.convolutions)
        return Block((one, two, three), plain_norm(FILTERS).map(tf.Variable))

    shapes = weight_shapes(FILTERS)
    designed = widen(first_block(), 1, FILTERS).map(tf.Variable)
    pen_dense, pen_output = shapes.pen_dense.map(_zeros), shapes.pen_output.map(_zeros)
    return Weights(
        branch=(designed, block(shapes.branch[1]), block(shapes.branch[2])),
        head=(block(shapes.head[0]), block(shapes.head[1])),
        head_norm=plain_norm(FILTERS).map(tf.Variable),
        core_dense=layer(shapes.core_dense),
        core_output=layer(shapes.core_output),
        pen_dense=pen_dense,
        pen_output=pen_output,
    )


def _zeros(shape: tuple[int, ...]) -> Any:  # noqa: ANN401 (TensorFlow ships no types)
    # No penumbra is planted, so that its estimate is left at nothing.
    return tf.Variable(np.zeros(shape, np.float32))


def _scale_first_block(weights: Variables, scans: Sequence[Example]) -> Variables:
    """Set the first normalisation so that every feature is 1 in root mean square; zero stays zero."""
    squares = np.mean(
        [np.mean(scan.features.astype(np.float32) ** 2, axis=(0, 1, 2, 3)) for scan in scans], axis=0
    )
    weights.branch[0].norm.moving_variance.assign(squares)
    return weights


def _after_first_block(weights: Variables, features: npt.NDArray[np.float16]) -> Tensor:
    scale = tf.math.rsqrt(weights.branch[0].norm.moving_variance + NORM_EPSILON)
    return tf.cast(features, tf.float32) * scale


def _run(blocks: Sequence[Block[Any]], features: Tensor) -> Tensor:
    """Run some blocks. The network's definition of a branch asks its weights for nothing but its blocks."""
    some: Any = SimpleNamespace(branch=blocks)
    return branch(some, features)


def _calibrate(norm: BatchNorm[Any], features: Tensor) -> None:
    """Set the statistics of a normalisation to those of its input; they stay as they are then."""
    mean, variance = tf.nn.moments(features, axes=list(range(len(features.shape) - 1)))
    norm.moving_mean.assign(mean)
    norm.moving_variance.assign(tf.maximum(variance, NORM_EPSILON))


def _train_branch(weights: Variables, scans: Sequence[Example], rng: np.random.Generator, steps: int) -> None:
    learned = weights.branch[1:]
    for last, block in enumerate(learned):
        crops = [_after_first_block(weights, _crop(scan, rng)[0]) for scan in scans[:8]]
        _calibrate(block.norm, tf.concat([_run(learned[: last + 1], crop) for crop in crops], 0))
    readout = tf.Variable(rng.normal(0.0, 0.1, FILTERS).astype(np.float32))
    trained = [*_trainable(learned[0]), *_trainable(learned[1]), readout]
    optimiser = _optimiser(BRANCH_RATE, steps)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator] # TensorFlow ships no types
    def step(features: Tensor, territory: Tensor) -> Tensor:
        with tf.GradientTape() as tape:
            cells = _run(learned, _after_first_block(weights, features))
            # The outermost cells of a crop see zeros where the scan goes on.
            loss = territory_loss(cells[:, :, 1:-1, 1:-1], readout, territory[:, :, 1:-1, 1:-1])
        optimiser.apply_gradients(zip(tape.gradient(loss, trained), trained, strict=True))
        return loss

    recent: list[float] = []
    for number in range(1, steps + 1):
        features, territory = _crop(scans[int(rng.integers(len(scans)))], rng)
        recent.append(float(step(tf.constant(features), tf.constant(territory))))
        if number % 50 == 0:
            log.info("branch, step %d: territory loss %.4f", number, np.mean(recent[-50:]))


def _crop(scan: Example, rng: np.random.Generator) -> tuple[Any, Array]:
    """Cut a crop at whole cells; round a cell of the territory in two of three crops where there is one."""
    blocks = blocks_of_cells(scan.territory)
    room = np.array(blocks.shape[2:]) - np.array(CROP[1:]) // VOXELS_PER_CELL
    start = rng.integers(room + 1)
    planted = np.argwhere(blocks.max(axis=(0, 1)) > 0)
    if len(planted) and rng.random() < 2 / 3:
        centre = planted[rng.integers(len(planted))]
        start = np.clip(centre - rng.integers(2, np.array(CROP[1:]) // VOXELS_PER_CELL - 2), 0, room)
    cells = tuple(slice(s, s + size // VOXELS_PER_CELL) for s, size in zip(start, CROP[1:], strict=True))
    voxels = tuple(
        slice(VOXELS_PER_CELL * s, VOXELS_PER_CELL * s + size)
        for s, size in zip(start, CROP[1:], strict=True)
    )
    return scan.features[:, :, *voxels], blocks[:, :, *cells]


def _branch_output(weights: Variables, features: npt.NDArray[np.float16]) -> Array:
    return np.asarray(_run(weights.branch[1:], _after_first_block(weights, features)), dtype=np.float32)


def _train_head(
    weights: Variables, features: Array, scans: Sequence[Example], rng: np.random.Generator, steps: int
) -> None:
    """Train the head on the branch's output, shape (scans, 2, 10, 23, 17, filters)."""
    territory = np.stack([scan.territory.sum(axis=0) for scan in scans])
    volume_ml = np.array([scan.volume_ml for scan in scans], np.float32)
    _calibrate_head(weights, features[:64])
    trained = [
        *_trainable(weights.head[0]),
        *_trainable(weights.head[1]),
        weights.head_norm.gamma,
        weights.head_norm.beta,
        *weights.core_dense.leaves(),
        *weights.core_output.leaves(),
    ]
    optimiser = _optimiser(HEAD_RATE, steps)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator] # TensorFlow ships no types
    def step(left: Tensor, right: Tensor, cells: Tensor, volume: Tensor) -> tuple[Tensor, Tensor]:
        with tf.GradientTape() as tape:
            volume_loss, saliency_loss = volume_and_saliency_losses(weights, left, right, cells, volume)
            loss = volume_loss + SALIENCY_SHARE * saliency_loss
        optimiser.apply_gradients(zip(tape.gradient(loss, trained), trained, strict=True))
        return volume_loss, saliency_loss

    recent = []
    for number in range(1, steps + 1):
        chosen = rng.choice(len(scans), HEAD_BATCH, replace=False)
        # Moved by up to a cell backwards or forwards, down or up: heads never sit quite alike.
        move = rng.integers(-1, 2, 2).tolist()
        pair = np.roll(features[chosen], move, axis=(3, 4))
        batch = (pair[:, 0], pair[:, 1], np.roll(territory[chosen], move, axis=(2, 3)), volume_ml[chosen])
        recent.append([float(loss) for loss in step(*map(tf.constant, batch))])
        if number % 100 == 0:
            log.info(
                "head, step %d: volume loss %.4f, saliency loss %.3f", number, *np.mean(recent[-100:], axis=0)
            )


def _calibrate_head(weights: Variables, features: Array) -> None:
    inputs = tf.abs(features[:, 0] - features[:, 1])
    for last, block in enumerate(weights.head):
        _calibrate(block.norm, _run(weights.head[: last + 1], inputs))
    _calibrate(weights.head_norm, _run(weights.head, inputs))


def _trainable(block: Block[Any]) -> list[Any]:
    """Return what is trained of a block: the statistics of its normalisation are not."""
    layers = [leaf for convolution in block.convolutions for leaf in convolution.leaves()]
    return [*layers, block.norm.gamma, block.norm.beta]


def _optimiser(rate: float, steps: int) -> Any:  # noqa: ANN401 (TensorFlow ships no types)
    return tf.keras.optimizers.Adam(
        tf.keras.optimizers.schedules.CosineDecay(rate, steps), global_clipnorm=1.0
    )


def _finished(weights: Variables) -> Weights[Array]:
    """Return the weights as arrays, the estimate in millilitres."""
    arrays = weights.map(lambda leaf: leaf.numpy())
    output = arrays.core_output.map(lambda leaf: (leaf * VOLUME_SCALE_ML).astype(np.float32))
    return replace(arrays, core_output=output)


def main() -> None:
    """Train and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("processor/weights/demo.hdf5"))
    parser.add_argument(
        "--cache",
        type=Path,
        default=CACHE,
        help="features made before; empty it after a change of the synthesiser",
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--branch-steps", type=int, default=BRANCH_STEPS)
    parser.add_argument("--head-steps", type=int, default=HEAD_STEPS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    started = time.monotonic()
    weights = train(arguments.cache, arguments.processes, arguments.branch_steps, arguments.head_steps)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_weights(arguments.output, weights)
    log.info("wrote %s after %.0f min", arguments.output, (time.monotonic() - started) / 60)


if __name__ == "__main__":
    main()
