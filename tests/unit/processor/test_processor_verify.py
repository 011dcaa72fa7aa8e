"""A detection run again, compared with what its report and its files say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from corestream.verify import comparison_text
from processor.detect import detect_scan, load_detector
from processor.detection.detector import Detector
from processor.detection.grid import GRID_AFFINE, GRID_SHAPE
from processor.detection.weights import Array, weight_shapes, write_weights
from processor.models import Model, resolve_model
from processor.verify import verify

untyped: Any = nib
"""nibabel's functions carry no types; called by this name they need none."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network of one filter with weights of no sense."""
    rng = np.random.default_rng(51)

    def leaf(shape: tuple[int, ...]) -> Array:
        drawn = rng.standard_normal(shape) / max(1, int(np.prod(shape[:-1]))) ** 0.5
        return np.asarray(np.abs(drawn), dtype=np.float32)

    folder = tmp_path_factory.mktemp("model")
    write_weights(folder / "tiny.hdf5", weight_shapes(1).map(leaf))
    return resolve_model(str(folder / "tiny.hdf5"), folder)


@pytest.fixture(scope="module")
def detector(model: Model) -> Detector:
    """The same, loaded."""
    return load_detector(model)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Noise, darker on the patient's left."""
    volume = np.random.default_rng(52).normal(45, 10, GRID_SHAPE).astype(np.int16)
    volume[73:] -= 5
    untyped.Nifti1Image(volume, GRID_AFFINE).to_filename(tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


@pytest.fixture
def result(scan: Path, detector: Detector, model: Model) -> Path:
    """The folder of its result."""
    folder = scan.with_name("result")
    folder.mkdir()
    detect_scan(scan, folder, detector, model=model)
    return folder


def test_the_same_scan_verifies_to_the_bit(
    result: Path, scan: Path, detector: Detector, model: Model
) -> None:
    """All six files beside the report are compared; also under the names that the viewer gives."""
    for path in result.iterdir():
        path.rename(path.with_name(f"corestream-0a1b2c3d-{path.name}"))
    found = verify(result / "corestream-0a1b2c3d-report.json", scan, detector, model)
    assert found.identical
    assert found.number == 0
    assert found.maps == {"saliency.nii.gz": 0, "saliency_fixed.nii.gz": 0}
    assert len(found.compared) == 6
    assert comparison_text(found) == (
        "Bit-identical: the report but for its timings, and "
        "aligned.nii.gz, saliency.nii.gz, saliency_fixed.nii.gz, saliency_native.nii.gz, summary.png, "
        "alignment.png."
    )


def test_a_changed_number_and_a_changed_map_are_told_with_their_difference(
    result: Path, scan: Path, detector: Detector, model: Model
) -> None:
    """The largest of each, and what of the report is another."""
    report = json.loads((result / "report.json").read_bytes())
    report["core_estimate"]["value"] += 2.5
    (result / "report.json").write_text(json.dumps(report))
    image = untyped.Nifti1Image.from_filename(result / "saliency.nii.gz")
    voxels = np.asarray(image.dataobj).copy()
    voxels[3, 4, 5] += 7
    untyped.Nifti1Image(voxels, image.affine).to_filename(result / "saliency.nii.gz")
    found = verify(result / "report.json", scan, detector, model)
    assert not found.identical
    assert found.number == pytest.approx(2.5)
    assert found.maps == {"saliency.nii.gz": 7, "saliency_fixed.nii.gz": 0}
    assert (found.fields, found.files) == (("core_estimate",), ("saliency.nii.gz",))
    text = comparison_text(found)
    assert "Not identical. The number differs by 2.5." in text
    assert "saliency.nii.gz: largest difference 7." in text


def test_a_map_at_another_place_is_no_match(
    result: Path, scan: Path, detector: Detector, model: Model
) -> None:
    """Equal voxels elsewhere in space are another map."""
    image = untyped.Nifti1Image.from_filename(result / "saliency.nii.gz")
    moved = GRID_AFFINE.copy()
    moved[0, 3] += 1
    untyped.Nifti1Image(np.asarray(image.dataobj), moved).to_filename(result / "saliency.nii.gz")
    found = verify(result / "report.json", scan, detector, model)
    assert found.maps["saliency.nii.gz"] == float("inf")
    assert not found.identical


def test_a_file_of_other_bytes_with_the_same_voxels_verifies_and_is_mentioned(
    result: Path, scan: Path, detector: Detector, model: Model
) -> None:
    """The service strips header texts from what is uploaded: the submitter's own file still verifies."""
    image = untyped.Nifti1Image.from_filename(scan)
    image.header["descrip"] = b"a scanner's words"
    image.to_filename(scan.with_name("original.nii.gz"))
    found = verify(result / "report.json", scan.with_name("original.nii.gz"), detector, model)
    assert found.identical
    assert not found.same_input
    assert "other bytes than the reported one" in comparison_text(found)


def test_another_scan_does_not_verify(result: Path, scan: Path, detector: Detector, model: Model) -> None:
    """Number and map differ."""
    image = untyped.Nifti1Image.from_filename(scan)
    untyped.Nifti1Image(np.asarray(image.dataobj)[::-1], image.affine).to_filename(scan)
    found = verify(result / "report.json", scan, detector, model)
    assert found.maps["saliency.nii.gz"] > 0
    assert {"saliency.nii.gz", "aligned.nii.gz", "summary.png"} <= set(found.files)
