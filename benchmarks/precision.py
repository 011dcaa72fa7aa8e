"""What bfloat16 would cost in accuracy: `python benchmarks/precision.py --model NAME|PATH --scan FILE ...`.

Prints, for every scan and for every choice of convolutions of the branch in bfloat16, how far the
result is from that in float32, and writes benchmarks/results/precision.json. The head, the difference and the
gradient stay in float32. The arithmetic of AMX and AVX512-BF16 is followed on any CPU: inputs and kernels are
rounded to bfloat16, their products, which float32 holds exactly, are summed in float32, and what a layer
hands on is rounded again. The order of the sums is this CPU's own. `--check` compares that with TensorFlow's
own bfloat16 convolution, which is no model of it where the CPU lacks the instructions: it sums in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import processor  # noqa: F401 - sets what TensorFlow reads when it is imported

import tensorflow as tf  # isort: skip
from processor.detection.grid import split_hemispheres
from processor.detection.network import NORM_EPSILON, Array, NetworkOutput, Tensor, head, hemisphere_map
from processor.detection.preprocessing import normalise
from processor.detection.saliency import HALF_SCALE, SaliencyMap, saliency_map
from processor.detection.weights import Weights, read_weights
from processor.models import resolve_model
from processor.placement import place_on_grid
from processor.volumes import read_volume

RESULTS = Path(__file__).parent / "results"
CHOICES = ((), (1, 2, 3), (2, 3), (2,), (3,), (2, 3, 4, 5, 6), (1, 2, 3, 4, 5, 6, 7, 8, 9))
"""Convolutions of the branch, counted from 1, three to a block, that are computed in bfloat16."""


@dataclass(frozen=True)
class Accuracy:
    """How far a result is from that in float32.

    Attributes:
        dice: Of the voxels above 50.
        same_side: Whether the map lies on the same side.
        core_estimate: The network's number.
        core_error: Its relative difference.
        largest_difference: Of the maps, levels of 100.
    """

    dice: float
    same_side: bool
    core_estimate: float
    core_error: float
    largest_difference: float


def rounded(values: Tensor) -> Tensor:
    """Round float32 to what bfloat16 holds, to the nearest, ties to even."""
    return tf.cast(tf.cast(values, tf.bfloat16), tf.float32)


def features(weights: Weights[Any], choice: tuple[int, ...], hemisphere: Tensor) -> Tensor:
    """Compute the branch with some convolutions as bfloat16 units do them; all else is in float32."""
    values, number = hemisphere, 0
    for block in weights.branch:
        for convolution in block.convolutions:
            number += 1
            to = rounded if number in choice else tf.identity
            sums = tf.nn.conv3d(to(values), to(convolution.kernel), [1] * 5, "SAME")
            values = to(tf.nn.relu(tf.nn.bias_add(sums, convolution.bias)))
        pooled = tf.nn.max_pool3d(values, ksize=2, strides=2, padding="SAME")
        scale = block.norm.gamma * tf.math.rsqrt(block.norm.moving_variance + NORM_EPSILON)
        values = pooled * scale + (block.norm.beta - block.norm.moving_mean * scale)
    return values


def network(arrays: Weights[Array], choice: tuple[int, ...]) -> Callable[[Array, Array], NetworkOutput]:
    """Return the network with some convolutions of its branch in bfloat16."""

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow's
    def graph(left: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        weights = arrays.map(tf.constant)
        left_features = features(weights, choice, left)
        with tf.control_dependencies([left_features]):
            right_features = features(weights, choice, tf.identity(right))
        with tf.GradientTape() as tape:
            tape.watch((left_features, right_features))
            core, _ = head(weights, left_features, right_features)
        gradients = tape.gradient(core, (left_features, right_features))
        return (core[0], *map(hemisphere_map, gradients))

    def run(left: Array, right: Array) -> NetworkOutput:
        core, *maps = graph(*(tf.constant(part[None, ..., None]) for part in (left, right)))
        return NetworkOutput(float(core), *(part.numpy() for part in maps))

    return run


def compare(core: float, found: SaliencyMap, wanted_core: float, wanted: SaliencyMap) -> Accuracy:
    """Measure one result against that in float32."""
    ours, theirs = found.levels > HALF_SCALE, wanted.levels > HALF_SCALE
    return Accuracy(
        dice=float(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())),
        same_side=found.side == wanted.side,
        core_estimate=core,
        core_error=abs(core / wanted_core - 1),
        largest_difference=float(np.abs(found.levels - wanted.levels).max()),
    )


def check() -> None:
    """Print how far the rounding is from TensorFlow's own bfloat16 convolution, on noise."""
    generator = tf.random.Generator.from_seed(5)
    features = rounded(generator.uniform((1, 37, 46, 34, 24)))
    kernel = rounded(generator.normal((3, 3, 3, 24, 24), stddev=0.05))
    marks = [time.process_time()]
    own = tf.nn.conv3d(tf.cast(features, tf.bfloat16), tf.cast(kernel, tf.bfloat16), [1] * 5, "SAME")
    marks.append(time.process_time())
    ours = rounded(tf.nn.conv3d(features, kernel, [1] * 5, "SAME"))
    marks.append(time.process_time())
    took_s, float32_s = np.diff(marks).tolist()
    same = tf.reduce_mean(tf.cast(tf.cast(own, tf.float32) == ours, tf.float32))
    furthest = tf.reduce_max(tf.abs(tf.cast(own, tf.float32) - ours)) / tf.reduce_max(tf.abs(ours))
    print(f"TensorFlow's own convolution: {float(same):.0%} of values equal, furthest {float(furthest):.2g}")
    print(f"  {took_s:.2f} CPU-seconds; in float32 {float32_s:.2f}")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--scan", type=Path, nargs="+", required=True, help="volumes on the grid")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.check:
        check()
    weights = read_weights(resolve_model(options.model, Path("models")).path)
    volumes = {path.name: normalise(place_on_grid(read_volume(path)).hu) for path in options.scan}
    exact: dict[str, tuple[float, SaliencyMap]] = {}
    rows: list[dict[str, Any]] = []
    print(f"{'scan':<32}{'in bfloat16':>19}{'Dice':>9}{'side':>7}{'core':>9}{'error':>9}{'levels':>8}")
    for choice in CHOICES:
        run = network(weights, choice)
        for name, volume in volumes.items():
            output = run(*split_hemispheres(volume))
            found = saliency_map(output.left_map, output.right_map, volume)
            result = compare(output.core, found, *exact.setdefault(name, (output.core, found)))
            rows.append({"scan": name, "bfloat16_convolutions": choice, **asdict(result)})
            chosen = " ".join(map(str, choice)) or "none"
            print(
                f"{name:<32}{chosen:>19}{result.dice:9.4f}{'same' if result.same_side else 'OTHER':>7}"
                f"{result.core_estimate:9.3f}{result.core_error:9.2%}{result.largest_difference:8.0f}",
                flush=True,
            )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "precision.json").write_text(json.dumps({"model": options.model, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
