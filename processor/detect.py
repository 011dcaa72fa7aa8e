"""One scan from its file to the files of its result, for the queue's worker and the command line alike."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline.errors import ConfigurationError
from pipeline.report import CoreEstimate, ModelFacts, Report, Saliency
from processor.alignment.space import Affine
from processor.alignment.template import load_template
from processor.detection.detector import Detector
from processor.detection.precision import Precision
from processor.detection.saliency import SaliencyMap, Voxel
from processor.detection.weights import WeightsFileError, read_weights
from processor.models import Model
from processor.outputs import write_outputs
from processor.placement import PlacedScan, orientation_note, read_onto_grid
from processor.precision import usable

SCALE = "percent of this map's own maximum before smoothing, so levels of two scans cannot be compared"
SCALE_FIXED = "network output per feature, smoothed alike; scans of one model can be compared"

NO_FLOOR = (
    "This model has no floor: its map marks a region wherever it is not zero, so a marked region alone says "
    "nothing."
)
COMPUTED_FAST = (
    "Computed in the fast precision (bfloat16 in two convolutions): number and map differ a little from what "
    "float32 gives."
)


def load_detector(model: Model, wanted: Precision = "float32") -> Detector:
    """Load a model and the template, and run the model once, so that the first scan finds them ready.

    Args:
        model: Its weights are read.
        wanted: The precision to compute in, where this CPU and the model allow it.

    Raises:
        ConfigurationError: Its file does not hold the weights of this network.
    """
    try:
        detector = Detector(read_weights(model.path), usable(wanted, model).precision)
    except WeightsFileError as error:
        raise ConfigurationError(f"The model {model.path} cannot be used. {error}") from error
    detector.warm()
    load_template()
    return detector


def detect_scan(
    scan: Path,
    out_dir: Path,
    detector: Detector,
    *,
    model: Model,
    job_id: str | None = None,
    scan_id: str | None = None,
) -> Report:
    """Run the detection of a file and write its result.

    Args:
        scan: A NIfTI volume of a head.
        out_dir: An existing folder for the result's files.
        detector: With the weights of `model`.
        model: Stands in the report.
        job_id: The same; None without a queue.
        scan_id: The same.

    Returns:
        Report: As written. Everything but its timings is the same for the same file on the same machine.

    Raises:
        ScanRefusedError: The file cannot be processed; says why.
        OSError: It cannot be read, or the result not be written.
    """
    placed, facts, timings_s = read_onto_grid(scan)
    detection = detector.detect(placed.hu)
    saliency = _saliency(detection.saliency, placed, model)
    report = Report(
        job_id=job_id,
        scan_id=scan_id,
        input=facts,
        orientation_note=orientation_note(facts.orientation),
        alignment=placed.alignment,
        model=ModelFacts(
            name=model.name, sha256=model.sha256, description=model.description, trained_on=model.trained_on
        ),
        precision=detector.precision,
        core_estimate=CoreEstimate(value=detection.core_estimate, **model.core_estimate.model_dump()),
        saliency=saliency,
        timings_s=timings_s | {step: round(took_s, 3) for step, took_s in detection.timings_s.items()},
        software=_software(),
        warnings=(
            *placed.warnings,
            *estimate_warnings(detection.core_estimate, model),
            *((NO_FLOOR,) if saliency.positive and saliency.floor is None else ()),
            *((COMPUTED_FAST,) if detector.precision == "fast" else ()),
        ),
    )
    write_outputs(out_dir, placed, detection.saliency, model, report)
    return report


def _saliency(saliency: SaliencyMap, scan: PlacedScan, model: Model) -> Saliency:
    peak_mm = peak_native_mm = None
    if saliency.peak is not None:
        peak_mm = _point(scan.affine, saliency.peak)
        peak_native_mm = _point(scan.native.affine @ scan.native.from_grid, saliency.peak)
    return Saliency(
        raw_max=saliency.raw_max,
        floor=model.saliency_floor,
        positive=saliency.raw_max > (model.saliency_floor or 0),
        side=saliency.side,
        peak_voxel=saliency.peak,
        peak_mm=peak_mm,
        peak_native_mm=peak_native_mm,
        scale=SCALE,
        scale_fixed=SCALE_FIXED,
    )


def _point(affine: Affine, voxel: Voxel) -> tuple[float, float, float]:
    x, y, z = (affine @ np.array([*voxel, 1.0]))[:3].tolist()
    return x, y, z


def estimate_warnings(core_estimate: float, model: Model) -> tuple[str, ...]:
    """Say where the number is one that its model was never shown to give, or that cannot be."""
    if core_estimate < 0:
        return ("The estimate is below zero, which no volume is: read it as close to none.",)
    if model.trained_range is None:
        return ()
    low, high = model.trained_range
    if low <= core_estimate <= high:
        return ()
    trained = f"{low:g} to {high:g} {model.core_estimate.unit}"
    return (
        f"The estimate is outside what the model was trained on, {trained}: its error is not known there.",
    )


def _own_version() -> str:
    try:
        return importlib.metadata.version("corestream")
    except importlib.metadata.PackageNotFoundError:
        return "source tree, not installed"


def _software() -> dict[str, str]:
    return {
        "corestream": _own_version(),
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "simpleitk": importlib.metadata.version("SimpleITK"),
        "python": platform.python_version(),
    }
