"""What is said of a result: every number with its limits, and no finding that reads as "no stroke"."""

from __future__ import annotations

import pytest

from pipeline import wording
from pipeline.report import CoreEstimate, Report
from tests.support.results import report


def result(*, positive: bool = True) -> Report:
    """Return a report."""
    return report("a" * 32, "b" * 32, positive=positive)


@pytest.mark.parametrize(
    ("value", "text"), [(23.46, "23.5"), (-3.21, "\N{MINUS SIGN}3.2"), (-0.01, "0.0"), (0.0, "0.0")]
)
def test_numbers_are_rounded_and_signed(value: float, text: str) -> None:
    """A regression may answer below zero; a negative zero would look like a fault."""
    assert wording.number(value) == text


def test_the_error_stands_with_its_unit() -> None:
    """A number without its error invites trust that it has not earned."""
    assert (
        wording.error(result().core_estimate)
        == "Typical error ± 10.5 ml, as RMSE on scans outside its training."
    )


def test_an_unknown_error_is_said_to_be_unknown() -> None:
    """Silence would read as none."""
    estimate = CoreEstimate(value=1, unit="ml", rmse=None, note="")
    assert wording.error(estimate) == "Its error is not known."


def test_the_number_never_stands_alone() -> None:
    """Unit, error, and what is to be known of both, in one line."""
    assert wording.estimate(result().core_estimate) == (
        "The network's estimate: 23.5 ml. Typical error ± 10.5 ml, as RMSE on scans outside its training. "
        "Volume of the planted territory, as the synthetic training data state it."
    )


def test_a_map_is_said_to_show_what_moved_the_estimate() -> None:
    """Never "the infarct"."""
    assert (
        wording.finding(result().saliency)
        == "Regions that moved the estimate are shown on the side where they are darker, the left."
    )


def test_nothing_found_never_reads_as_no_stroke() -> None:
    """The network may have missed it."""
    text = wording.finding(result(positive=False).saliency)
    assert text == "No region stands out. This does not exclude a stroke."
