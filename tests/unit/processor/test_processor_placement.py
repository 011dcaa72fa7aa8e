"""A scan on its way onto the grid and back: raw ones aligned, aligned ones untouched, others refused."""

from __future__ import annotations

import gzip
import io
import itertools
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pipeline.errors import ScanRefusedError
from processor.alignment.picture import PLANES_MM, alignment_png
from processor.alignment.resampling import onto_scan
from processor.alignment.space import Affine, StoredVolume, transform
from processor.detection.drawing import AMBER
from processor.detection.grid import GRID_AFFINE, GRID_SHAPE
from processor.outputs import about_alignment, nifti_gz
from processor.placement import PlacedScan, orientation_note, place_on_grid
from processor.volumes import read_volume
from tests.support.heads import SCANNER_AFFINE, moved, raw_head

untyped: Any = nib
"""nibabel's functions carry no types; called by this name they need none."""
MOTION = moved((12, -8, 15), (6, -9, 4))
FSL_CROPPED = np.diag([-1.0, 1, 1, 1])
FSL_CROPPED[:3, 3] = 90, -126, -72
FSL_HALVED = np.diag([-0.5, 0.5, 0.5, 1])
FSL_HALVED[:3, 3] = 90, -126, -72


def saved(path: Path, volume: StoredVolume) -> Path:
    """Save a scan without compressing it."""
    image = untyped.Nifti1Image(volume.stored, volume.affine)
    image.to_filename(path.with_suffix(".nii"))
    return path.with_suffix(".nii")


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> PlacedScan:
    """A raw head that lies askew, on the grid."""
    path = saved(tmp_path_factory.mktemp("scan") / "raw", raw_head(MOTION))
    return place_on_grid(read_volume(path))


def blob(at: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """Return a map with one round maximum."""
    axes = np.ogrid[tuple(slice(length) for length in GRID_SHAPE)]
    square = sum(((axis - centre) / 8) ** 2 for axis, centre in zip(axes, at, strict=True))
    return np.asarray(np.trunc(100 * np.exp(-square)), np.float32)


def centroid(levels: npt.NDArray[Any], affine: Affine) -> npt.NDArray[np.floating[Any]]:
    """Return the centre of gravity of a map in its world space."""
    at = np.argwhere(levels)
    centre: npt.NDArray[np.floating[Any]] = np.average(at, axis=0, weights=levels[tuple(at.T)])
    return transform(affine, centre[None]).ravel()


def test_a_raw_scan_is_aligned_and_its_report_says_how(placed: PlacedScan) -> None:
    """The transform is given both ways, the figures and the spaces of all positions with it."""
    alignment = placed.alignment
    assert alignment.applied
    assert alignment.quality is not None
    assert alignment.quality["dice"] > 0.945
    np.testing.assert_allclose(
        np.array(alignment.transform) @ np.array(alignment.inverse), np.eye(4), atol=1e-9
    )
    assert set(alignment.spaces) == {"saliency.peak_voxel", "saliency.peak_mm", "saliency.peak_native_mm"}
    assert placed.hu.shape == GRID_SHAPE
    assert placed.xform_code == 4
    np.testing.assert_array_equal(placed.affine, GRID_AFFINE)


@pytest.mark.parametrize("peak", [(40, 80, 70), (105, 120, 90), (70, 40, 30)])
def test_a_point_goes_from_map_to_scan_and_back_within_half_a_millimetre(
    placed: PlacedScan, peak: tuple[int, int, int]
) -> None:
    """By the report's matrices, and by the map that is written on the scan's own voxels."""
    levels = blob(peak)
    native = onto_scan(levels, placed.native.from_grid, placed.native.shape)
    assert native.shape == placed.native.shape
    to_scan, to_grid = np.array(placed.alignment.transform), np.array(placed.alignment.inverse)
    on_grid, on_scan = centroid(levels, GRID_AFFINE), centroid(native, SCANNER_AFFINE)
    assert np.linalg.norm(transform(to_scan, on_grid[None])[0] - on_scan) < 0.5
    assert np.linalg.norm(transform(to_grid, on_scan[None])[0] - on_grid) < 0.5
    assert abs(int(native.max()) - int(levels.max())) <= 5


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_on_a_scan_that_came_on_the_grid_the_map_is_the_same_voxel_for_voxel(
    axes: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    """Along whichever axes its file runs, each voxel of the grid is where the affine puts it."""
    from_grid = nib.orientations.inv_ornt_aff(np.array(list(zip(axes, signs, strict=True))), GRID_SHAPE)
    from_grid = np.linalg.inv(from_grid)
    levels = np.random.default_rng(7).integers(0, 101, GRID_SHAPE).astype(np.float32)
    shape = [0, 0, 0]
    for length, axis in zip(GRID_SHAPE, axes, strict=True):
        shape[axis] = length
    native = onto_scan(levels, from_grid, (shape[0], shape[1], shape[2]))
    voxels = np.random.default_rng(8).integers(0, GRID_SHAPE, (1000, 3))
    there = np.rint(transform(from_grid, voxels)).astype(int)
    np.testing.assert_array_equal(native[tuple(there.T)], levels[tuple(voxels.T)])


def test_what_lies_outside_of_the_scan_is_left_out_of_its_map(placed: PlacedScan) -> None:
    """A map of zeros, and one beyond the scan's edge, are zero everywhere."""
    beyond = np.eye(4)
    beyond[:3, 3] = 1000
    shape = placed.native.shape
    assert not onto_scan(np.zeros(GRID_SHAPE, np.float32), placed.native.from_grid, shape).any()
    assert not onto_scan(blob((70, 90, 60)), beyond, shape).any()


@pytest.mark.parametrize("affine", [GRID_AFFINE, FSL_CROPPED, FSL_HALVED])
def test_an_aligned_volume_is_not_touched_whichever_affine_it_carries(
    placed: PlacedScan, tmp_path: Path, affine: Affine
) -> None:
    """Voxels, type and affine are those of the file; the map goes back onto the same voxels."""
    path = saved(tmp_path / "aligned", StoredVolume(np.clip(placed.hu, 0, 100), 1, 0, affine))
    again = place_on_grid(read_volume(path))
    assert (again.alignment.method, again.alignment.applied) == ("none", False)
    assert again.alignment.transform is None
    assert again.hu.tobytes() == np.clip(placed.hu, 0, 100).tobytes()
    np.testing.assert_array_equal(again.affine, affine)
    np.testing.assert_array_equal(again.native.from_grid, np.eye(4))
    assert again.warnings == ()


def test_a_volume_of_the_grids_shape_whose_skull_is_elsewhere_carries_a_warning(
    placed: PlacedScan, tmp_path: Path
) -> None:
    """It may be meant so; whoever reads the report is to look."""
    shifted = np.roll(placed.hu, 20, axis=0)
    path = saved(tmp_path / "shifted", StoredVolume(np.clip(shifted, 0, 100), 1, 0, GRID_AFFINE))
    (warning,) = place_on_grid(read_volume(path)).warnings
    assert "Look at alignment.png" in warning


def test_a_volume_of_the_grids_shape_without_a_brain_in_it_is_refused(tmp_path: Path) -> None:
    """The shape alone proves nothing."""
    path = saved(tmp_path / "air", StoredVolume(np.zeros(GRID_SHAPE, np.int16), 1, 0, GRID_AFFINE))
    with pytest.raises(ScanRefusedError) as caught:
        place_on_grid(read_volume(path))
    assert caught.value.failure.code == "not-hounsfield"


def test_a_map_on_a_scan_of_a_tilted_gantry_keeps_its_shear() -> None:
    """A qform cannot say it: there is none then, and every viewer takes the sform."""
    tilted = SCANNER_AFFINE.copy()
    tilted[1, 2] = 0.6
    image = untyped.Nifti1Image.from_bytes(
        gzip.decompress(nifti_gz(np.zeros((2, 2, 2), np.uint8), tilted, 1, ""))
    )
    np.testing.assert_allclose(image.affine, tilted, atol=1e-5)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 0)


def test_left_and_right_are_told_as_the_headers_claim() -> None:
    """Nobody can check them: the sentence says so."""
    note = orientation_note("LPS")
    assert "patient's left, back and top (LPS)" in note
    assert "swaps left and right cannot be told" in note


def test_the_picture_outlines_the_templates_brain(placed: PlacedScan) -> None:
    """Six planes, green lines, the same bytes twice."""
    picture = alignment_png(placed.hu, [], ["A note."], "Research use only.")
    assert picture == alignment_png(placed.hu, [], ["A note."], "Research use only.")
    with Image.open(io.BytesIO(picture)) as opened:
        pixels = np.asarray(opened.convert("RGB")).astype(int)
    green = (pixels[..., 1] > 150) & (pixels[..., 0] < 130)
    assert 3000 < green.sum() < 30_000


def test_the_planes_of_the_picture_are_cut_where_it_says() -> None:
    """A voxel's centre lies there, so that no label is half a voxel off."""
    for axis, planes_mm in zip((2, 1, 0), PLANES_MM, strict=True):
        indices = (np.array(planes_mm) - GRID_AFFINE[axis, 3]) / GRID_AFFINE[axis, axis]
        np.testing.assert_array_equal(indices, np.rint(indices))


def test_a_scans_warning_stands_in_amber_on_its_alignment_picture(placed: PlacedScan) -> None:
    """It sends the reader to this picture, who is to find it there."""
    with_warning, without = (
        amber(alignment_png(placed.hu, warnings, ["A note."], "Research use only."))
        for warnings in (["Look here."], [])
    )
    assert with_warning > without > 0


def test_the_alignments_figures_stand_beside_what_is_asked_of_them(
    placed: PlacedScan, tmp_path: Path
) -> None:
    """A figure without its limit cannot be judged at a glance."""
    raw = " ".join(about_alignment(placed.alignment, ""))
    assert re.search(
        r"\(Dice\): 0\.9\d, accepted from 0\.90\. .* surfaces: \d\.\d mm, accepted up to 3\.6", raw
    )
    path = saved(tmp_path / "aligned", StoredVolume(placed.hu, 1, 0, GRID_AFFINE))
    as_it_is = " ".join(about_alignment(place_on_grid(read_volume(path)).alignment, ""))
    assert re.search(r"has the skull: \d+%, in aligned heads at least 90%", as_it_is)


def amber(picture: bytes) -> int:
    """Count a picture's amber pixels."""
    with Image.open(io.BytesIO(picture)) as opened:
        return int((np.asarray(opened.convert("RGB")) == AMBER).all(axis=-1).sum())
