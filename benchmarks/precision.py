"""What bfloat16 saves and costs: `python benchmarks/precision.py --model NAME|PATH --scan FILE ...`.

For every choice of convolutions of the branch in bfloat16: the network's CPU-seconds, and for every scan how
far the result is from that in float32. Writes benchmarks/results/precision.json. The head, the difference and
the gradient stay in float32. It needs a CPU with bfloat16 instructions: without them TensorFlow sums in
bfloat16, which says nothing about those that have them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from processor.detection.grid import split_hemispheres
from processor.detection.network import Network, NetworkOutput
from processor.detection.precision import has_bfloat16
from processor.detection.preprocessing import normalise
from processor.detection.saliency import HALF_SCALE, SaliencyMap, saliency_map
from processor.detection.weights import read_weights
from processor.models import resolve_model
from processor.placement import place_on_grid
from processor.volumes import read_volume

RESULTS = Path(__file__).parent / "results"
CHOICES = (
    (),
    (2,),
    (3,),
    (2, 3),
    (1, 2, 3),
    (2, 3, 4),
    (2, 3, 5),
    (2, 3, 6),
    (2, 3, 4, 5, 6),
    (2, 3, 4, 5, 6, 7, 8, 9),
    (1, 2, 3, 4, 5, 6, 7, 8, 9),
)
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
        peak_moved_mm: From peak to peak: of two of nearly the same level the other can be the largest.
    """

    dice: float
    same_side: bool
    core_estimate: float
    core_error: float
    largest_difference: float
    peak_moved_mm: float


def compare(core: float, found: SaliencyMap, wanted_core: float, wanted: SaliencyMap) -> Accuracy:
    """Measure one result against that in float32."""
    ours, theirs = found.levels > HALF_SCALE, wanted.levels > HALF_SCALE
    return Accuracy(
        dice=float(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())),
        same_side=found.side == wanted.side,
        core_estimate=core,
        core_error=abs(core / wanted_core - 1),
        largest_difference=float(np.abs(found.levels - wanted.levels).max()),
        peak_moved_mm=float(np.linalg.norm(np.subtract(found.peak or np.nan, wanted.peak or np.nan))),
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--scan", type=Path, nargs="+", required=True, help="volumes on the grid")
    parser.add_argument("--repeats", type=int, default=5, help="runs on each scan, for the CPU-seconds")
    options = parser.parse_args()
    if not has_bfloat16():
        parser.error("Expected a CPU with bfloat16 instructions (AVX512-BF16 or AMX), this one has none.")
    weights = read_weights(resolve_model(options.model, Path("models")).path)
    volumes = {path.name: normalise(place_on_grid(read_volume(path)).hu) for path in options.scan}
    networks = {choice: Network(weights, [n - 1 for n in choice]) for choice in CHOICES}
    took_s: dict[tuple[int, ...], list[float]] = {choice: [] for choice in CHOICES}
    outputs: dict[tuple[tuple[int, ...], str], NetworkOutput] = {}
    for _ in range(options.repeats + 1):
        for choice, run in networks.items():
            for name, volume in volumes.items():
                started = time.process_time()
                outputs[choice, name] = run(*split_hemispheres(volume))
                took_s[choice].append(time.process_time() - started)
    rows: list[dict[str, Any]] = []
    figures = f"{'Dice':>9}{'side':>7}{'core':>9}{'error':>9}{'levels':>8}{'peak mm':>9}"
    print(f"{'in bfloat16':<17}{'CPU s':>7}  {'scan':<30}{figures}")
    for choice in CHOICES:
        cpu_s = statistics.median(took_s[choice][len(volumes) :])  # without the first, which traces the graph
        for name, volume in volumes.items():
            output, exact = outputs[choice, name], outputs[(), name]
            found, wanted = (saliency_map(o.left_map, o.right_map, volume) for o in (output, exact))
            result = compare(output.core, found, exact.core, wanted)
            rows.append({"scan": name, "bfloat16_convolutions": choice, "cpu_s": cpu_s, **asdict(result)})
            chosen = " ".join(map(str, choice)) or "none"
            side = "same" if result.same_side else "OTHER"
            print(
                f"{chosen:<17}{cpu_s:7.2f}  {name:<30}{result.dice:9.4f}{side:>7}"
                f"{result.core_estimate:9.3f}{result.core_error:9.2%}{result.largest_difference:8.0f}"
                f"{result.peak_moved_mm:9.0f}"
            )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "precision.json").write_text(json.dumps({"model": options.model, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
