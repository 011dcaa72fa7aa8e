"""Measure a model on held-out synthetic scans: `python -m processor.training.evaluate`.

Every scan goes the whole way of a user's: the detector of `processor.detection`, on seeds no training saw.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from processor.detection.detector import Detector
from processor.detection.weights import read_weights
from processor.synthetic import SyntheticScan, random_lesion, synthesize
from processor.synthetic.lesion import LARGEST_ML, SMALLEST_ML
from processor.training.dataset import FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED_WITHOUT_LESION
from processor.training.plot import evaluation_svg

DEMO = Path(__file__).parents[1] / "weights" / "demo.hdf5"
SCANS_WITH_LESION, SCANS_WITHOUT = 40, 20
# A peak this far outside still points at the territory; the map's cells are 8 mm.
NEAR_MM = 8.0


@dataclass(frozen=True)
class Case:
    """One held-out scan, and what the model made of it.

    Attributes:
        seed: The scan's.
        planted_side: None without lesion, as are the two distances of the peak.
        planted_ml: Volume of the territory.
        depth_hu: How dark it is.
        core_estimate: The model's number.
        raw_max: Maximum of the saliency map before scaling.
        side: Where the map lies; None where it is zero.
        peak_distance_mm: From the peak to the territory, 0 inside; None without either.
    """

    seed: int
    planted_side: str | None
    planted_ml: float
    depth_hu: float
    core_estimate: float
    raw_max: float
    side: str | None
    peak_distance_mm: float | None


def measure(detector: Detector, seed: int, scan: SyntheticScan) -> Case:
    """Run the detector on a scan and compare."""
    detection = detector.detect(scan.volume_hu)
    saliency, truth = detection.saliency, scan.truth
    distance = None
    if truth.side is not None and saliency.peak is not None:
        outside_mm = ndimage.distance_transform_edt(~truth.territory)
        distance = float(np.asarray(outside_mm)[saliency.peak])
    return Case(
        seed=seed,
        planted_side=truth.side,
        planted_ml=truth.volume_ml,
        depth_hu=round(truth.depth_hu, 2),
        core_estimate=round(detection.core_estimate, 2),
        raw_max=saliency.raw_max,
        side=saliency.side,
        peak_distance_mm=distance,
    )


def summarise(cases: Sequence[Case], floor: float | None) -> dict[str, Any]:
    """Return the figures of the model card for cases with and without lesion.

    Args:
        cases: At least two with a lesion and one without.
        floor: The raw maximum above which a map is called positive; None where the model has none.
    """
    planted = [case for case in cases if case.planted_side is not None]
    free = [case for case in cases if case.planted_side is None]
    truth = np.array([case.planted_ml for case in planted])
    estimate = np.array([case.core_estimate for case in planted])
    distances = [np.inf if case.peak_distance_mm is None else case.peak_distance_mm for case in planted]
    return {
        "with_lesion": {
            "scans": len(planted),
            "side_right": sum(case.side == case.planted_side for case in planted),
            "peak_in_territory": sum(distance == 0 for distance in distances),
            "peak_within_8_mm": sum(distance <= NEAR_MM for distance in distances),
            "correlation": round(float(np.corrcoef(truth, estimate)[0, 1]), 3),
            "rmse_ml": round(float(np.sqrt(np.mean((truth - estimate) ** 2))), 2),
            "bias_ml": round(float(np.mean(estimate - truth)), 2),
            "raw_max": _spread([case.raw_max for case in planted]),
            "above_floor": _above(planted, floor),
        },
        "without_lesion": {
            "scans": len(free),
            "core_estimate_ml": _spread([case.core_estimate for case in free]),
            "raw_max": _spread([case.raw_max for case in free]),
            "above_floor": _above(free, floor),
        },
    }


def _above(cases: Sequence[Case], floor: float | None) -> int | None:
    return None if floor is None else sum(case.raw_max > floor for case in cases)


def _spread(values: Sequence[float]) -> dict[str, float]:
    low, median, p95, high = (float(f"{value:.3g}") for value in np.quantile(values, [0.0, 0.5, 0.95, 1.0]))
    return {"min": low, "median": median, "p95": p95, "max": high}


def known_floor(model: Path) -> float | None:
    """Return the floor in the side-car beside the weights; None without, or of other weights."""
    path = model.with_suffix(".json")
    facts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if facts.get("sha256") != hashlib.sha256(model.read_bytes()).hexdigest():
        return None
    floor: float | None = facts.get("saliency_floor")
    return floor


def side_car(model: Path, evaluation: dict[str, Any], floor: float | None) -> dict[str, Any]:
    """Return what stands beside the weights: what they are, of what they were made, how good they are."""
    return {
        "name": "demo",
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "description": "Synthetic demonstration model, never trained on patients.",
        "trained_on": "Synthetic CT angiograms with a planted hypodense territory (processor.synthetic).",
        "core_estimate": {
            "unit": "ml (synthetic)",
            "rmse": evaluation["with_lesion"]["rmse_ml"],
            "note": (
                f"Root mean square error on {evaluation['with_lesion']['scans']} held-out synthetic scans "
                "with a lesion of 10 to 150 ml. It says nothing about patients."
            ),
        },
        "trained_range": [SMALLEST_ML, LARGEST_ML],
        "saliency_floor": floor,
        "evaluation": evaluation,
    }


def _held_out(with_lesion: int, without: int, processes: int) -> Iterator[tuple[int, SyntheticScan]]:
    """Yield held-out scans with their seeds, first those with a lesion."""
    seeds = [FIRST_HELD_OUT_SEED + n for n in range(with_lesion)]
    seeds += [FIRST_HELD_OUT_SEED_WITHOUT_LESION + n for n in range(without)]
    with ProcessPoolExecutor(processes) as pool:
        yield from zip(seeds, pool.map(held_out_scan, seeds), strict=True)


def held_out_scan(seed: int) -> SyntheticScan:
    """Return the held-out scan of this seed."""
    return synthesize(seed, None if seed >= FIRST_HELD_OUT_SEED_WITHOUT_LESION else random_lesion(seed))


def main() -> None:
    """Print a line per scan and the summary; write JSON, plot and side-car if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=DEMO, help="weights (default: the demonstration model)")
    parser.add_argument("--with-lesion", type=int, default=SCANS_WITH_LESION, help="how many scans")
    parser.add_argument("--without-lesion", type=int, default=SCANS_WITHOUT, help="how many scans")
    parser.add_argument("--processes", type=int, default=1, help="how many scans are made at a time")
    parser.add_argument("--json", type=Path, help="write summary and cases here")
    parser.add_argument("--plot", type=Path, help="write the model card's plot here, as SVG")
    parser.add_argument("--write-side-car", action="store_true", help="write MODEL.json beside the weights")
    arguments = parser.parse_args()

    detector = Detector(read_weights(arguments.model))
    cases = []
    print("  seed  planted       HU  estimate  side   peak off  raw maximum")  # noqa: T201 (the table)
    for seed, scan in _held_out(arguments.with_lesion, arguments.without_lesion, arguments.processes):
        case = measure(detector, seed, scan)
        cases.append(case)
        print(_line(case), flush=True)  # noqa: T201 (the table)
    floor = known_floor(arguments.model)
    evaluation = summarise(cases, floor)
    print(json.dumps(evaluation, indent=2))  # noqa: T201 (the table)
    if arguments.json:
        document = {"evaluation": evaluation, "cases": [asdict(case) for case in cases]}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if arguments.plot:
        arguments.plot.write_text(evaluation_svg(cases, floor), encoding="utf-8")
    if arguments.write_side_car:
        text = json.dumps(side_car(arguments.model, evaluation, floor), indent=2) + "\n"
        arguments.model.with_suffix(".json").write_text(text, encoding="utf-8")


def _line(case: Case) -> str:
    planted = f"{case.planted_side or '-':5} {case.planted_ml:5.1f} ml {case.depth_hu:5.1f}"
    distance = "-" if case.peak_distance_mm is None else f"{case.peak_distance_mm:.1f} mm"
    found = f"{case.core_estimate:5.1f} ml  {case.side or '-':5}  {distance:>8}  {case.raw_max:.3g}"
    return f"{case.seed:6}  {planted}  {found}"


if __name__ == "__main__":
    main()
