"""What the viewer's page is told of scales and windows."""

from __future__ import annotations

import pytest

from viewer.papaya_page import fixed_range, windows


@pytest.mark.parametrize(
    ("largest_raw", "floor", "expected"),
    [
        (1.27e-4, 1.1e-4, (1.1e-4, 3e-4)),
        (0.0123, 0.001, (0.001, 0.02)),
        (6.4e-6, 1.1e-4, (1.1e-4, 3e-4)),
        (0.5, None, (0.05, 0.5)),
        (0.0, None, (1e-13, 1e-12)),
    ],
)
def test_the_fixed_scale_runs_from_the_floor_to_a_round_number_above_every_map(
    largest_raw: float, floor: float | None, expected: tuple[float, float]
) -> None:
    """It never ends below the floor, or a map that says nothing would fill it."""
    assert fixed_range(largest_raw, floor) == pytest.approx(expected)


@pytest.mark.parametrize(("highest_hu", "offered"), [(100.0, False), (3071.0, True)])
def test_vessels_are_offered_where_the_scan_holds_them(highest_hu: float, *, offered: bool) -> None:
    """A scan exported through the network's own window has lost its contrast medium."""
    vessels = windows((-1024.0, highest_hu))[-1]
    assert (vessels.name, vessels.shows_more) == ("Vessels", offered)
