"""The rule that derives a model's floor, and where it is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from processor.training.floor import derive, write_to_side_car

WITHOUT = [n * 1e-6 for n in range(1, 41)]
"""Raw maxima whose 95th percentile lies between the 38th and the 39th."""


def test_the_floor_is_the_95th_percentile_rounded_up_to_two_digits() -> None:
    """By hand: 0.95 of 39 steps is 37.05, which is 38.05e-6, rounded up; a hundred times that as well."""
    assert derive(WITHOUT, [1.0]).proposed == 39e-6
    assert derive([100 * raw_max for raw_max in WITHOUT], [1.0]).proposed == 3.9e-3


@pytest.mark.parametrize(("above", "founded"), [(3, True), (2, False)])
def test_a_floor_is_founded_where_three_of_four_scans_with_a_lesion_lie_above(
    above: int, *, founded: bool
) -> None:
    """One that silences more than it should is none."""
    floor = derive(WITHOUT, [1e-3] * above + [1e-9] * (4 - above))
    assert floor.share_above == above / 4
    assert (floor.founded is not None) == founded


def test_maps_that_are_all_zero_give_a_floor_of_zero() -> None:
    """Nothing is divided by nothing."""
    assert derive([0.0] * 20, [1e-6]).founded == 0


def test_the_side_car_keeps_everything_but_the_floor(tmp_path: Path) -> None:
    """Also when it had none before, or loses it."""
    side_car = tmp_path / "mine.json"
    facts = {"name": "mine", "evaluation": {"scans": 3}}
    side_car.write_text(json.dumps(facts))
    for floor in (1.5e-6, None):
        write_to_side_car(side_car, floor)
        assert json.loads(side_car.read_text()) == facts | {"saliency_floor": floor}
