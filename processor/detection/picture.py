"""The one-page summary: axial slices of the scan with the saliency map over them, and what must be said.

Slices are seen from below, as radiologists have it: the patient's right is on the left of the picture,
anterior is up.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from processor.detection.drawing import (
    FAINT,
    INK,
    LETTERS,
    PAPER,
    SMALL_LETTERS,
    draw_footer,
    font,
    footer_height,
    footer_lines,
    label,
    palette,
    wrap,
)
from processor.detection.grid import GRID_SHAPE, Volume
from processor.detection.preprocessing import WINDOW_HU
from processor.detection.saliency import FULL_SCALE, Voxel

Pixels: TypeAlias = npt.NDArray[np.uint8]
Affine: TypeAlias = npt.NDArray[np.floating[Any]]
Box: TypeAlias = tuple[int, int, int, int]

COLUMNS, ROWS = 5, 4
SLICE_STEP = 6
"""Voxels from slice to slice: 20 of them span the brain."""
FIRST_SLICE = 8
MIDDLE_SLICE = 76
LEAST_SHOWN = 10
"""Levels below are not painted, so that the scan can be read there."""

MOST_BYTES = 700_000
_GRAYS = (120, 52, 16)
"""Of the window of 100 HU; the eye tells fewer apart in noise."""
_PNG_LEVEL = 4
"""Of zlib's 1 ... 9: level 6 takes three times the CPU time of this one and saves 4 per cent."""
_TILE = (248, 309)
"""Width and height of a slice in the picture, pixels; 1.7 times its voxels."""
_GAP = 6
_MARGIN = 28
_BAR_WIDTH = 16
_BAR_COLUMN = 84
_HEADER_HEIGHT = 128

_OPACITY = (0.30, 0.80)
"""Of the map's colour at `LEAST_SHOWN` and at full scale."""
_COLOURS = ((0.0, (92, 16, 110)), (0.35, (206, 42, 74)), (0.7, (250, 128, 20)), (1.0, (255, 240, 120)))
"""Purple, red, orange, yellow: each lighter than the one before, none of them gray."""


@dataclass(frozen=True)
class Caption:
    """What stands around the slices.

    Attributes:
        number: The estimate.
        unit: Its unit.
        error: How far it is usually off.
        finding: What the map shows, a sentence.
        warnings: What must be seen before the number is used, sentences.
        notes: Further sentences.
        research_use: The line that every artefact carries.
    """

    number: str
    unit: str
    error: str
    finding: str
    warnings: Sequence[str]
    notes: Sequence[str]
    research_use: str


def shown_slices(peak: Voxel | None) -> list[int]:
    """Return the third indices of the 20 slices; one of them goes through the peak."""
    through = MIDDLE_SLICE if peak is None else peak[2]
    first = FIRST_SLICE + (through - FIRST_SLICE) % SLICE_STEP
    return [first + n * SLICE_STEP for n in range(COLUMNS * ROWS)]


def summary_png(
    volume_hu: npt.NDArray[Any], levels: Volume | None, peak: Voxel | None, affine: Affine, caption: Caption
) -> bytes:
    """Draw the summary; the same arguments give the same bytes.

    Args:
        volume_hu: (146, 182, 133) on the grid, Hounsfield units.
        levels: (146, 182, 133), the saliency map, 0 ... 100; None to paint none.
        peak: Voxel of the largest level, if any; it gets a ring.
        affine: (4, 4), voxel space to the world space in which positions are given, RAS millimetres.
        caption: The words.

    Returns:
        bytes: A PNG file.
    """
    slices = shown_slices(peak)
    width = (
        COLUMNS * _TILE[0] + (COLUMNS - 1) * _GAP + 2 * _MARGIN + (_BAR_COLUMN if levels is not None else 0)
    )
    mosaic_height = ROWS * _TILE[1] + (ROWS - 1) * _GAP
    lines = footer_lines(caption.warnings, caption.notes, width - 2 * _MARGIN)
    height = _HEADER_HEIGHT + mosaic_height + footer_height(lines) + _MARGIN
    page = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(page)
    _draw_header(draw, caption, width)
    for number, k in enumerate(slices):
        row, column = divmod(number, COLUMNS)
        corner = (_MARGIN + column * (_TILE[0] + _GAP), _HEADER_HEIGHT + row * (_TILE[1] + _GAP))
        page.paste(_tile(volume_hu[:, :, k], None if levels is None else levels[:, :, k]), corner)
        _label_tile(draw, corner, _z_mm(affine, k))
        if peak is not None and k == peak[2]:
            _mark_peak(draw, corner, peak)
    if levels is not None:
        left, top = width - _MARGIN - _BAR_COLUMN + 24, _HEADER_HEIGHT + 24
        _draw_bar(page, draw, (left, top, left + _BAR_WIDTH, _HEADER_HEIGHT + mosaic_height - 24))
    draw_footer(draw, (_MARGIN, _HEADER_HEIGHT + mosaic_height), lines, caption.research_use)
    return _encode(page)


def _draw_header(draw: ImageDraw.ImageDraw, caption: Caption, width: int) -> None:
    draw.text((_MARGIN, 20), "Core estimate", FAINT, font(LETTERS))
    draw.text((_MARGIN, 78), caption.number, INK, font(42), anchor="ls")
    unit_left = _MARGIN + font(42).getlength(f"{caption.number} ")
    draw.text((unit_left, 78), caption.unit, INK, font(21), anchor="ls")
    draw.text((_MARGIN, 90), caption.error, FAINT, font(LETTERS))
    left = width * 2 // 5
    for number, line in enumerate(wrap(caption.finding, width - _MARGIN - left, 21)):
        draw.text((left, 46 + number * 28), line, INK, font(21))


def _tile(slice_hu: npt.NDArray[Any], slice_levels: Volume | None) -> Image.Image:
    """Return a slice with the map over it."""
    low, high = WINDOW_HU
    gray = (np.clip(slice_hu, low, high).astype(np.float32) * (255 / high)).astype(np.uint8)
    scan = _enlarged(gray)
    if slice_levels is None or slice_levels.max() < LEAST_SHOWN:
        return Image.fromarray(scan).convert("RGB")
    level = _enlarged(slice_levels.astype(np.uint8))
    colours, opacity = _palette()
    alpha = opacity[level][..., None]
    mixed = scan[..., None] * (1 - alpha) + colours[level] * alpha
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def _enlarged(axial: Pixels) -> Pixels:
    """Turn a slice (x, y) into a picture (row, column), anterior up, and enlarge it to a tile."""
    picture = Image.fromarray(np.ascontiguousarray(axial.T[::-1]))
    return np.asarray(picture.resize(_TILE, Image.Resampling.BILINEAR))


@cache
def _palette() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the colour, (256, 3), and the opacity, (256,), of every level."""
    share = np.clip(np.arange(256) / FULL_SCALE, 0, 1)
    stops = [stop for stop, _ in _COLOURS]
    colours = np.stack(
        [np.interp(share, stops, [colour[channel] for _, colour in _COLOURS]) for channel in range(3)], axis=1
    )
    opacity = np.interp(share, (LEAST_SHOWN / FULL_SCALE, 1), _OPACITY)
    opacity[:LEAST_SHOWN] = 0
    return colours.astype(np.float32), opacity.astype(np.float32)


def _label_tile(draw: ImageDraw.ImageDraw, corner: tuple[int, int], z_mm: float) -> None:
    x, y = corner
    width, height = _TILE
    label(draw, (x + 8, y + 6), "R", "la")
    label(draw, (x + width - 8, y + 6), "L", "ra")
    label(draw, (x + 8, y + height - 8), f"z {z_mm:+.1f} mm", "ls")


def _mark_peak(draw: ImageDraw.ImageDraw, corner: tuple[int, int], peak: Voxel) -> None:
    """Draw a ring around the largest level."""
    x = corner[0] + (peak[0] + 0.5) * _TILE[0] / GRID_SHAPE[0]
    y = corner[1] + (GRID_SHAPE[1] - peak[1] - 0.5) * _TILE[1] / GRID_SHAPE[1]
    for radius, colour in ((13, PAPER), (12, INK), (10, PAPER)):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour)


def _draw_bar(page: Image.Image, draw: ImageDraw.ImageDraw, box: Box) -> None:
    """Draw the scale of the map, with the opacity it has over mid-gray tissue."""
    left, top, right, bottom = box
    level = np.linspace(FULL_SCALE, 0, bottom - top).round().astype(int)
    colours, opacity = _palette()
    alpha = opacity[level][:, None]
    shown = np.rint(110 * (1 - alpha) + colours[level] * alpha).astype(np.uint8)
    page.paste(Image.fromarray(np.repeat(shown[:, None], right - left, axis=1)), (left, top))
    for mark in (0, 25, 50, 75, FULL_SCALE):
        y = bottom - round((bottom - top) * mark / FULL_SCALE)
        draw.line((right + 2, y, right + 7, y), FAINT)
        draw.text((right + 11, y), f"{mark} %", INK, font(SMALL_LETTERS), anchor="lm")


def _z_mm(affine: Affine, k: int) -> float:
    """Return the world z of a slice's centre."""
    centre = ((GRID_SHAPE[0] - 1) / 2, (GRID_SHAPE[1] - 1) / 2, k, 1)
    return float(affine[2] @ centre)


def _encode(page: Image.Image) -> bytes:
    """Return a PNG of at most `MOST_BYTES`: of a palette, and on a noisy scan of one with fewer grays."""
    for grays in _GRAYS:
        file = io.BytesIO()
        reduced = page.quantize(palette=_page_palette(grays), dither=Image.Dither.NONE)
        reduced.save(file, "PNG", compress_level=_PNG_LEVEL)
        if file.tell() <= MOST_BYTES:
            break
    return file.getvalue()


@cache
def _page_palette(grays: int) -> Image.Image:
    """Return the picture's colours: so many grays, and the map's colours over coarser ones."""
    colours, opacity = _palette()
    levels = np.linspace(LEAST_SHOWN, FULL_SCALE, 10).astype(int)
    alpha = opacity[levels][:, None, None]
    under = np.linspace(0, 255, 13)[None, :, None]
    over = (under * (1 - alpha) + colours[levels][:, None] * alpha).reshape(-1, 3)
    return palette(grays, over)
