"""The whole detection: a volume on the grid in, the estimate and its map out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from processor.detection.grid import GRID_SHAPE, HEMISPHERE_SHAPE, split_hemispheres
from processor.detection.network import Network
from processor.detection.precision import IN_BFLOAT16, Precision
from processor.detection.preprocessing import normalise
from processor.detection.saliency import SaliencyMap, saliency_map
from processor.detection.weights import Array, Weights


@dataclass(frozen=True)
class Detection:
    """The result for one volume.

    Attributes:
        core_estimate: The network's number.
        saliency: The map of the regions that moved it.
        timings_s: Wall-clock time of each step.
    """

    core_estimate: float
    saliency: SaliencyMap
    timings_s: dict[str, float]


class Detector:
    """Runs the detection with one set of weights.

    Args:
        weights: Of any number of filters.
        precision: Of the network; `fast` is fast only where the CPU has the instructions.
    """

    def __init__(self, weights: Weights[Array], precision: Precision = "float32") -> None:
        self.precision = precision
        self._network = Network(weights, IN_BFLOAT16[precision])

    def warm(self) -> None:
        """Trace and run the graph once, so that the first volume finds it ready."""
        empty = np.zeros(HEMISPHERE_SHAPE, np.float32)
        self._network(empty, empty)

    def detect(self, volume_hu: npt.NDArray[Any]) -> Detection:
        """Run the detection.

        Args:
            volume_hu: (146, 182, 133) on the grid, finite Hounsfield units (0 ... 100 suffice).

        Returns:
            Detection: The same for the same volume on the same machine.

        Raises:
            ValueError: The volume has another shape.
        """
        if volume_hu.shape != GRID_SHAPE:
            raise ValueError(f"Expected a volume of shape {GRID_SHAPE}, received {volume_hu.shape}.")
        marks = [time.perf_counter()]
        normalised = normalise(volume_hu)
        marks.append(time.perf_counter())
        output = self._network(*split_hemispheres(normalised))
        marks.append(time.perf_counter())
        saliency = saliency_map(output.left_map, output.right_map, normalised)
        marks.append(time.perf_counter())
        steps = ("preprocessing", "network", "saliency")
        timings_s = dict(zip(steps, np.diff(marks).tolist(), strict=True))
        return Detection(output.core, saliency, timings_s)
