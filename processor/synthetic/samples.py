"""Sample scans on disk, for `corestream sample`."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from processor.synthetic.grid import AFFINE
from processor.synthetic.lesion import random_lesion
from processor.synthetic.scan import Truth, synthesize

FIRST_SAMPLE_SEED = 20_001
"""Training takes its seeds from 0 up, the evaluation from 30,000 up: samples are new to both. The first is
what newcomers see: a head whose skull lies where the grid has it."""
WITHOUT_LESION_EVERY = 4
"""So that a user also sees what no finding looks like."""
DESCRIPTION = b"Synthetic, no patient. Research use only. Not for diagnosis."


def write_samples(directory: Path, count: int = 4, seed: int = FIRST_SAMPLE_SEED) -> list[Path]:
    """Write synthetic scans and the truth about them.

    Writes `sample-01.nii.gz` and so on (int16 HU), `sample-01.territory.nii.gz` (1 in
    the planted territory; only where there is one), and `truth.json` (per scan: seed, side, volume_ml,
    depth_hu, centre_mm in RAS world space). The same arguments give the same voxels.

    Args:
        directory: Where to write; made if it is not there.
        count: How many scans. Every fourth has no lesion.
        seed: Seed of the first scan; the next ones count up from it.

    Returns:
        list[Path]: the scans, in order.

    Raises:
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"Expected at least 1 sample to write, got {count}.")
    directory.mkdir(parents=True, exist_ok=True)
    paths, truths = [], {}
    for number in range(1, count + 1):
        scan_seed = seed + number - 1
        lesion = None if number % WITHOUT_LESION_EVERY == 0 else random_lesion(scan_seed)
        scan = synthesize(scan_seed, lesion)
        path = directory / f"sample-{number:02d}.nii.gz"
        _write_nifti(path, scan.volume_hu)
        territory = path.with_name(f"sample-{number:02d}.territory.nii.gz")
        if lesion is not None:
            _write_nifti(territory, scan.truth.territory.astype(np.uint8))
        truths[path.name] = _describe(scan_seed, scan.truth, None if lesion is None else territory.name)
        paths.append(path)
    (directory / "truth.json").write_text(json.dumps(truths, indent=2) + "\n", encoding="utf-8")
    return paths


def write_sample(path: Path) -> None:
    """Write the first sample, unless it is there; whole or not at all.

    Args:
        path: Of the scan.
    """
    if path.exists():
        return
    with TemporaryDirectory(dir=path.parent, prefix=".sample-") as folder:
        write_samples(Path(folder), count=1)[0].replace(path)


def _write_nifti(path: Path, voxels: npt.NDArray[Any]) -> None:
    image = nib.Nifti1Image(voxels, AFFINE)
    image.header["descrip"] = DESCRIPTION
    image.header.set_xyzt_units("mm")
    image.to_filename(path)


def _describe(seed: int, truth: Truth, territory: str | None) -> dict[str, object]:
    return {
        "seed": seed,
        "side": truth.side,
        "volume_ml": truth.volume_ml,
        "depth_hu": round(truth.depth_hu, 2),
        "centre_mm": None if truth.centre_mm is None else [round(value, 1) for value in truth.centre_mm],
        "territory": territory,
    }
