"""The published weights in the fast precision: near what the public code gives, and no farther."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from processor.detect import COMPUTED_FAST, detect_scan, load_detector
from processor.detection.detector import Detector
from processor.models import Model, resolve_model
from processor.verify import verify
from tests.support.cpus import needs_bfloat16
from tests.support.reference import VOLUMES, aligned_volume, expected, expected_map, published_weights

pytestmark = needs_bfloat16


@pytest.fixture(scope="module")
def model() -> Model:
    """The published weights, by path."""
    return resolve_model(str(published_weights()), Path("unused"))


@pytest.fixture(scope="module")
def detector(model: Model) -> Detector:
    """The same, loaded and warm, in the fast precision."""
    return load_detector(model, "fast")


def above_half(path: Path) -> npt.NDArray[np.bool_]:
    """Return where a map is above 50 of 100 levels."""
    return np.asarray(nib.Nifti1Image.from_filename(path).dataobj) > 50


@pytest.mark.parametrize("name", VOLUMES)
def test_number_and_map_are_near_those_of_the_public_code(
    name: str, detector: Detector, model: Model, tmp_path: Path
) -> None:
    """Estimate within 1 per cent, Dice at 50 of 0.97, the same side."""
    report = detect_scan(aligned_volume(name), tmp_path, detector, model=model)
    published = expected(name)
    assert report.core_estimate.value == pytest.approx(published.core_estimate, rel=0.01)
    assert report.saliency.side == published.side
    found, wanted = above_half(tmp_path / "saliency.nii.gz"), above_half(expected_map(name))
    assert 2 * np.count_nonzero(found & wanted) / (np.count_nonzero(found) + np.count_nonzero(wanted)) >= 0.97


def test_the_result_says_what_it_is_and_can_be_had_again(
    detector: Detector, model: Model, tmp_path: Path
) -> None:
    """In the report and in a warning; the same bytes a second time, and others in float32."""
    scan = aligned_volume("pseudo_cta")
    report = detect_scan(scan, tmp_path, detector, model=model)
    assert report.precision == "fast"
    assert COMPUTED_FAST in report.warnings
    assert verify(tmp_path / "report.json", scan, detector, model).identical
    exact = verify(tmp_path / "report.json", scan, load_detector(model), model)
    assert {"core_estimate", "precision", "warnings"} <= set(exact.fields)
    assert 0 < exact.number < 0.01 * report.core_estimate.value
