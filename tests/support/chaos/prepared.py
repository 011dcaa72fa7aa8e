"""The files that the stand-in publishes, made once and apart from it: its processes start faster so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.ids import new_id
from processor.outputs import nifti_gz
from tests.support import results


def prepare(folder: Path) -> Path:
    """Write the files of a result into a new folder: real ones on the network's grid, small."""
    folder.mkdir()
    levels = np.zeros(results.SHAPE, np.float32)
    levels[90:110, 80:110, 60:80] = 60
    for name, scale in (("saliency.nii.gz", 1), ("saliency_fixed.nii.gz", 1e-4)):
        (folder / name).write_bytes(nifti_gz(levels * np.float32(scale), results.AFFINE, 4, ""))
    Image.fromarray(levels[:, :, 70].astype(np.uint8)).save(folder / "summary.png")
    report = results.report(new_id(), new_id())
    (folder / "report.json").write_text(report.model_dump_json(by_alias=True))
    return folder
