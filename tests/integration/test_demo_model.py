"""The shipped demonstration model does what its model card says, through the real detection."""

import hashlib
import json

import numpy as np
import pytest

from processor.detection.detector import Detector
from processor.detection.weights import read_weights
from processor.training.dataset import FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED_WITHOUT_LESION
from processor.training.evaluate import DEMO, Case, held_out_scan, measure

SIDE_CAR = json.loads(DEMO.with_suffix(".json").read_text(encoding="utf-8"))
SCANS_WITH_LESION, SCANS_WITHOUT = 8, 2


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """Return what the model makes of a few held-out scans; the whole evaluation is the script's."""
    detector = Detector(read_weights(DEMO))
    seeds = [FIRST_HELD_OUT_SEED + n for n in range(SCANS_WITH_LESION)]
    seeds += [FIRST_HELD_OUT_SEED_WITHOUT_LESION + n for n in range(SCANS_WITHOUT)]
    return [measure(detector, seed, held_out_scan(seed)) for seed in seeds]


def test_the_side_car_describes_the_weights_beside_it() -> None:
    """Its checksum is the file's, its error the evaluation's, and it says that no patient was involved."""
    assert SIDE_CAR["sha256"] == hashlib.sha256(DEMO.read_bytes()).hexdigest()
    assert DEMO.stat().st_size <= 1_000_000
    assert SIDE_CAR["description"] == "Synthetic demonstration model, never trained on patients."
    assert SIDE_CAR["core_estimate"]["rmse"] == SIDE_CAR["evaluation"]["with_lesion"]["rmse_ml"]


def test_the_recorded_evaluation_meets_what_is_asked_of_the_model() -> None:
    """Side right on 38 of 40, peak near on 30, correlation 0.8; at the floor 2 false alarms of 20."""
    planted, free = (SIDE_CAR["evaluation"][kind] for kind in ("with_lesion", "without_lesion"))

    assert planted["scans"] == 40
    assert planted["side_right"] >= 38
    assert planted["peak_within_8_mm"] >= 30
    assert planted["correlation"] >= 0.8
    assert planted["above_floor"] >= 30
    assert free["scans"] == 20
    assert free["above_floor"] <= 2


def test_the_model_finds_side_and_volume_on_held_out_scans(cases: list[Case]) -> None:
    """Measured anew on a few of the scans of the recorded evaluation."""
    planted = [case for case in cases if case.planted_side]

    assert sum(case.side == case.planted_side for case in planted) >= SCANS_WITH_LESION - 1
    volumes = [case.planted_ml for case in planted]
    correlation = np.corrcoef(volumes, [case.core_estimate for case in planted])[0, 1]
    assert correlation >= 0.6
    near = sum(case.peak_distance_mm is not None and case.peak_distance_mm <= 8.0 for case in planted)
    assert near >= SCANS_WITH_LESION // 2


def test_the_estimate_is_lower_without_a_lesion(cases: list[Case]) -> None:
    """No scan without lesion is estimated above the median of those with one."""
    planted = [case.core_estimate for case in cases if case.planted_side]
    free = [case.core_estimate for case in cases if not case.planted_side]

    assert max(free) < np.median(planted)
