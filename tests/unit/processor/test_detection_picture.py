"""The summary picture: what is on which side, and that it stays small and the same."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from processor.detection.drawing import AMBER
from processor.detection.grid import GRID_AFFINE, GRID_SHAPE, Volume
from processor.detection.picture import Caption, shown_slices, summary_png

CAPTION = Caption(
    "12.3", "ml", "usually off by 10.5 (RMSE)", "A finding.", (), ("A note.",), "Research use only."
)
PEAK = (20, 150, 70)


def level_map(peak: tuple[int, int, int]) -> Volume:
    """Return a map of one bright cube."""
    levels = np.zeros(GRID_SHAPE, np.float32)
    i, j, k = peak
    levels[i - 6 : i + 7, j - 6 : j + 7, k - 1 : k + 2] = 97
    return levels


def noisy_scan() -> npt.NDArray[np.int16]:
    """Return what compresses worst: noise in the brain's range, everywhere."""
    return np.random.default_rng(31).normal(40, 15, GRID_SHAPE).astype(np.int16)


def painted(png: bytes) -> npt.NDArray[np.bool_]:
    """Tell which pixels of the slices have a colour, shape (rows, columns)."""
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    slices = picture[130:-150, :1290]
    return np.asarray(np.ptp(slices, axis=-1) > 40)


def test_twenty_slices_span_the_brain_and_meet_the_peak() -> None:
    """All lie on the grid; the peak's is among them unless it is at the very top or bottom."""
    for peak in (None, *((10, 10, k) for k in range(133))):
        slices = shown_slices(peak)
        assert len(slices) == 20
        assert slices[0] >= 0
        assert slices[-1] < GRID_SHAPE[2]
        if peak is not None and 8 <= peak[2] <= 122:
            assert peak[2] in slices


def test_the_patients_right_and_front_are_left_and_up_in_the_picture() -> None:
    """The map of a cube at the right front is painted in the upper left of its slice."""
    png = summary_png(np.zeros(GRID_SHAPE, np.int16), level_map(PEAK), PEAK, GRID_AFFINE, CAPTION)
    rows, columns = np.nonzero(painted(png))
    number = shown_slices(PEAK).index(PEAK[2])
    top, left = 128 - 130 + (number // 5) * 315, 28 + (number % 5) * 254
    assert left < columns.min() < columns.max() < left + 124
    assert top < rows.min() < rows.max() < top + 154


def test_nothing_is_painted_where_the_map_is_empty() -> None:
    """No colour looks like a finding."""
    empty = np.zeros(GRID_SHAPE, np.float32)
    assert not painted(summary_png(noisy_scan(), empty, None, GRID_AFFINE, CAPTION)).any()


def test_without_a_map_there_are_neither_colours_nor_their_scale() -> None:
    """A scale beside no colours would ask what is where."""
    scan = noisy_scan()
    with_map, without = (
        np.asarray(
            Image.open(io.BytesIO(summary_png(scan, levels, None, GRID_AFFINE, CAPTION))).convert("RGB")
        )
        for levels in (np.zeros(GRID_SHAPE, np.float32), None)
    )
    coloured = [np.ptp(page[130:-150].astype(int), axis=-1) > 40 for page in (with_map, without)]
    assert [bool(pixels.any()) for pixels in coloured] == [True, False]


def test_the_picture_is_small_and_always_the_same() -> None:
    """At most 700 kB on the worst of scans; same arguments, same bytes."""
    arguments = (noisy_scan(), level_map(PEAK), PEAK, GRID_AFFINE, CAPTION)
    png = summary_png(*arguments)
    assert len(png) <= 700_000
    assert png == summary_png(*arguments)


def test_long_notes_are_wrapped_into_the_picture() -> None:
    """A note of many words makes the picture higher, not wider."""
    scan, empty = np.zeros(GRID_SHAPE, np.int16), np.zeros(GRID_SHAPE, np.float32)
    long = Caption("1", "ml", "?", "A finding.", (), ("word " * 100,), "Research use only.")
    short, high = (
        Image.open(io.BytesIO(summary_png(scan, empty, None, GRID_AFFINE, c))) for c in (CAPTION, long)
    )
    assert high.width == short.width
    assert high.height > short.height


def test_warnings_stand_in_amber_under_the_slices() -> None:
    """Whoever sees the number sees what limits it: a line of gray among others is not read."""
    scan, warned = np.zeros(GRID_SHAPE, np.int16), dataclasses.replace(CAPTION, warnings=("Mind this.",))
    with_warning, without = (
        np.asarray(Image.open(io.BytesIO(summary_png(scan, None, None, GRID_AFFINE, c))).convert("RGB"))
        for c in (warned, CAPTION)
    )
    amber = [int((page == AMBER).all(axis=-1).sum()) for page in (with_warning, without)]
    assert amber[0] > amber[1] > 0
