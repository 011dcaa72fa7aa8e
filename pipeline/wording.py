"""What pages and mail say of a result: figures with units and errors, findings with their limits."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.report import NO_REGION_STANDS_OUT, Alignment, CoreEstimate, Saliency
from pipeline.storage import ResultFile

FILES: Mapping[ResultFile, tuple[str, str]] = {
    "saliency.nii.gz": ("Saliency map", "percent of its maximum, on the network's grid"),
    "saliency_fixed.nii.gz": ("Map in fixed units", "scans of one model can be compared"),
    "saliency_native.nii.gz": ("Map on your scan's grid", "lies on the file that you uploaded"),
    "aligned.nii.gz": ("Aligned scan", "what the network saw, in Hounsfield units"),
    "summary.png": ("Summary picture", "slices, number and caveats on one page"),
    "alignment.png": ("Alignment picture", "the scan over the template"),
    "report.json": ("Report", "everything that is known, for scripts"),
}
"""What the files of a result are: a name, and what one has of it."""


def headline(*, total: int, ready: int) -> str:
    """Say how a job ended.

    Args:
        total: Its scans.
        ready: Those that have a result.
    """
    if ready == total:
        return "Your scan is ready" if total == 1 else f"Your {total} scans are ready"
    if ready:
        return f"{ready} of your {total} scans {'is' if ready == 1 else 'are'} ready"
    return (
        "Your scan could not be processed" if total == 1 else f"None of your {total} scans could be processed"
    )


def number(value: float, digits: int = 1) -> str:
    """Write a number for people, with a true minus sign and no negative zero."""
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "−")  # noqa: RUF001 (the minus sign is meant)


def error(given: CoreEstimate) -> str:
    """Say how far off the number usually is."""
    if given.rmse is None:
        return "Its error is not known."
    return f"Typical error ± {number(given.rmse)} {given.unit}, as RMSE on scans outside its training."


def finding(saliency: Saliency) -> str:
    """Say in a sentence what the map shows."""
    if not saliency.positive:
        return NO_REGION_STANDS_OUT
    if saliency.side is None:
        return "Regions that moved the estimate are marked; the map names no side."
    return (
        f"Regions that moved the estimate are shown on the side where they are darker, the {saliency.side}."
    )


def estimate(given: CoreEstimate) -> str:
    """Say the network's number with its unit, its error, and what is to be known of both."""
    return f"The network's estimate: {number(given.value)} {given.unit}. {error(given)} {given.note}"


def picture(saliency: Saliency) -> str:
    """Say what the summary picture shows."""
    if not saliency.positive:
        return "Slices of the scan. Nothing in its map stands out."
    return "Slices of the scan under its saliency map. Colour: regions that moved the estimate."


def alignment(aligned: Alignment) -> str:
    """Say how the scan came onto the network's grid."""
    if aligned.applied:
        return f"Method: {aligned.method}."
    return "The scan has the shape of the network's grid and was taken as aligned."
