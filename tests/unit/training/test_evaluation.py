"""The evaluation counts what it says, and the plot shows every scan."""

import hashlib
import json
from pathlib import Path
from xml.etree import ElementTree as ET

from processor.training.evaluate import Case, known_floor, summarise
from processor.training.plot import evaluation_svg

SVG = "{http://www.w3.org/2000/svg}"


def _case(planted_ml: float, estimate: float, raw_max: float) -> Case:
    side, distance = ("left", 0.0) if planted_ml else (None, None)
    return Case(1, side, planted_ml, -10.0, estimate, raw_max, "left", distance)


CASES = [
    _case(20.0, 25.0, 3e-4),
    _case(100.0, 90.0, 2e-4),
    _case(50.0, 500.0, 1e-5),
    _case(0.0, 30.0, 4e-4),
    _case(0.0, -0.1, 0.0),
]


def test_scans_are_counted_above_the_floor_and_not_at_it() -> None:
    """As the detection does it: positive is above the floor."""
    evaluation = summarise(CASES, 2e-4)

    assert evaluation["with_lesion"]["above_floor"] == 1
    assert evaluation["without_lesion"]["above_floor"] == 1


def test_without_a_floor_none_is_counted() -> None:
    """A model that has none calls no map negative."""
    assert summarise(CASES, None)["with_lesion"]["above_floor"] is None


def test_a_floor_is_that_of_these_weights_or_none(tmp_path: Path) -> None:
    """After training anew, the side-car that still lies there does not count."""
    model = tmp_path / "some.hdf5"
    model.write_bytes(b"weights")
    assert known_floor(model) is None
    facts = {"sha256": hashlib.sha256(b"weights").hexdigest(), "saliency_floor": 1e-4}
    model.with_suffix(".json").write_text(json.dumps(facts), encoding="utf-8")
    assert known_floor(model) == facts["saliency_floor"]
    model.write_bytes(b"other weights")
    assert known_floor(model) is None


def test_the_plot_shows_every_scan_twice_and_within_its_edges() -> None:
    """Estimates and raw maxima outside the axes, and zero on a logarithmic one, are drawn at the edge."""
    picture = ET.fromstring(evaluation_svg(CASES, 2e-4))  # noqa: S314 (written above)

    points = list(picture.iter(f"{SVG}circle"))
    assert len(points) == 2 * len(CASES)
    assert all(50 <= float(point.attrib["cy"]) <= 345 for point in points)
    assert "floor 0.0002" in {text.text for text in picture.iter(f"{SVG}text")}
