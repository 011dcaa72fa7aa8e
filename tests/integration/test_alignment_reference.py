"""The alignment of real heads: found, found again when turned and moved, refused where it must be."""

from __future__ import annotations

import dataclasses
from functools import cache

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from processor.alignment.align import Alignment, align
from processor.alignment.errors import AlignmentRefusedError
from processor.alignment.resampling import onto_grid
from processor.alignment.space import StoredVolume, transform
from processor.alignment.template import load_template
from processor.volumes import read_volume
from tests.support.heads import moved
from tests.support.reference import aligned_volume, reference

HEADS = {
    "cranium_ncct": ((20, -20, 20), (40, -40, 40)),
    "pseudo_cta": ((-20, 15, -20), (-40, 40, -40)),
    "cranium_neck_shoulders_synth": ((10, 20, -15), (30, -20, -40)),
    "cranium_tilt18_sheared_sform": ((-15, -20, 10), (-25, 35, 40)),
}
"""Scans that are aligned, with a turn about x, y, z in degrees and a shift in mm for each."""
REFUSED = {
    "cranium_header_zflip_lie": {"orientation-implausible"},
    "cranium_slab67mm": {"brain-cut-off"},
    "headsq_neck_offset1024": {"brain-cut-off", "skull-missing"},
}


def raw(name: str) -> StoredVolume:
    """Return a raw scan of the reference data."""
    return read_volume(reference(f"raw/{name}.nii.gz")).volume


@cache
def aligned(name: str) -> Alignment:
    """Return its alignment."""
    return align(raw(name))


@pytest.mark.parametrize("name", HEADS)
def test_a_real_head_is_aligned_well(name: str) -> None:
    """The cavity of its skull overlaps the template's brain by at least 0.945 (Dice)."""
    quality = aligned(name).quality
    assert quality.dice >= 0.945
    assert quality.covered_share > 0.99


@pytest.mark.parametrize("name", HEADS)
def test_a_turned_and_moved_head_is_found_where_it_was_put(name: str) -> None:
    """Up to 20 degrees and 40 mm: every voxel of the brain within 3 mm, 0.7 mm on average."""
    motion = moved(*HEADS[name], scale=1)
    head = raw(name)
    again = align(dataclasses.replace(head, affine=motion @ head.affine))
    template = load_template()
    brain = transform(template.affine, np.argwhere(template.brain)[::97])
    difference = np.linalg.inv(motion @ aligned(name).to_scan) @ again.to_scan
    apart_mm = np.linalg.norm(transform(difference, brain) - brain, axis=1)
    assert apart_mm.max() < 3
    assert apart_mm.mean() < 0.7


def test_the_aligned_head_lies_within_a_millimetre_of_where_it_was_aligned_by_hand() -> None:
    """No shift by one voxel along any axis fits the reference better than none."""
    alignment = aligned("cranium_ncct")
    ours = np.clip(onto_grid(alignment.volume, alignment.to_scan), 0, 100).astype(np.float32)
    image = nib.Nifti1Image.from_filename(aligned_volume("cranium_ncct"))
    theirs = np.asarray(image.dataobj, np.float32)
    inner = (slice(10, -10, 2),) * 3

    def difference(shift: tuple[int, int, int]) -> float:
        return float(np.abs(ndimage.shift(ours, shift, order=0)[inner] - theirs[inner]).mean())

    shifts = [(0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    assert min(shifts, key=difference) == (0, 0, 0)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_a_whole_head_with_a_true_header_is_refused(name: str) -> None:
    """A slab, a scan without its vertex, a header that turns the slices round."""
    with pytest.raises(AlignmentRefusedError) as caught:
        align(raw(name))
    assert caught.value.code in REFUSED[name]
