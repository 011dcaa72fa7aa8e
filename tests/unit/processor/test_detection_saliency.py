"""From hemisphere maps to the map of the whole volume, each step against a plainer one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from processor.detection.grid import GRID_SHAPE, HEMISPHERE_SHAPE
from processor.detection.saliency import Array, enlarge, saliency_map

CELLS = (10, 23, 17)


def spot(at: tuple[int, int, int], height: float) -> Array:
    """Return a hemisphere map with one cell above zero."""
    cells = np.zeros(CELLS, np.float32)
    cells[at] = height
    return cells


def scan(darker: str | None) -> Array:
    """Return a normalised volume with one side darker than the other."""
    volume = np.full(GRID_SHAPE, 0.4, np.float32)
    if darker is not None:
        volume[slice(0, 73) if darker == "right" else slice(73, 146)] = 0.3
    return volume


def plain_gaussian(line: list[int]) -> list[int]:
    """Smooth a line of integers (sigma 1.5, radius 6), its ends mirrored, and drop fractions."""
    kernel = [math.exp(-0.5 * (n / 1.5) ** 2) for n in range(-6, 7)]
    total = sum(kernel)
    mirrored = line[5::-1] + line + line[:-7:-1]
    return [
        int(sum(weight / total * mirrored[o + n] for n, weight in enumerate(kernel)) + 1e-9)
        for o in range(len(line))
    ]


def test_enlarging_takes_the_cell_under_each_voxels_centre() -> None:
    """The whole map against a search for the nearest centre; half-way, the further one is taken."""
    small = np.arange(math.prod(CELLS), dtype=np.float32).reshape(CELLS)
    large = enlarge(small, HEMISPHERE_SHAPE)
    nearest = []
    for cells, voxels in zip(CELLS, HEMISPHERE_SHAPE, strict=True):
        centres = (np.arange(cells) + 0.5) * voxels / cells
        distance = np.abs(centres[None, :] - (np.arange(voxels) + 0.5)[:, None]).round(9)
        nearest.append(cells - 1 - distance[:, ::-1].argmin(axis=1))
    np.testing.assert_array_equal(large, small[np.ix_(*nearest)])


def test_a_map_is_scaled_to_its_maximum_and_smoothed_in_whole_numbers() -> None:
    """Along a line through the middle of a cell wide in the other axes, only one axis' smoothing is seen."""
    cells = np.zeros(CELLS, np.float32)
    cells[:, 11, :] = 3e-6
    cells[:, 5, :] = 2.999e-6 / 2
    found = saliency_map(cells, np.zeros(CELLS, np.float32), scan("left")).levels
    line = [0] * 182
    for row, level in ((11, 100), (5, 49)):
        for voxel in range(182):
            if (2 * voxel + 1) * 23 // 364 == row:
                line[voxel] = level
    assert found[100, :, 60].tolist() == plain_gaussian(line)


def test_the_fixed_map_is_the_raw_one_enlarged_and_smoothed_in_floating_point() -> None:
    """Against enlarging and SciPy's smoothing one after the other; doubled input gives doubled values."""
    cells = np.random.default_rng(6).random(CELLS, dtype=np.float32) * np.float32(1e-5)
    nothing = np.zeros(CELLS, np.float32)
    found = saliency_map(nothing, cells, scan("left")).fixed
    plain = ndimage.gaussian_filter(enlarge(cells, HEMISPHERE_SHAPE).astype(np.float64), 1.5, truncate=4.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[73:], plain, rtol=1e-6)
    assert not found[:73].any()
    np.testing.assert_array_equal(saliency_map(nothing, 2 * cells, scan("left")).fixed, 2 * found)


def test_along_a_line_the_fixed_map_is_the_weighted_mean_of_its_neighbours() -> None:
    """By the formula itself: weights exp(-n^2 / 2 sigma^2) to 6 voxels either way, that add up to 1."""
    cells = np.zeros(CELLS, np.float32)
    cells[:, 11, :] = 3e-6
    found = saliency_map(cells, np.zeros(CELLS, np.float32), scan("left")).fixed[100, :, 60]
    raw = [3e-6 if (2 * voxel + 1) * 23 // 364 == 11 else 0.0 for voxel in range(182)]
    weights = {n: math.exp(-0.5 * (n / 1.5) ** 2) for n in range(-6, 7)}
    for voxel in range(6, 176):
        mean = sum(w * raw[voxel + n] for n, w in weights.items()) / sum(weights.values())
        assert found[voxel] == pytest.approx(mean, rel=1e-5, abs=1e-15)


def test_levels_and_fixed_map_differ_by_no_more_than_dropped_fractions() -> None:
    """Both are one map in two units: at most one level is lost by scaling, and one by each axis."""
    cells = np.random.default_rng(7).random(CELLS, dtype=np.float32) * np.float32(1e-5)
    found = saliency_map(cells, np.zeros(CELLS, np.float32), scan("left"))
    lost = found.fixed / found.raw_max * 100 - found.levels
    assert lost.min() > -1e-3
    assert lost.max() < 4


def test_the_map_of_the_larger_sum_is_kept() -> None:
    """A broad low map wins over a narrow high one; its maximum is the one reported."""
    broad = np.full(CELLS, 1e-6, np.float32)
    narrow = spot((4, 10, 8), 1e-5)
    assert saliency_map(broad, narrow, scan("left")).raw_max == pytest.approx(1e-6)
    assert saliency_map(narrow, broad, scan("left")).raw_max == pytest.approx(1e-6)


def test_of_equal_maps_the_left_one_is_kept() -> None:
    """Right only if strictly larger."""
    left, right = spot((2, 4, 4), 1e-5), spot((2, 12, 4), 1e-5)
    kept = saliency_map(left, right, scan("left")).peak
    assert kept is not None
    assert enlarge(left, HEMISPHERE_SHAPE)[kept[0] - 73, kept[1], kept[2]] > 0


@pytest.mark.parametrize(("darker", "side"), [("left", "left"), ("right", "right"), (None, "left")])
def test_the_map_is_put_on_the_darker_side(darker: str | None, side: str) -> None:
    """Whichever hemisphere's map it is; right only if strictly darker; nothing on the other side."""
    for maps in ((spot((3, 9, 9), 1e-5), spot((3, 9, 9), 0)), (spot((3, 9, 9), 0), spot((3, 9, 9), 1e-5))):
        found = saliency_map(*maps, scan(darker))
        left, right = found.levels[73:], found.levels[:73]
        assert found.side == side
        assert (left if side == "left" else right).any()
        assert not (right if side == "left" else left).any()
        assert found.levels.shape == GRID_SHAPE
        assert found.levels.dtype == np.float32


def test_a_map_on_the_right_is_the_mirror_of_the_one_on_the_left() -> None:
    """Index 72 and 73 are next to each other, on both sides of the midline."""
    cells = np.random.default_rng(5).random(CELLS, dtype=np.float32)
    nothing = np.zeros(CELLS, np.float32)
    left = saliency_map(cells, nothing, scan("left")).levels
    right = saliency_map(cells, nothing, scan("right")).levels
    np.testing.assert_array_equal(left, right[::-1])


def test_the_peak_is_the_largest_level_nearest_the_middle_of_all_that_are() -> None:
    """A plateau's middle says where it is; its corner does not."""
    found = saliency_map(spot((4, 10, 8), 1e-5), spot((0, 0, 0), 0), scan("left"))
    assert found.peak is not None
    assert found.levels[found.peak] == found.levels.max()
    middle = [73 + (4.5 * 73 / 10), 10.5 * 182 / 23, 8.5 * 133 / 17]
    np.testing.assert_allclose(np.array(found.peak) + 0.5, middle, atol=1.0)


def test_maps_of_zeros_say_nothing_and_divide_by_nothing() -> None:
    """No side, no peak, zero everywhere."""
    with np.errstate(all="raise"):
        found = saliency_map(np.zeros(CELLS, np.float32), np.zeros(CELLS, np.float32), scan("left"))
    for whole in (found.levels, found.fixed):
        assert not whole.any()
        assert whole.shape == GRID_SHAPE
    assert (found.raw_max, found.side, found.peak) == (0.0, None, None)
