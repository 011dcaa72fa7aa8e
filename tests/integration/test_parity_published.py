"""The published weights give what the public code gives, on real and synthetic heads."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from processor.detect import detect_scan, load_detector
from processor.detection.detector import Detector
from processor.models import Model, resolve_model
from tests.support.reference import VOLUMES, aligned_volume, expected, expected_map, published_weights


@pytest.fixture(scope="module")
def model() -> Model:
    """The published weights, by path."""
    return resolve_model(str(published_weights()), Path("unused"))


@pytest.fixture(scope="module")
def detector(model: Model) -> Detector:
    """The same, loaded and warm."""
    return load_detector(model)


def voxels(path: Path) -> npt.NDArray[np.float32]:
    """Return the voxels of a map."""
    return np.asarray(nib.Nifti1Image.from_filename(path).dataobj, dtype=np.float32)


@pytest.mark.parametrize("name", VOLUMES)
def test_number_and_map_are_those_of_the_public_code(
    name: str, detector: Detector, model: Model, tmp_path: Path
) -> None:
    """Estimate within 1e-4, map within 3 of 100 levels everywhere, Dice at 50 of 0.99, the same side."""
    report = detect_scan(aligned_volume(name), tmp_path, detector, model=model)
    published = expected(name)
    assert report.core_estimate.value == pytest.approx(published.core_estimate, rel=1e-4)
    assert report.saliency.side == published.side
    # Gradients through max-pooling jump where two voxels are nearly equal.
    assert report.saliency.raw_max == pytest.approx(published.saliency_raw_max, rel=0.02)
    found, wanted = voxels(tmp_path / "saliency.nii.gz"), voxels(expected_map(name))
    assert np.abs(found - wanted).max() <= 3
    both = np.count_nonzero((found > 50) & (wanted > 50))
    dice = 2 * both / (np.count_nonzero(found > 50) + np.count_nonzero(wanted > 50))
    assert dice >= 0.99
    assert np.count_nonzero(wanted > 50) == published.voxels_above_50
    assert (tmp_path / "summary.png").stat().st_size <= 700_000


def test_a_real_scan_gives_the_same_bytes_twice(detector: Detector, model: Model, tmp_path: Path) -> None:
    """Also with another affine the map is the same; only its place in world space moves."""
    maps: list[Path] = []
    for name in ("cranium_ncct", "cranium_ncct", "cranium_ncct_fsl_affine"):
        out = tmp_path / str(len(maps))
        out.mkdir()
        detect_scan(aligned_volume(name), out, detector, model=model)
        maps.append(out / "saliency.nii.gz")
    assert maps[0].read_bytes() == maps[1].read_bytes()
    np.testing.assert_array_equal(voxels(maps[0]), voxels(maps[2]))
    moved = nib.Nifti1Image.from_filename(maps[2]).affine
    np.testing.assert_allclose(
        moved, nib.Nifti1Image.from_filename(aligned_volume("cranium_ncct_fsl_affine")).affine
    )
