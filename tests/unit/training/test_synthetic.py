"""Synthetic scans are what their truth says they are."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from processor.alignment.grid_check import LEAST_SKULL_SHARE, check_on_grid
from processor.synthetic import AFFINE, SHAPE, Lesion, random_lesion, synthesize, write_samples
from processor.synthetic.samples import FIRST_SAMPLE_SEED

LEFT = Lesion("left", 40.0, -12.0)
RIGHT = Lesion("right", 40.0, -12.0)


def test_the_same_seed_and_lesion_make_the_same_voxels() -> None:
    """A scan is a function of its arguments."""
    first, again, other = synthesize(7, LEFT), synthesize(7, LEFT), synthesize(8, LEFT)

    assert np.array_equal(first.volume_hu, again.volume_hu)
    assert np.array_equal(first.truth.territory, again.truth.territory)
    assert not np.array_equal(first.volume_hu, other.volume_hu)
    assert random_lesion(7) == random_lesion(7) != random_lesion(8)


@pytest.mark.parametrize(("lesion", "sign"), [(LEFT, -1), (RIGHT, 1)])
def test_the_territory_lies_on_the_side_and_has_the_volume_it_says(lesion: Lesion, sign: int) -> None:
    """World x is negative on the patient's left; a voxel is 1 mm cubed, so 1000 of them are 1 ml."""
    truth = synthesize(3, lesion).truth

    count, total = 0, np.zeros(3)
    for i, j, k in np.argwhere(truth.territory):
        count += 1
        total += (72 - i, -107.5 + j, -51.5 + k)
    assert truth.side == lesion.side
    assert count == 40_000
    assert truth.volume_ml == pytest.approx(40.0)
    assert truth.centre_mm is not None
    assert truth.centre_mm == pytest.approx(tuple(total / count))
    assert sign * truth.centre_mm[0] > 20
    columns = np.argwhere(truth.territory)[:, 0]
    assert (columns >= 73).all() if lesion.side == "left" else (columns < 73).all()


def test_the_territory_is_darker_than_the_same_tissue_without_it() -> None:
    """The planted change is the lesion's depth in its core, nothing outside; fewer vessels fill inside."""
    planted, plain = synthesize(5, LEFT), synthesize(5)
    territory = planted.truth.territory
    change = planted.volume_hu.astype(float) - plain.volume_hu

    assert np.median(change[territory]) == pytest.approx(-12.0, abs=2.0)
    i, j, k = np.nonzero(territory)
    far = np.ones(SHAPE, dtype=bool)
    far[i.min() - 9 : i.max() + 10, j.min() - 9 : j.max() + 10, k.min() - 9 : k.max() + 10] = False
    # A branch that stops in the territory is missing beyond it too; nothing else differs.
    assert (change[far] <= 0).all()
    assert np.count_nonzero(change[far]) < 0.01 * far.sum()
    bright = (plain.volume_hu > 120) & territory
    assert bright.sum() > 0
    assert ((planted.volume_hu > 120) & territory).sum() < 0.6 * bright.sum()


def test_a_scan_looks_like_a_head_in_hounsfield_units() -> None:
    """Air around, bone around the brain, brain between 25 and 50 HU in its middle, and some contrast."""
    hu = synthesize(4).volume_hu

    assert hu.shape == SHAPE
    assert hu.dtype == np.int16
    assert hu[0, 0, 120] < -900
    assert (hu > 700).sum() > 100_000
    assert 25 < np.median(hu[53:93, 60:120, 80:100]) < 50
    assert ((hu > 180) & (hu < 400)).sum() > 3_000


def test_a_lesion_that_does_not_fit_is_refused_with_the_range_that_does() -> None:
    """The message names what was expected and what came."""
    with pytest.raises(ValueError, match=r"0\.001 to .* ml here, got 5000\.0 ml"):
        synthesize(1, Lesion("left", 5000.0, -10.0))


def test_samples_come_with_their_truth(tmp_path: Path) -> None:
    """The files carry the voxels of their seeds, the affine, and a truth that agrees with the territory."""
    paths = write_samples(tmp_path, count=4, seed=100)

    assert [path.name for path in paths] == [f"sample-0{n}.nii.gz" for n in (1, 2, 3, 4)]
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert truth["sample-04.nii.gz"]["side"] is None
    assert truth["sample-04.nii.gz"]["volume_ml"] == 0
    first = truth["sample-01.nii.gz"]
    image = nib.Nifti1Image.from_filename(paths[0])
    assert image.affine == pytest.approx(AFFINE)
    assert np.array_equal(
        np.asarray(image.dataobj), synthesize(first["seed"], random_lesion(first["seed"])).volume_hu
    )
    territory = np.asarray(nib.Nifti1Image.from_filename(tmp_path / first["territory"]).dataobj)
    assert territory.sum() / 1000 == pytest.approx(first["volume_ml"])
    assert b"Not for diagnosis" in image.header["descrip"].item()
    with pytest.raises(ValueError, match="at least 1"):
        write_samples(tmp_path, count=0)


def test_the_first_sample_lies_where_the_grid_has_heads() -> None:
    """What newcomers try first is taken as aligned without a warning."""
    first = synthesize(FIRST_SAMPLE_SEED, random_lesion(FIRST_SAMPLE_SEED))
    assert check_on_grid(first.volume_hu).skull_share >= LEAST_SKULL_SHARE
