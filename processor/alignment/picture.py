"""The picture to judge an alignment by: the template's brain outlined over three planes of the scan.

Where the lines run along the inside of the skull, the head lies where the grid has it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from processor.alignment.space import Floats, Mask, resample
from processor.alignment.template import load_template
from processor.detection.drawing import (
    INK,
    PAPER,
    draw_footer,
    font,
    footer_height,
    footer_lines,
    label,
    palette,
)
from processor.detection.grid import GRID_AFFINE, GRID_SHAPE

PLANES_MM = ((20.5, 44.5), (-39.5, 4.5), (-25, 25))
"""Where the axial (z), coronal (y) and sagittal (x) planes are cut, MNI152 world space: centres of voxels."""

_WINDOW_HU = (-20, 120)
"""Wide enough to see the skull's inner edge beside the brain."""
_ENLARGED = 2
_TILE = (366, 366)
_GAP, _MARGIN, _HEADER_HEIGHT = 6, 28, 70
_OUTLINE = (64, 224, 160)
_OUTLINE_PIXELS = 2
"""With a black edge beside it, which keeps it apart from white bone."""
_GRAYS = 120
"""Of the window of 140 HU; the eye tells fewer apart in noise."""
_ENDS = ({"left": "R", "right": "L"}, {"left": "R", "right": "L"}, {"left": "P", "right": "A"})
"""Letters at the sides of the axial, coronal and sagittal planes."""


def alignment_png(
    volume_hu: npt.NDArray[Any], warnings: Sequence[str], notes: Sequence[str], research_use: str
) -> bytes:
    """Draw the picture; the same arguments give the same bytes.

    Args:
        volume_hu: (146, 182, 133) on the grid, Hounsfield units.
        warnings: What must be seen first, sentences under the picture.
        notes: Further ones.
        research_use: The line that every artefact carries.

    Returns:
        bytes: A PNG file.
    """
    columns, rows = len(PLANES_MM), len(PLANES_MM[0])
    width = 2 * _MARGIN + columns * _TILE[0] + (columns - 1) * _GAP
    height = _HEADER_HEIGHT + rows * (_TILE[1] + _GAP)
    lines = footer_lines(warnings, notes, width - 2 * _MARGIN)
    page = Image.new("RGB", (width, height + footer_height(lines) + _MARGIN), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN, 22), "The template's brain outlined over the scan", INK, font(21))
    for column, planes_mm in enumerate(PLANES_MM):
        axis = 2 - column
        for row, plane_mm in enumerate(planes_mm):
            corner = (_MARGIN + column * (_TILE[0] + _GAP), _HEADER_HEIGHT + row * (_TILE[1] + _GAP))
            index = round((plane_mm - GRID_AFFINE[axis, 3]) / GRID_AFFINE[axis, axis])
            page.paste(_tile(volume_hu, axis, index), corner)
            _label_tile(draw, corner, column, _where(axis, plane_mm))
    draw_footer(draw, (_MARGIN, height), lines, research_use)
    file = io.BytesIO()
    reduced = page.quantize(palette=palette(_GRAYS, np.array([_OUTLINE])), dither=Image.Dither.NONE)
    reduced.save(file, "PNG", compress_level=4)
    return file.getvalue()


def _tile(volume_hu: npt.NDArray[Any], axis: int, index: int) -> Image.Image:
    """Return one plane with the outline, in the middle of a tile."""
    low, high = _WINDOW_HU
    plane = _upright(np.moveaxis(volume_hu, axis, 0)[index])
    gray = ((np.clip(plane, low, high).astype(np.float32) - low) * (255 / (high - low))).astype(np.uint8)
    size = (gray.shape[1] * _ENLARGED, gray.shape[0] * _ENLARGED)
    picture = Image.fromarray(gray).resize(size, Image.Resampling.BILINEAR).convert("RGB")
    share = Image.fromarray(_upright(np.moveaxis(_grid_brain(), axis, 0)[index]))
    outline = _outline(np.asarray(share.resize(size, Image.Resampling.BILINEAR)) > 0.5)  # noqa: PLR2004 - half
    pixels = np.array(picture)
    pixels[ndimage.binary_dilation(outline)] = 0
    pixels[outline] = _OUTLINE
    tile = Image.new("RGB", _TILE, (0, 0, 0))
    tile.paste(Image.fromarray(pixels), ((_TILE[0] - size[0]) // 2, (_TILE[1] - size[1]) // 2))
    return tile


def _upright(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Turn a plane into rows and columns; of the axes that are left, the second is up in every plane."""
    return np.ascontiguousarray(plane.T[::-1])


def _outline(brain: Mask) -> Mask:
    """Return the inner edge of a mask; its edge at the plane's own edge is none."""
    inner: Mask = ndimage.binary_erosion(brain, iterations=_OUTLINE_PIXELS, border_value=1)
    return brain & ~inner


@cache
def _grid_brain() -> Floats:
    """Return how much of every voxel of the grid, (146, 182, 133), is the template's brain, 0 ... 1."""
    template = load_template()
    to_template = np.linalg.inv(template.affine) @ GRID_AFFINE
    return resample(template.brain.astype(np.float32), to_template, GRID_SHAPE, outside=0)


def _where(axis: int, plane_mm: float) -> str:
    """Say where a plane is cut; no letter at its sides tells left from right in a sagittal one."""
    place = f"{'xyz'[axis]} {plane_mm:+g} mm"
    return place if axis else f"{place}, {'left' if plane_mm < 0 else 'right'}"


def _label_tile(draw: ImageDraw.ImageDraw, corner: tuple[int, int], column: int, text: str) -> None:
    x, y = corner
    width, height = _TILE
    label(draw, (x + 8, y + 6), _ENDS[column]["left"], "la")
    label(draw, (x + width - 8, y + 6), _ENDS[column]["right"], "ra")
    label(draw, (x + 8, y + height - 8), text, "ls")
