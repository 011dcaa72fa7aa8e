"""Which model a name or a path means, and what is known about it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from pipeline.errors import ConfigurationError
from processor.models import GIANCARDO2020_SHA256, giancardo2020_path, resolve_model
from tests.support.reference import published_weights

CONTENT = b"weights"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file that nobody has described."""
    path = tmp_path / "mine.hdf5"
    path.write_bytes(CONTENT)
    return path


def side_car(weights: Path, **changes: object) -> None:
    """Describe a file of weights."""
    facts: dict[str, object] = {
        "name": "mine",
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "description": "Mine.",
        "trained_on": "Phantoms.",
        "core_estimate": {"unit": "ml", "rmse": 3.5, "note": "On phantoms."},
        "evaluation": {"anything": "else"},
    }
    weights.with_suffix(".json").write_text(json.dumps(facts | changes))


def test_the_published_weights_are_recognised_wherever_they_lie(tmp_path: Path) -> None:
    """By their hash: as a path, under another name, and fetched into the folder of models."""
    copy = giancardo2020_path(tmp_path)
    copy.write_bytes(published_weights().read_bytes())
    for name in (str(published_weights()), str(copy), "giancardo2020"):
        model = resolve_model(name, tmp_path)
        assert (model.name, model.sha256) == ("giancardo2020", GIANCARDO2020_SHA256)
        assert model.core_estimate.rmse == 10.5
        assert "no licence" in model.description
        assert "do not state the unit" in model.core_estimate.note
        assert (model.trained_range, model.saliency_floor) == (None, None)


def test_the_demonstration_model_is_shipped_and_says_what_it_is(tmp_path: Path) -> None:
    """Every result made with it repeats its description."""
    model = resolve_model("demo", tmp_path)
    assert model.name == "demo"
    assert "never trained on patients" in model.description
    assert model.core_estimate.unit == "ml (synthetic)"
    assert model.trained_range == (10, 150)
    assert model.saliency_floor is None or model.saliency_floor > 0
    assert model.path.stat().st_size <= 1_000_000


def test_weights_that_were_not_fetched_are_asked_for(tmp_path: Path) -> None:
    """The message gives the command that fetches them."""
    with pytest.raises(
        ConfigurationError, match=r"giancardo2020\.hdf5.*no such file.*model fetch giancardo2020"
    ):
        resolve_model("giancardo2020", tmp_path)


def test_other_weights_under_the_published_name_are_refused(tmp_path: Path) -> None:
    """Both hashes are named."""
    giancardo2020_path(tmp_path).write_bytes(CONTENT)
    with pytest.raises(
        ConfigurationError, match=rf"{GIANCARDO2020_SHA256}.*{hashlib.sha256(CONTENT).hexdigest()}"
    ):
        resolve_model("giancardo2020", tmp_path)


@pytest.mark.parametrize(("name", "received"), [("missing.hdf5", "no such file"), (".", "a folder")])
def test_a_path_without_weights_is_refused(tmp_path: Path, name: str, received: str) -> None:
    """The message lists what may be given."""
    with pytest.raises(ConfigurationError, match=rf"received {received}.*demo, giancardo2020"):
        resolve_model(str(tmp_path / name), tmp_path)


def test_a_side_car_describes_its_weights(weights: Path, tmp_path: Path) -> None:
    """Whoever trains a model writes it; fields for readers do not disturb."""
    side_car(weights, saliency_floor=1e-6, trained_range=[2, 80])
    model = resolve_model(str(weights), tmp_path)
    assert (model.name, model.trained_on, model.saliency_floor) == ("mine", "Phantoms.", 1e-6)
    assert model.trained_range == (2, 80)
    assert model.core_estimate.model_dump() == {"unit": "ml", "rmse": 3.5, "note": "On phantoms."}


def test_a_side_car_of_other_weights_is_refused(weights: Path, tmp_path: Path) -> None:
    """A description never stands on bytes it was not written for."""
    side_car(weights, sha256="00" * 32)
    with pytest.raises(ConfigurationError, match=rf"{'00' * 32}.*One of the two was changed"):
        resolve_model(str(weights), tmp_path)


def test_a_side_car_with_errors_is_refused(weights: Path, tmp_path: Path) -> None:
    """The field is named."""
    side_car(weights, core_estimate={"unit": "ml", "rmse": "small", "note": ""})
    with pytest.raises(ConfigurationError, match=r"core_estimate\.rmse"):
        resolve_model(str(weights), tmp_path)


def test_unknown_weights_are_a_custom_model_of_which_nothing_is_claimed(
    weights: Path, tmp_path: Path
) -> None:
    """No unit, no error, no origin is made up."""
    model = resolve_model(str(weights), tmp_path)
    assert (model.name, model.description) == ("custom", "Custom weights of unknown origin.")
    assert model.core_estimate.rmse is None
    assert model.core_estimate.unit == "unknown unit"
