"""What pictures have in common: colours, letters, labels that can be read on bone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Colour: TypeAlias = tuple[int, int, int]
Line: TypeAlias = tuple[str, Colour]

PAPER = (13, 15, 18)
INK = (238, 240, 242)
FAINT = (160, 166, 173)
AMBER = (255, 191, 71)
LETTERS, SMALL_LETTERS = 19, 17
"""Sizes of the text around and on the slices: pages show a picture at half its width."""
LINE_HEIGHT = 26


def label(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, anchor: str) -> None:
    """Write on a slice, over a dark field: the skull is as white as the letters."""
    left, top, right, bottom = draw.textbbox(at, text, font(SMALL_LETTERS), anchor=anchor)
    draw.rectangle((left - 4, top - 4, right + 4, bottom + 4), PAPER)
    draw.text(at, text, INK, font(SMALL_LETTERS), anchor=anchor)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own letters.

    Raises:
        TypeError: Pillow was built without FreeType.
    """
    found = ImageFont.load_default(size)
    if not isinstance(found, ImageFont.FreeTypeFont):
        raise TypeError("Expected Pillow with FreeType, received one without. Install Pillow from a wheel.")
    return found


def wrap(text: str, width: int, size: int = LETTERS) -> list[str]:
    """Break a text into lines of at most `width` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font(size).getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def footer_lines(warnings: Sequence[str], notes: Sequence[str], width: int) -> list[Line]:
    """Break what stands under a picture into lines of at most `width` pixels: warnings first, in amber."""
    coloured = [*((text, AMBER) for text in warnings), *((text, FAINT) for text in notes)]
    return [(line, colour) for text, colour in coloured for line in wrap(text, width)]


def footer_height(lines: Sequence[Line]) -> int:
    """Return how many pixels `draw_footer` takes."""
    return LINE_HEIGHT * (len(lines) + 2)


def draw_footer(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], lines: Sequence[Line], research_use: str
) -> None:
    """Write the lines, and in larger letters the one that every artefact carries."""
    x, y = at[0], at[1] + LINE_HEIGHT // 2
    for text, colour in lines:
        draw.text((x, y), text, colour, font(LETTERS))
        y += LINE_HEIGHT
    draw.text((x, y + 4), research_use, AMBER, font(22))


def palette(grays: int, colours: npt.NDArray[Any]) -> Image.Image:
    """Return a palette to reduce a page to: finding the best one for a page takes ten times as long.

    Args:
        grays: How many, from black to white.
        colours: (N, 3), besides them and the shades of amber letters; in all at most 256.
    """
    shades = np.linspace(0, 255, grays)[:, None].repeat(3, axis=1)
    amber = np.linspace(PAPER, AMBER, 5)[1:]
    reduced = Image.new("P", (1, 1))
    reduced.putpalette(np.rint(np.concatenate([shades, colours, amber])).astype(np.uint8).tobytes())
    return reduced
