"""A scan from its file to the files of its result, with a small real network on the full grid."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, get_args

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pipeline.errors import ConfigurationError
from pipeline.ids import new_id
from pipeline.report import NO_REGION_STANDS_OUT, RESEARCH_USE_ONLY, Report
from pipeline.storage import ResultFile
from processor.detect import NO_FLOOR, detect_scan, estimate_warnings, load_detector
from processor.detection.detector import Detector
from processor.detection.grid import GRID_AFFINE, GRID_SHAPE
from processor.detection.weights import Array, weight_shapes, write_weights
from processor.models import Model, resolve_model
from processor.outputs import caption
from tests.support.heads import moved, raw_head

FILES = sorted(get_args(ResultFile))
SECRET = b"DOE^JANE"
untyped: Any = nib
"""nibabel's functions carry no types; called by this name they need none."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network of two filters with weights of no sense."""
    rng = np.random.default_rng(41)

    def leaf(shape: tuple[int, ...]) -> Array:
        drawn = rng.standard_normal(shape) / max(1, int(np.prod(shape[:-1]))) ** 0.5
        return np.asarray(np.abs(drawn) if len(shape) == 1 else drawn, dtype=np.float32)

    folder = tmp_path_factory.mktemp("model")
    write_weights(folder / "tiny.hdf5", weight_shapes(2).map(leaf))
    return resolve_model(str(folder / "tiny.hdf5"), folder)


@pytest.fixture(scope="module")
def detector(model: Model) -> Detector:
    """The same, loaded."""
    return load_detector(model)


@pytest.fixture(scope="module")
def hu() -> npt.NDArray[np.float32]:
    """Noise, darker on the patient's right, from below air to above 12 bits."""
    volume = np.random.default_rng(42).normal(45, 10, GRID_SHAPE).astype(np.float32)
    volume[:73] -= 5
    volume[0, 0, :2] = -3000, 9000
    return volume


@pytest.fixture
def scan(tmp_path: Path, hu: npt.NDArray[np.float32]) -> Path:
    """The noise as a RAS file with a name in its header."""
    affine = GRID_AFFINE @ np.array([[-1, 0, 0, 145], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    image = untyped.Nifti1Image(hu[::-1], affine)
    image.header["descrip"] = SECRET
    image.to_filename(tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def run(scan: Path, detector: Detector, model: Model, name: str = "out", **ids: str) -> tuple[Path, Report]:
    """Detect into a new folder."""
    out = scan.with_name(name)
    out.mkdir()
    return out, detect_scan(scan, out, detector, model=model, **ids)


def test_the_result_is_all_its_files_and_the_report_of_the_contract(
    scan: Path, detector: Detector, model: Model
) -> None:
    """What is written is what is returned, and passes the contract's own check."""
    job_id, scan_id = new_id(), new_id()
    out, report = run(scan, detector, model, job_id=job_id, scan_id=scan_id)
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert Report.model_validate_json((out / "report.json").read_bytes()) == report
    assert (report.job_id, report.scan_id) == (job_id, scan_id)
    assert json.loads((out / "report.json").read_bytes())["schema"] == "1"
    assert report.input.sha256 == hashlib.sha256(scan.read_bytes()).hexdigest()
    assert report.input.orientation == "RAS"
    assert report.input.hu_range == (-3000, 9000)
    assert (report.alignment.method, report.alignment.applied) == ("none", False)
    assert report.model.sha256 == model.sha256
    assert report.saliency.positive
    assert report.saliency.side == "right"


def test_map_and_scan_lie_on_each_other_in_world_space(
    scan: Path, detector: Detector, model: Model, hu: npt.NDArray[np.float32]
) -> None:
    """Both have the axes L, A, S and the affine of the input, as sform and as qform."""
    out, report = run(scan, detector, model)
    saliency, aligned = (
        untyped.Nifti1Image.from_filename(out / f"{name}.nii.gz") for name in ("saliency", "aligned")
    )
    for image in (saliency, aligned):
        np.testing.assert_allclose(image.get_sform(), GRID_AFFINE, atol=1e-4)
        np.testing.assert_allclose(image.get_qform(), GRID_AFFINE, atol=1e-4)
        assert image.header["sform_code"] == image.header["qform_code"] > 0
        assert image.header["descrip"].item().decode() == RESEARCH_USE_ONLY
    assert saliency.get_data_dtype() == np.float32
    assert aligned.get_data_dtype() == np.dtype("<i2")
    np.testing.assert_array_equal(np.asarray(aligned.dataobj), np.rint(np.clip(hu, -1024, 3071)))
    levels = np.asarray(saliency.dataobj)
    assert report.saliency.peak_voxel is not None
    assert levels[report.saliency.peak_voxel] == levels.max() > 50
    world = GRID_AFFINE @ [*report.saliency.peak_voxel, 1]
    assert report.saliency.peak_mm == pytest.approx(tuple(world[:3]))


def test_nothing_of_the_inputs_header_text_reaches_a_file(
    scan: Path, detector: Detector, model: Model
) -> None:
    """Headers are written fresh."""
    out, _ = run(scan, detector, model)
    for name in ("saliency", "aligned"):
        assert SECRET not in untyped.Nifti1Image.from_filename(out / f"{name}.nii.gz").to_bytes()
    assert SECRET not in (out / "report.json").read_bytes()


def test_the_same_scan_gives_the_same_bytes_twice(scan: Path, detector: Detector, model: Model) -> None:
    """Time stamps of gzip included; the report differs in its timings alone."""
    (first, one), (second, other) = (run(scan, detector, model, name) for name in ("first", "second"))
    for name in set(FILES) - {"report.json"}:
        assert (first / name).read_bytes() == (second / name).read_bytes()
    untimed = [
        json.loads((out / "report.json").read_bytes()) | {"timings_s": None} for out in (first, second)
    ]
    assert json.dumps(untimed[0]) == json.dumps(untimed[1])
    assert one.model_copy(update={"timings_s": {}}) == other.model_copy(update={"timings_s": {}})


def test_below_its_models_floor_a_map_is_written_as_ever_but_not_painted(
    scan: Path, detector: Detector, model: Model
) -> None:
    """Files and figures are those without a floor; picture and report say that no region stands out."""
    above, with_map = run(scan, detector, model, "above")
    high = dataclasses.replace(model, saliency_floor=with_map.saliency.raw_max)
    below, without = run(scan, detector, high, "below")
    for name in ("aligned.nii.gz", "saliency.nii.gz", "saliency_fixed.nii.gz"):
        assert (above / name).read_bytes() == (below / name).read_bytes()
    assert without.saliency == with_map.saliency.model_copy(
        update={"positive": False, "floor": high.saliency_floor}
    )
    words = caption(without, high)
    assert [NO_FLOOR in report.warnings for report in (with_map, without)] == [True, False]
    assert words.finding == NO_REGION_STANDS_OUT
    assert any("not above this model's floor" in note for note in words.notes)
    assert [colours(folder / "summary.png") > 0 for folder in (above, below)] == [True, False]


def colours(picture: Path) -> int:
    """Count the coloured pixels among a picture's slices."""
    with Image.open(picture) as opened:
        slices = np.asarray(opened.convert("RGB"))[130:1200, :1290].astype(int)
    return int((np.ptp(slices, axis=-1) > 40).sum())


def test_the_fixed_map_has_the_unit_of_the_raw_one(scan: Path, detector: Detector, model: Model) -> None:
    """Single floats on the map's grid, its header says in what unit; smoothing takes some of the maximum."""
    out, report = run(scan, detector, model)
    fixed, levels = (
        untyped.Nifti1Image.from_filename(out / f"{name}.nii.gz") for name in ("saliency_fixed", "saliency")
    )
    np.testing.assert_array_equal(fixed.affine, levels.affine)
    assert fixed.get_data_dtype() == np.float32
    assert fixed.header["descrip"].item().decode() == f"{RESEARCH_USE_ONLY} Network output per feature."
    values = np.asarray(fixed.dataobj)
    assert 0.3 * report.saliency.raw_max < values.max() < report.saliency.raw_max
    assert not values[73:].any()
    assert report.saliency.scale_fixed


@pytest.mark.parametrize(
    ("value", "trained", "words"),
    [
        (-0.5, (10.0, 150.0), "below zero"),
        (9.9, (10.0, 150.0), "outside what the model was trained on, 10 to 150 unknown unit: its error"),
        (10.0, (10.0, 150.0), None),
        (150.1, (10.0, 150.0), "outside what"),
        (150.1, None, None),
        (-0.5, None, "below zero"),
    ],
)
def test_a_number_beyond_what_was_trained_or_can_be_is_flagged(
    value: float, trained: tuple[float, float] | None, words: str | None, model: Model
) -> None:
    """Below zero no volume is; of a model whose range nobody states, nothing is said of it."""
    warnings = estimate_warnings(value, dataclasses.replace(model, trained_range=trained))
    assert len(warnings) == (words is not None)
    assert (words or "") in "".join(warnings)


def test_a_scan_that_mirrors_itself_has_a_result_that_says_nothing(
    scan: Path, detector: Detector, model: Model, hu: npt.NDArray[np.float32]
) -> None:
    """The map is zero, no side is named, and the picture's words do not exclude a stroke."""
    half = hu[73:]
    untyped.Nifti1Image(np.concatenate([half[::-1], half]), GRID_AFFINE).to_filename(scan)
    out, report = run(scan, detector, model)
    assert report.saliency.model_dump(include={"raw_max", "positive", "side", "peak_voxel", "peak_mm"}) == {
        "raw_max": 0,
        "positive": False,
        "side": None,
        "peak_voxel": None,
        "peak_mm": None,
    }
    assert caption(report, model).finding == NO_REGION_STANDS_OUT
    assert not np.asarray(untyped.Nifti1Image.from_filename(out / "saliency.nii.gz").dataobj).any()
    with Image.open(out / "summary.png") as picture:
        picture.verify()


def test_the_picture_carries_number_error_model_and_the_research_line(
    scan: Path, detector: Detector, model: Model
) -> None:
    """Of a custom model no error and no unit is made up."""
    _, report = run(scan, detector, model)
    words = caption(report, model)
    assert words.number == f"{report.core_estimate.value:.1f}"
    assert (words.unit, words.error) == ("unknown unit", "error unknown")
    assert any("Custom weights of unknown origin." in note for note in words.notes)
    assert any("0 HU (black) to 100 HU (white)" in note for note in words.notes)
    assert words.research_use == RESEARCH_USE_ONLY


def test_a_file_that_holds_no_weights_is_a_wrong_setting(tmp_path: Path) -> None:
    """It is said when the processor starts, not when a scan comes."""
    (tmp_path / "model.hdf5").write_bytes(b"no weights")
    model = resolve_model(str(tmp_path / "model.hdf5"), tmp_path)
    with pytest.raises(ConfigurationError, match=r"model\.hdf5 cannot be used"):
        load_detector(model)


def test_a_volume_of_another_shape_is_a_wrong_call(detector: Detector) -> None:
    """Readers of files refuse it in better words before."""
    with pytest.raises(ValueError, match=r"\(146, 182, 133\), received \(1, 2, 3\)"):
        detector.detect(np.zeros((1, 2, 3)))


def test_a_raw_head_is_detected_on_the_grid_and_its_map_written_on_its_own_voxels(
    tmp_path: Path, detector: Detector, model: Model
) -> None:
    """The peak is told in both spaces; both lie on the same point of the map."""
    head = raw_head(moved((8, -5, 12), (5, -5, 5)))
    lesion = head.stored.copy()
    lesion[60:90, 100:160, 60:80] -= 12
    untyped.Nifti1Image(lesion, head.affine).to_filename(tmp_path / "raw.nii")
    out, report = run(tmp_path / "raw.nii", detector, model)
    assert report.alignment.applied
    assert "LAS" in report.orientation_note
    assert {"reading", "alignment", "network"} <= set(report.timings_s)
    native = untyped.Nifti1Image.from_filename(out / "saliency_native.nii.gz")
    assert native.shape == head.stored.shape
    np.testing.assert_allclose(native.affine, head.affine, atol=1e-4)
    saliency = report.saliency
    assert saliency.peak_mm is not None
    assert saliency.peak_native_mm is not None
    back = np.array(report.alignment.inverse) @ [*saliency.peak_native_mm, 1]
    np.testing.assert_allclose(back[:3], saliency.peak_mm, atol=1e-6)
    voxel = np.rint(np.linalg.inv(head.affine) @ [*saliency.peak_native_mm, 1]).astype(int)[:3]
    assert np.asarray(native.dataobj)[tuple(voxel)] > 0.8 * np.asarray(native.dataobj).max()
