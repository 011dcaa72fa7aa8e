"""The whole alignment: a head CT as it was scanned in, the transform onto the grid and its quality out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from processor.alignment import quality
from processor.alignment.coarse import CoarseVolume, coarsen
from processor.alignment.errors import AlignmentRefusedError
from processor.alignment.head import WALLS, Cavity, find_cavity, find_head
from processor.alignment.hounsfield import check_size, in_hounsfield_units
from processor.alignment.quality import Quality
from processor.alignment.refinement import refine
from processor.alignment.space import Affine, Points, StoredVolume, rotation_degrees
from processor.alignment.surface import STAGES, TRIAL_POINTS, Fit, fit_surface, starts, surface_points
from processor.alignment.template import Template, load_template

METHOD = "skull cavity onto the MNI152 brain, 12 parameters, refined by mutual information"

_AS_GOOD = 1.1
"""Times the best fit's distance: walls that fit so differ by chance, and the first is the most exact."""


@dataclass(frozen=True)
class Alignment:
    """Where the grid lies in a scan.

    Attributes:
        volume: The scan in Hounsfield units.
        to_scan: (4, 4), MNI152 world space to scan world space, RAS millimetres.
        quality: Within all limits.
        warnings: What was changed, in words.
    """

    volume: StoredVolume
    to_scan: Affine
    quality: Quality
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Trial:
    """What one kind of wall led to: the fit as the header says, and how well the best turned one does."""

    cavity: Cavity
    points: Points
    fit: Fit
    turned_mm: float

    @property
    def rms_mm(self) -> float:
        return min(self.fit.rms_mm, self.turned_mm)


def align(volume: StoredVolume) -> Alignment:
    """Find the transform from the grid's world to a scan's.

    Args:
        volume: Any head CT: any orientation, voxel size, tilt; with neck, shoulders, table.

    Returns:
        Alignment: Always the same for the same volume.

    Raises:
        AlignmentRefusedError: It is no head CT, or not enough of one, or its header lies; or the result
            would not be within the limits.
    """
    check_size(volume)
    volume, warnings = in_hounsfield_units(volume)
    template = load_template()
    coarse = coarsen(volume)
    trial = _best_trial(coarse, template)
    quality.check_turns(trial.fit.rms_mm, trial.turned_mm)
    quality.check_angle(rotation_degrees(trial.fit.to_template))
    fit = fit_surface(trial.points, trial.fit.to_template, template, STAGES[-1:])
    to_scan = refine(np.linalg.inv(fit.to_template), coarse, trial.cavity, template)
    measured = quality.measure(to_scan, coarse, trial.cavity, fit.rms_mm, template)
    quality.check_quality(measured)
    return Alignment(volume=volume, to_scan=to_scan, quality=measured, warnings=warnings)


def _best_trial(coarse: CoarseVolume, template: Template) -> _Trial:
    """Try all kinds of walls; return the first of those that fit about as well as the best.

    One wall may let an orbit in through its thin roof where the next shuts it out, and which one that is
    depends on how the head lies in its voxels.

    Raises:
        AlignmentRefusedError: None of them encloses a brain; says why the first does not.
    """
    head = find_head(coarse)
    trials: list[_Trial] = []
    refusals = []
    for wall in WALLS:
        try:
            trials.append(_try(coarse, find_cavity(head, wall), template))
        except AlignmentRefusedError as error:
            refusals.append(error.with_traceback(None))  # else it keeps the scan: by the callers' frames
    if not trials:
        raise refusals[0]
    best_mm = min(trial.rms_mm for trial in trials)
    return next(trial for trial in trials if trial.rms_mm <= best_mm * _AS_GOOD)


def _try(coarse: CoarseVolume, cavity: Cavity, template: Template) -> _Trial:
    """Fit a cavity as its header says it lies, and turned."""
    quality.check_volume(cavity)
    quality.check_cut(quality.cut_cm2(coarse, cavity))
    quality.check_skull(cavity)
    points = surface_points(coarse, cavity)
    quality.check_surface(len(points))
    fit, *turned = (
        fit_surface(points[:TRIAL_POINTS], start, template) for start in starts(coarse, cavity, template)
    )
    return _Trial(cavity, points, fit, min(other.rms_mm for other in turned))
