"""Derive the floor of a model's raw maximum: `python -m processor.training.floor --model NAME|PATH`.

Rule: the 95th percentile of the raw maxima of 40 synthetic scans without lesion, whose seeds no training and
no evaluation sees, rounded up to two digits. It is founded only where at least three of four held-out scans
with a lesion lie above it; otherwise the model has none: it would silence what the map is there to show.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from processor.detection.detector import Detector
from processor.detection.weights import read_weights
from processor.models import DEMO, resolve_model
from processor.placement import place_on_grid
from processor.training.dataset import FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED_WITHOUT_LESION
from processor.training.evaluate import held_out_scan
from processor.volumes import read_volume

FIRST_FLOOR_SEED = 32_000
"""Of the scans without lesion that the floor is derived on; the evaluation's are 31,000 up."""
PERCENTILE = 95
LEAST_SHARE_ABOVE = 0.75
"""Of scans with a lesion, for the floor to be founded."""
_DIGITS = 2


@dataclass(frozen=True)
class Floor:
    """What the rule gives for a model.

    Attributes:
        proposed: The percentile, rounded up; in network output per feature.
        share_above: Of the scans with a lesion.
    """

    proposed: float
    share_above: float

    @property
    def founded(self) -> float | None:
        """The floor, or None where it would silence too many scans with a lesion."""
        return self.proposed if self.share_above >= LEAST_SHARE_ABOVE else None


def derive(without: Sequence[float], with_lesion: Sequence[float]) -> Floor:
    """Apply the rule to raw maxima of scans without and with a lesion."""
    percentile = float(np.percentile(without, PERCENTILE))
    step = 10.0 ** (math.floor(math.log10(percentile)) - _DIGITS + 1) if percentile > 0 else 1.0
    proposed = float(f"{math.ceil(percentile / step) * step:.{_DIGITS - 1}e}")
    return Floor(proposed, share_above(with_lesion, proposed))


def share_above(raw_maxima: Sequence[float], floor: float) -> float:
    """Return the share of scans whose map would say something."""
    return sum(raw_max > floor for raw_max in raw_maxima) / len(raw_maxima)


def synthetic_maxima(detector: Detector, first_seed: int, count: int, processes: int) -> Iterator[float]:
    """Yield the raw maxima of so many synthetic scans."""
    with ProcessPoolExecutor(processes) as pool:
        for scan in pool.map(held_out_scan, range(first_seed, first_seed + count)):
            raw_max = detector.detect(scan.volume_hu).saliency.raw_max
            print(f"{raw_max:.4g}", file=sys.stderr, flush=True)  # noqa: T201 (it takes minutes)
            yield raw_max


def write_to_side_car(side_car: Path, floor: float | None) -> None:
    """Put the floor into the description beside the weights."""
    facts = json.loads(side_car.read_text(encoding="utf-8"))
    evaluation = facts.pop("evaluation", None)
    facts["saliency_floor"] = floor
    if evaluation is not None:
        facts["evaluation"] = evaluation
    side_car.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Print the table, the rule's floor and whether it is founded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEMO, help="a name or a weights file")
    parser.add_argument("--model-dir", type=Path, default=Path("models"), help="where fetched weights are")
    parser.add_argument("--processes", type=int, default=1, help="how many scans are made at a time")
    parser.add_argument("--write-side-car", action="store_true", help="put it into MODEL.json")
    parser.add_argument("scans", type=Path, nargs="*", help="volumes on the grid to look at as well")
    arguments = parser.parse_args()

    model = resolve_model(arguments.model, arguments.model_dir)
    detector = Detector(read_weights(model.path))
    groups = {
        "without lesion, for the floor": (FIRST_FLOOR_SEED, 40),
        "with lesion, held out": (FIRST_HELD_OUT_SEED, 40),
        "without lesion, held out": (FIRST_HELD_OUT_SEED_WITHOUT_LESION, 20),
    }
    maxima = {
        name: list(synthetic_maxima(detector, first, count, arguments.processes))
        for name, (first, count) in groups.items()
    }
    maxima |= {
        path.name: [detector.detect(place_on_grid(read_volume(path)).hu).saliency.raw_max]
        for path in arguments.scans
    }
    for_floor, planted, _ = groups
    floor = derive(maxima[for_floor], maxima[planted])
    _print(maxima, floor)
    if arguments.write_side_car:
        write_to_side_car(model.path.with_suffix(".json"), floor.founded)


def _print(maxima: dict[str, list[float]], floor: Floor) -> None:
    quantiles = (0, 10, 25, 50, 75, 90, 95, 100)
    print(f"{'raw maxima':32}{'scans':>6}  " + "".join(f"{f'{q} %':>9}" for q in quantiles) + "  above")  # noqa: T201 (the table)
    for name, values in maxima.items():
        spread = "".join(f"{value:9.2g}" for value in np.percentile(values, quantiles))
        above = round(share_above(values, floor.proposed) * len(values))
        print(f"{name:32}{len(values):6}  {spread}  {above:5}")  # noqa: T201 (the table)
    verdict = "founded" if floor.founded is not None else "not founded, the model has none"
    power = f"{floor.share_above:.0%} of the scans with a lesion are above"
    print(f"The rule gives {floor.proposed:.2g}; {power}: {verdict}.")  # noqa: T201 (the result)


if __name__ == "__main__":
    main()
