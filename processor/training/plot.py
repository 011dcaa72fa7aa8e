"""The plot of the model card, as SVG: what was planted against what was estimated, and the raw maxima."""

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

WIDTH, HEIGHT = 860, 415
TOP, BOTTOM = 50, 345
LEFT_PANEL, RIGHT_PANEL = (60, 400), (510, 840)
WITH, WITHOUT, GRID, TEXT = "#b3541e", "#2f6f8f", "#d9d9d9", "#333333"
LARGEST_ML = 180
# Where a map is smaller, a point is drawn at the edge.
LOWEST_EXPONENT, HIGHEST_EXPONENT = -8, -2


class Measured(Protocol):
    """What is plotted of a scan.

    Attributes:
        planted_ml: Volume of the territory, 0 without one.
        core_estimate: The model's number.
        raw_max: Maximum of the saliency map before scaling.
    """

    @property
    def planted_ml(self) -> float: ...  # noqa: D102 (named above)
    @property
    def core_estimate(self) -> float: ...  # noqa: D102 (named above)
    @property
    def raw_max(self) -> float: ...  # noqa: D102 (named above)


def evaluation_svg(cases: Sequence[Measured], floor: float | None) -> str:
    """Return the plot as an SVG document.

    Args:
        cases: Held-out scans with and without lesion.
        floor: The raw maximum below which a map says nothing; None where the model has none.
    """
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
            f'<g font-family="sans-serif" font-size="12" fill="{TEXT}">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            *_volumes(cases),
            *_raw_maxima(cases, floor),
            _text(WIDTH / 2, HEIGHT - 8, "Held-out synthetic scans. Research use only. Not for diagnosis."),
            "</g></svg>\n",
        ]
    )


def _volumes(cases: Sequence[Measured]) -> Iterator[str]:
    left, right = LEFT_PANEL

    def x(ml: float) -> float:
        return left + (right - left) * ml / LARGEST_ML

    def y(ml: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * ml / LARGEST_ML

    yield _text((left + right) / 2, 28, "Core estimate against planted volume")
    for ml in range(0, LARGEST_ML + 1, 30):
        yield _line(x(ml), TOP, x(ml), BOTTOM, GRID)
        yield _line(left, y(ml), right, y(ml), GRID)
        yield _text(x(ml), BOTTOM + 16, str(ml))
        yield _text(left - 6, y(ml) + 4, str(ml), "end")
    yield _line(x(0), y(0), x(LARGEST_ML), y(LARGEST_ML), "#888888", "4 4")
    for case in cases:
        estimate = min(max(case.core_estimate, 0.0), LARGEST_ML)
        yield _point(x(case.planted_ml), y(estimate), WITH if case.planted_ml else WITHOUT)
    yield _text((left + right) / 2, BOTTOM + 32, "planted (ml)")
    middle = (TOP + BOTTOM) / 2
    turned = f'<g transform="translate(20 {middle}) rotate(-90)">'
    yield f"{turned}{_text(0, 0, 'estimated (ml)')}</g>"


def _raw_maxima(cases: Sequence[Measured], floor: float | None) -> Iterator[str]:
    left, right = RIGHT_PANEL

    def y(raw_max: float) -> float:
        exponent = math.log10(raw_max) if raw_max > 0 else LOWEST_EXPONENT
        share = (exponent - LOWEST_EXPONENT) / (HIGHEST_EXPONENT - LOWEST_EXPONENT)
        return BOTTOM - (BOTTOM - TOP) * min(max(share, 0.0), 1.0)

    yield _text((left + right) / 2, 28, "Raw maximum of the saliency map")
    for exponent in range(LOWEST_EXPONENT, HIGHEST_EXPONENT + 1):
        yield _line(left, y(10.0**exponent), right, y(10.0**exponent), GRID)
        label = f"1e{exponent}" if exponent > LOWEST_EXPONENT else f"≤ 1e{exponent}"
        yield _text(left - 6, y(10.0**exponent) + 4, label, "end")
    columns = {"with lesion": (True, WITH), "without lesion": (False, WITHOUT)}
    for number, (name, (planted, colour)) in enumerate(columns.items()):
        values = [case.raw_max for case in cases if (case.planted_ml > 0) == planted]
        start = left + (right - left) * number / 2
        for place, value in enumerate(values):
            yield _point(
                start + (right - left) / 2 * (0.15 + 0.7 * (place + 0.5) / len(values)), y(value), colour
            )
        yield _text(start + (right - left) / 4, BOTTOM + 16, f"{len(values)} scans {name}")
    if floor is not None:
        yield _line(left, y(floor), right, y(floor), TEXT, "6 3")
        yield _text(right, y(floor) - 5, f"floor {floor:g}", "end")


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dashes: str = "none") -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-dasharray="{dashes}"/>'


def _point(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}" fill-opacity="0.7"/>'
