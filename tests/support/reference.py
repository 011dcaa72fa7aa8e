"""Real volumes, the published weights, and what the public code makes of them: kept beside the tree."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

_FOLDER = Path(__file__).resolve().parents[2] / "../shared/reference"
_WEIGHTS = "weights/paper2020-cor-ord-exp1_weights.27-val_core_mse109.79.hdf5"

VOLUMES = ("cranium_ncct", "pseudo_cta", "phantom_a")
"""The volumes that the public code's output is kept of."""


@dataclass(frozen=True)
class Expected:
    """What the public code makes of one volume.

    Attributes:
        core_estimate: Its network's number.
        saliency_raw_max: The maximum of its map before scaling.
        side: Where it puts the map.
        saliency_max: The maximum of its map.
        voxels_above_50: Of its map.
    """

    core_estimate: float
    saliency_raw_max: float
    side: str
    saliency_max: float
    voxels_above_50: int


def reference(path: str) -> Path:
    """Return a file or folder of the reference data, or skip the test; on a build server, fail it."""
    found = _FOLDER / path
    if not found.exists():
        message = f"needs the reference data: {found} is not there"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found.resolve()


def published_weights() -> Path:
    """Return the published weights."""
    return reference(_WEIGHTS)


def aligned_volume(name: str) -> Path:
    """Return an aligned volume."""
    return reference(f"aligned/{name}.nii.gz")


def expected_map(name: str) -> Path:
    """Return the public code's map of a volume."""
    return reference(f"expected/{name}.saliency.nii.gz")


def expected(name: str) -> Expected:
    """Return the public code's figures for a volume."""
    figures = json.loads(reference("expected/expected.json").read_text())
    return Expected(**figures[name])
