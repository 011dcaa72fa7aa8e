"""What pictures have in common: colours, letters, labels that can be read on bone."""

from __future__ import annotations

from functools import cache

from PIL import ImageDraw, ImageFont

PAPER = (13, 15, 18)
INK = (238, 240, 242)
FAINT = (160, 166, 173)
AMBER = (255, 191, 71)
LETTERS, SMALL_LETTERS = 19, 17
"""Sizes of the text around and on the slices: pages show a picture at half its width."""


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
