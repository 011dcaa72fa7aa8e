"""`corestream align`, as a user calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

from processor.align_scan import AlignmentReport
from processor.detection.grid import GRID_AFFINE, GRID_SHAPE
from tests.support.heads import moved, raw_head
from tests.support.waiting import NETWORK_PATIENCE_S

ROOT = Path(__file__).parents[2]


def align(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `corestream align …`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CORESTREAM_")}
    return subprocess.run(
        [sys.executable, "-m", "corestream", "align", *map(str, arguments)],
        cwd=ROOT,
        env=environment | {"COLUMNS": "400"},
        capture_output=True,
        text=True,
        timeout=NETWORK_PATIENCE_S,
        check=False,
    )


def test_each_scan_gets_a_folder_or_a_reason(tmp_path: Path) -> None:
    """One good scan beside a slab of it: exit status 1, the result of the good one, words for the other."""
    head = raw_head(moved((10, 5, -8)))
    nib.Nifti1Image(head.stored, head.affine).to_filename(tmp_path / "head.nii")
    nib.Nifti1Image(head.stored[:, :, 40:70], head.affine).to_filename(tmp_path / "slab.nii")
    done = align(tmp_path / "head.nii", tmp_path / "slab.nii", "-o", tmp_path / "out")
    assert done.returncode == 1, done.stderr
    assert "slab.nii: " in done.stderr
    assert "Expected" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["head"]
    assert "Research use only. Not for diagnosis." in done.stdout
    assert "cannot be told from a true one" in done.stdout
    folder = tmp_path / "out" / "head"
    assert sorted(path.name for path in folder.iterdir()) == [
        "aligned.nii.gz",
        "alignment.json",
        "alignment.png",
    ]
    report = AlignmentReport.model_validate_json((folder / "alignment.json").read_bytes())
    assert report.alignment.applied
    assert json.loads((folder / "alignment.json").read_bytes())["input"]["orientation"] == "LAS"
    image = nib.Nifti1Image.from_filename(folder / "aligned.nii.gz")
    assert image.shape == GRID_SHAPE
    np.testing.assert_allclose(image.affine, GRID_AFFINE, atol=1e-4)
