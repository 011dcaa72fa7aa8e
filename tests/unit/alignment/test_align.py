"""The alignment of a head whose place is known, and every refusal of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from processor.alignment.align import Alignment, align
from processor.alignment.errors import AlignmentRefusedError
from processor.alignment.resampling import onto_grid
from processor.alignment.space import Affine, StoredVolume, transform
from processor.alignment.template import load_template
from processor.detection.grid import GRID_AFFINE
from tests.support.heads import AIR_HU, SCANNER_AFFINE, SCANNER_SHAPE, moved, raw_head

Damage = Callable[[StoredVolume], StoredVolume]


@pytest.fixture(scope="module")
def head() -> StoredVolume:
    """The head as the scanner stores it, straight."""
    return raw_head()


@pytest.fixture(scope="module")
def aligned(head: StoredVolume) -> Alignment:
    """The same, aligned."""
    return align(head)


def error_mm(found: Affine, true: Affine) -> npt.NDArray[np.float64]:
    """Return how far two transforms are apart at the brain's voxels, mm in the template's world."""
    template = load_template()
    brain = transform(template.affine, np.argwhere(template.brain)[::97])
    difference = np.linalg.inv(true) @ found
    return np.asarray(np.linalg.norm(transform(difference, brain) - brain, axis=1), np.float64)


def with_voxels(head: StoredVolume, voxels: npt.NDArray[np.int16]) -> StoredVolume:
    """Return the same scan with other values."""
    return dataclasses.replace(head, stored=voxels)


def sheared(_: StoredVolume) -> StoredVolume:
    """Return the head as a gantry tilted by 18 degrees scans it: every slice lies a little further back."""
    tilted = SCANNER_AFFINE.copy()
    tilted[1, 2] = -2 * np.tan(np.radians(18))
    tilted[1, 3] += 40
    return raw_head(affine=tilted)


def thick(_: StoredVolume) -> StoredVolume:
    """Return slices of 5 mm."""
    return raw_head(affine=SCANNER_AFFINE @ np.diag([1, 1, 2.5, 1]), shape=(*SCANNER_SHAPE[:2], 48))


def reordered(head: StoredVolume) -> StoredVolume:
    """Return the axes as superior, posterior, right."""
    turn = np.array(
        [[0, 0, -1, SCANNER_SHAPE[0] - 1], [0, -1, 0, SCANNER_SHAPE[1] - 1], [1, 0, 0, 0], [0, 0, 0, 1]]
    )
    return dataclasses.replace(
        head, stored=head.stored.transpose(2, 1, 0)[:, ::-1, ::-1], affine=head.affine @ turn
    )


def unsigned(head: StoredVolume) -> StoredVolume:
    """Return the values without a sign, as a scanner stores them, with the intercept that says so."""
    return dataclasses.replace(head, stored=(head.stored + 1024).astype(np.uint16), intercept=-1024.0)


def anisotropic(_: StoredVolume) -> StoredVolume:
    """Return voxels of 0.5 x 0.5 x 5 mm."""
    return raw_head(affine=SCANNER_AFFINE @ np.diag([0.5, 0.5, 2.5, 1]), shape=(440, 500, 48))


def with_table(head: StoredVolume) -> StoredVolume:
    """Return the head on a table, which is longer than it."""
    voxels = head.stored.copy()
    voxels[10:-10, 2:8] = 200
    return with_voxels(head, voxels)


@pytest.mark.parametrize("store", [sheared, thick, reordered, unsigned, anisotropic, with_table])
def test_however_a_scan_is_stored_the_head_is_found_within_3_mm(store: Damage, head: StoredVolume) -> None:
    """The truth is known: the head was built around the template's brain."""
    assert error_mm(align(store(head)).to_scan, moved()).max() < 3


def test_a_turned_and_shifted_head_is_found_as_the_straight_one_is(aligned: Alignment) -> None:
    """Twenty degrees about every axis and 40 mm along each; within 3 mm, 1.5 mm on average."""
    motion = moved((20, -20, 20), (40, -40, 40), scale=1)
    turned = align(raw_head(motion @ moved(), affine=motion_affine(motion), shape=(260, 290, 150)))
    apart = error_mm(turned.to_scan, motion @ aligned.to_scan)
    assert apart.max() < 3
    assert apart.mean() < 1.5


def motion_affine(motion: Affine) -> Affine:
    """Return a scanner's affine that shifts with the head and does not turn with it."""
    affine = SCANNER_AFFINE.copy()
    affine[:3, 3] += motion[:3, 3] + [20, -20, -30]
    return affine


def test_the_aligned_head_lies_on_the_grid_in_hounsfield_units(aligned: Alignment) -> None:
    """Brain in the middle, bone around it, air in the corners; 12-bit whole numbers."""
    hu = onto_grid(aligned.volume, aligned.to_scan)
    template = load_template()
    i, j, k = np.rint(transform(np.linalg.inv(GRID_AFFINE), template.centroid_mm[None])[0]).astype(int)
    assert hu.dtype == np.int16
    assert 10 < hu[i - 3 : i + 4, j - 3 : j + 4, k - 3 : k + 4].mean() < 60
    assert hu[0, 0, 0] == AIR_HU
    assert hu[i, 0, k] > 700
    assert hu[i, -1, k] > 700


def test_the_same_scan_gives_the_same_transform_to_the_last_bit(
    head: StoredVolume, aligned: Alignment
) -> None:
    """Sampling is seeded, sums have one order."""
    assert align(head).to_scan.tobytes() == aligned.to_scan.tobytes()


def test_what_was_subtracted_is_said_and_the_head_found_as_without(
    head: StoredVolume, aligned: Alignment
) -> None:
    """An offset changes every number of the report's input."""
    found = align(with_voxels(head, head.stored + np.int16(1024)))
    assert found.warnings == ("The values are Hounsfield units plus 1024; 1024 was subtracted.",)
    assert error_mm(found.to_scan, aligned.to_scan).max() < 0.1


def slab(head: StoredVolume) -> StoredVolume:
    """68 mm of it."""
    affine = head.affine.copy()
    affine[2, 3] += 2 * 58
    return dataclasses.replace(head, stored=head.stored[:, :, 58:92], affine=affine)


def without_vertex(head: StoredVolume) -> StoredVolume:
    """It ends 52 mm above the commissures."""
    return dataclasses.replace(head, stored=head.stored[:, :, :86])


def without_base(head: StoredVolume) -> StoredVolume:
    """It begins 10 mm below them."""
    affine = head.affine.copy()
    affine[2, 3] += 2 * 55
    return dataclasses.replace(head, stored=head.stored[:, :, 55:], affine=affine)


def magnetic_resonance(head: StoredVolume) -> StoredVolume:
    """No bone, no air below zero."""
    return with_voxels(
        head, np.where(head.stored > 500, 0, np.clip(head.stored * 10, 0, 800)).astype(np.int16)
    )


def windowed(head: StoredVolume) -> StoredVolume:
    """As brain windows are saved."""
    return with_voxels(head, np.clip(head.stored, 0, 100).astype(np.int16))


def eight_bit(head: StoredVolume) -> StoredVolume:
    """As pictures are."""
    return with_voxels(head, np.clip(head.stored // 8 + 128, 0, 255).astype(np.int16))


def skull_stripped(head: StoredVolume) -> StoredVolume:
    """Air where the skull was."""
    bone = ndimage.binary_dilation(head.stored > 500, iterations=4)
    labels, _ = ndimage.label((head.stored > -100) & ~bone)
    brain = labels == labels[110, 125, 65]
    return with_voxels(head, np.where(brain, head.stored, AIR_HU).astype(np.int16))


def no_skull_at_all(head: StoredVolume) -> StoredVolume:
    """A water phantom with a wire of metal."""
    voxels = np.where(head.stored > -200, 0, AIR_HU).astype(np.int16)
    voxels[100:106, 110:130, 20:100] = 2500
    return with_voxels(head, voxels)


def body(head: StoredVolume) -> StoredVolume:
    """A trunk of 340 x 230 x 300 mm with a spine, ribs and lungs."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (200, 140, 100)), indexing="ij")
    radius = np.hypot(x / 0.85, y / 0.82)
    voxels = np.where(radius < 1, 50, AIR_HU)
    voxels[(np.abs(radius - 0.9) < 0.03) & (np.sin(z * 30) > 0.3)] = 700
    voxels[(np.hypot(np.abs(x) - 0.4, y) < 0.28) & (z > 0)] = -800
    voxels[np.hypot(x, y + 0.6) < 0.12] = 600
    affine = np.array([[-2.0, 0, 0, 200], [0, 2, 0, -140], [0, 0, 3, -150], [0, 0, 0, 1]])
    return dataclasses.replace(head, stored=voxels.astype(np.int16), affine=affine)


def voxel_size_wrong(head: StoredVolume) -> StoredVolume:
    """Slices of 2 mm said to be 3."""
    return dataclasses.replace(head, affine=head.affine @ np.diag([1, 1, 1.5, 1]))


def metres(head: StoredVolume) -> StoredVolume:
    """A header in metres."""
    return dataclasses.replace(head, affine=np.diag([1e-3, 1e-3, 1e-3, 1]) @ head.affine)


def upside_down(head: StoredVolume) -> StoredVolume:
    """Slices the other way round than the header says."""
    return with_voxels(head, head.stored[:, :, ::-1])


def back_to_front(head: StoredVolume) -> StoredVolume:
    """Rows the other way round."""
    return with_voxels(head, head.stored[:, ::-1])


def rows_and_columns_swapped(head: StoredVolume) -> StoredVolume:
    """Every slice transposed, the header as it was: it mirrors the head."""
    return with_voxels(head, head.stored.transpose(1, 0, 2))


def a_small_childs(_: StoredVolume) -> StoredVolume:
    """Three quarters of the template's size."""
    return raw_head(moved(scale=0.72))


@pytest.mark.parametrize(
    ("damage", "codes"),
    [
        (slab, {"brain-cut-off"}),
        (without_vertex, {"brain-cut-off"}),
        (without_base, {"brain-cut-off"}),
        (magnetic_resonance, {"not-hounsfield"}),
        (windowed, {"not-hounsfield"}),
        (eight_bit, {"not-hounsfield"}),
        (skull_stripped, {"bone-missing"}),
        (no_skull_at_all, {"head-not-found", "skull-missing"}),
        (body, {"head-not-found", "skull-missing"}),
        (voxel_size_wrong, {"head-size-implausible", "head-not-found"}),
        (metres, {"scan-size-implausible"}),
        (upside_down, {"orientation-implausible"}),
        (back_to_front, {"orientation-implausible"}),
        (rows_and_columns_swapped, {"orientation-implausible"}),
        (a_small_childs, {"head-size-implausible", "head-not-found"}),
    ],
)
def test_what_is_no_whole_head_is_refused_with_its_figure(
    damage: Damage, codes: set[str], head: StoredVolume
) -> None:
    """Never guessed: the words say what was expected, what was measured, what to do."""
    with pytest.raises(AlignmentRefusedError) as caught:
        align(damage(head))
    assert caught.value.code in codes
    expected, received = caught.value.detail.split("eceived", 1)
    assert "Expected" in expected
    assert any(letter.isdigit() for letter in received)
    assert caught.value.detail.count(".") >= 2
