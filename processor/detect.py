"""One scan from its file to the files of its result, for the queue's worker and the command line alike."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline.errors import ConfigurationError
from pipeline.report import Alignment, CoreEstimate, InputFacts, ModelFacts, Report, Saliency
from processor.detection.detector import Detector
from processor.detection.saliency import SaliencyMap
from processor.detection.weights import WeightsFileError, read_weights
from processor.models import Model
from processor.outputs import write_outputs
from processor.volumes import ScanVolume, read_volume

SCALE = "percent of this map's own maximum before smoothing, so levels of two scans cannot be compared"
SCALE_FIXED = "network output per feature, smoothed alike; scans of one model can be compared"
ON_GRID = "none"
"""The method of alignment of a scan that came on the grid."""


def load_detector(model: Model) -> Detector:
    """Load a model and run it once, so that the first scan finds it ready.

    Raises:
        ConfigurationError: Its file does not hold the weights of this network.
    """
    try:
        detector = Detector(read_weights(model.path))
    except WeightsFileError as error:
        raise ConfigurationError(f"The model {model.path} cannot be used. {error}") from error
    detector.warm()
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
        scan: A NIfTI volume on the grid.
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
    started = time.perf_counter()
    volume = read_volume(scan)
    read_s = time.perf_counter() - started
    detection = detector.detect(volume.hu)
    report = Report(
        job_id=job_id,
        scan_id=scan_id,
        input=_input(volume),
        alignment=Alignment(method=ON_GRID, applied=False),
        model=ModelFacts(
            name=model.name, sha256=model.sha256, description=model.description, trained_on=model.trained_on
        ),
        core_estimate=CoreEstimate(value=detection.core_estimate, **model.core_estimate.model_dump()),
        saliency=_saliency(detection.saliency, volume, model),
        timings_s={"reading": round(read_s, 3)}
        | {step: round(took_s, 3) for step, took_s in detection.timings_s.items()},
        software=_software(),
        warnings=(*volume.warnings, *estimate_warnings(detection.core_estimate, model)),
    )
    write_outputs(out_dir, volume, detection.saliency, model, report)
    return report


def _input(volume: ScanVolume) -> InputFacts:
    return InputFacts(
        sha256=volume.sha256,
        shape=volume.stored_shape,
        voxel_size_mm=volume.voxel_size_mm,
        orientation=volume.orientation,
        hu_range=(float(volume.hu.min()), float(volume.hu.max())),
    )


def _saliency(saliency: SaliencyMap, volume: ScanVolume, model: Model) -> Saliency:
    peak_mm = None
    if saliency.peak is not None:
        x, y, z = (volume.affine @ np.array([*saliency.peak, 1.0]))[:3].tolist()
        peak_mm = (x, y, z)
    return Saliency(
        raw_max=saliency.raw_max,
        floor=model.saliency_floor,
        positive=saliency.raw_max > (model.saliency_floor or 0),
        side=saliency.side,
        peak_voxel=saliency.peak,
        peak_mm=peak_mm,
        scale=SCALE,
        scale_fixed=SCALE_FIXED,
    )


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
        "python": platform.python_version(),
    }
