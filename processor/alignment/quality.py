"""How good an alignment is, in figures; and the limits beyond which it is refused.

The limits separated good from bad in every run of `benchmarks/alignment.py`; docs/alignment.md has the
table.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from processor.alignment.coarse import COARSE_MM, CoarseVolume
from processor.alignment.errors import AlignmentRefusedError
from processor.alignment.head import Cavity
from processor.alignment.space import Affine, resample
from processor.alignment.template import Template

CAVITY_ML = (700, 2200)
LEAST_SKULL_SHARE = 0.6
LEAST_SURFACE_POINTS = 1000
MOST_CUT_CM2 = 80
MOST_RMS_MM = 3.6
LEAST_DICE = 0.90
LEAST_COVERED_SHARE = 0.9
SCALES = (0.74, 1.2)
MOST_DEGREES = 60
"""No patient turns the head so far; a header that has mixed up two axes turns it by 90."""
LEAST_TURNED_GAIN = 0.1
"""A head that fits so much better when turned round lies otherwise than its header says."""

_RIM_VOXELS = 3


@dataclass(frozen=True)
class Quality:
    """The figures of one alignment.

    Attributes:
        dice: Overlap of the cavity with the template's brain, of what the scan covers.
        surface_rms_mm: Distance of the cavity's surface to the template's.
        covered_share: Of the template's brain, what lies in the scan.
        skull_share: Of the cavity's boundary, what has bone beside it.
        cavity_ml: Volume of the cavity.
        cut_cm2: Area of brain on the edge of the field of view.
        scale_least: Least singular value of the transform from template to scan.
        scale_most: Its greatest.
    """

    dice: float
    surface_rms_mm: float
    covered_share: float
    skull_share: float
    cavity_ml: float
    cut_cm2: float
    scale_least: float
    scale_most: float

    def figures(self) -> dict[str, float]:
        """Return the figures by name, as a report has them."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def measure(
    to_scan: Affine, coarse: CoarseVolume, cavity: Cavity, rms_mm: float, template: Template
) -> Quality:
    """Measure an alignment.

    Args:
        to_scan: (4, 4), MNI152 world space to scan world space.
        coarse: The scan.
        cavity: Of its skull.
        rms_mm: Of the fit of surfaces.
        template: The brain.
    """
    to_coarse = np.linalg.inv(coarse.affine) @ to_scan @ template.affine
    shape = template.brain.shape
    found = resample(cavity.mask.astype(np.float32), to_coarse, shape, outside=0) > 0.5  # noqa: PLR2004 - half
    covered = template.brain & (
        resample(np.ones(coarse.hu.shape, np.float32), to_coarse, shape, outside=0, order=0) > 0
    )
    scales = np.linalg.svd(to_scan[:3, :3], compute_uv=False)
    return Quality(
        dice=float(2 * (found & covered).sum() / max(1, found.sum() + covered.sum())),
        surface_rms_mm=rms_mm,
        covered_share=float(covered.sum() / template.brain.sum()),
        skull_share=cavity.skull_share,
        cavity_ml=cavity.volume_ml,
        cut_cm2=cut_cm2(coarse, cavity),
        scale_least=float(scales.min()),
        scale_most=float(scales.max()),
    )


def cut_cm2(coarse: CoarseVolume, cavity: Cavity) -> float:
    """Return about what area of the cavity lies on the edge of the field of view."""
    rim_voxels = int((cavity.mask & ~coarse.inside).sum())
    return rim_voxels * COARSE_MM**2 / 100 / _RIM_VOXELS


def check_volume(cavity: Cavity) -> None:
    """Refuse a cavity that is of no skull's size.

    Raises:
        AlignmentRefusedError: It is smaller or larger.
    """
    low, high = CAVITY_ML
    if not low <= cavity.volume_ml <= high:
        raise AlignmentRefusedError(
            code="head-not-found",
            title="No head found",
            detail=f"Expected one closed skull around {low} to {high} ml of brain, received "
            f"{cavity.volume_ml:.0f} ml. Export a CT of the whole head, from the vertex to the base of the "
            "skull, with its true voxel size.",
        )


def check_skull(cavity: Cavity) -> None:
    """Refuse a cavity without a skull around it.

    Raises:
        AlignmentRefusedError: Too little of its boundary has bone beside it.
    """
    if cavity.skull_share < LEAST_SKULL_SHARE:
        raise AlignmentRefusedError(
            code="skull-missing",
            title="Skull missing",
            detail=f"Expected bone around at least {LEAST_SKULL_SHARE:.0%} of the brain, received "
            f"{cavity.skull_share:.0%}: skull-stripped, or cut. Export the scan before the skull is taken "
            "off, with the whole head in it.",
        )


def check_surface(points: int) -> None:
    """Refuse a scan that shows too little of the brain's surface.

    Raises:
        AlignmentRefusedError: There are too few points to fit.
    """
    if points < LEAST_SURFACE_POINTS:
        raise _cut_off(
            f"at least {LEAST_SURFACE_POINTS} points of the brain's surface within the scan", f"{points}"
        )


def check_cut(area_cm2: float) -> None:
    """Refuse a scan that ends within the brain.

    Raises:
        AlignmentRefusedError: Too much of the brain lies on the scan's edge.
    """
    if area_cm2 > MOST_CUT_CM2:
        raise _cut_off(f"at most {MOST_CUT_CM2} cm² of brain on the edge of the scan", f"{area_cm2:.0f} cm²")


def check_turns(rms_mm: float, turned_mm: float) -> None:
    """Refuse a head that lies otherwise than its header says.

    Args:
        rms_mm: Of the fit as the header says.
        turned_mm: Of the best fit of those turned by 180 degrees.

    Raises:
        AlignmentRefusedError: A turned one is clearly better.
    """
    if turned_mm < (1 - LEAST_TURNED_GAIN) * rms_mm:
        raise AlignmentRefusedError(
            code="orientation-implausible",
            title="Orientation implausible",
            detail="Expected a head that lies as its header says, received one that fits the template "
            f"better when turned by 180 degrees ({turned_mm:.1f} mm instead of {rms_mm:.1f} mm). With such a "
            "header left and right cannot be trusted: convert the scan again from DICOM with dcm2niix.",
        )


def check_angle(degrees: float) -> None:
    """Refuse a head that lies askew from what its header says by more than heads are turned.

    Two axes that were swapped look like a quarter turn, and they mirror the head.

    Raises:
        AlignmentRefusedError: The angle is too large.
    """
    if degrees > MOST_DEGREES:
        raise AlignmentRefusedError(
            code="orientation-implausible",
            title="Orientation implausible",
            detail=f"Expected a head turned by at most {MOST_DEGREES} degrees from how its header says it "
            f"lies, received one turned by {degrees:.0f}. With such a header left and right cannot be "
            "trusted: convert the scan again from DICOM with dcm2niix.",
        )


def check_quality(quality: Quality) -> None:
    """Refuse an alignment beyond the limits.

    Raises:
        AlignmentRefusedError: A figure is; the first of them is named.
    """
    if quality.covered_share < LEAST_COVERED_SHARE:
        raise _cut_off(
            f"at least {LEAST_COVERED_SHARE:.0%} of the brain in the scan", f"{quality.covered_share:.0%}"
        )
    low, high = SCALES
    if quality.scale_least < low or quality.scale_most > high:
        raise AlignmentRefusedError(
            code="head-size-implausible",
            title="Size of the head implausible",
            detail=f"Expected a head of {low:g} to {high:g} times the template's size along every direction, "
            f"received {quality.scale_least:.2f} to {quality.scale_most:.2f}. Either the voxel size in the "
            "header is wrong: convert the scan again from DICOM with dcm2niix. Or this is the head of a "
            "small child, for which there is no template here.",
        )
    if quality.surface_rms_mm > MOST_RMS_MM or quality.dice < LEAST_DICE:
        raise AlignmentRefusedError(
            code="alignment-failed",
            title="The scan could not be aligned",
            detail=f"Expected the brain's surface within {MOST_RMS_MM:g} mm of the template's and an overlap "
            f"of at least {LEAST_DICE:.2f}, received {quality.surface_rms_mm:.1f} mm and {quality.dice:.2f}. "
            "Check that this is a CT of one whole head with the voxel size and the orientation its header "
            "says; or align it by hand to the grid of docs/alignment.md and submit that.",
        )


def _cut_off(expected: str, received: str) -> AlignmentRefusedError:
    return AlignmentRefusedError(
        code="brain-cut-off",
        title="Brain cut off",
        detail=f"Expected {expected}, received {received}: the vertex, the base of the skull or a side is "
        "missing. Export every slice of the series, from the vertex to the base of the skull.",
    )
