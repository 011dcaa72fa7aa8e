"""Jobs on disk as the services leave them: accepted, finished, failed; with volumes that look like a head."""

from __future__ import annotations

import gzip
import io
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.clock import now
from pipeline.errors import Failure
from pipeline.ids import new_id
from pipeline.report import Alignment, CoreEstimate, InputFacts, ModelFacts, Report, Saliency
from pipeline.storage import JobRecord, ScanRecord, Storage

SHAPE = (146, 182, 133)
AFFINE = np.array([[-1.0, 0, 0, 72], [0, 1, 0, -107.5], [0, 0, 1, -51.5], [0, 0, 0, 1]])
"""The grid of the network: axes left, anterior, superior."""
PEAK_VOXEL = (104, 98, 76)
WARNING = "More stands in example.org/a-name-that-is-wider-than-a-telephone-and-has-no-place-to-break."
DEMO = "Synthetic demonstration model, never trained on patients."
REFUSAL = Failure(
    code="not-a-head",
    title="No head found",
    detail="Expected a CT of the head with its skull, received a volume without bone. Export it unwindowed.",
)


def accepted_job(
    storage: Storage, *, scans: int = 1, email: str | None = None, links_expire_at: datetime | None = None
) -> JobRecord:
    """Accept a job of `scans` volumes whose content nobody reads."""
    storage.create_folders()
    parts = [storage.part_path(new_id()) for _ in range(scans)]
    for part in parts:
        part.write_bytes(b"voxels")
    record = JobRecord(
        job_id=new_id(),
        created_at=now(),
        links_expire_at=links_expire_at or now() + timedelta(hours=24),
        expires_at=now() + timedelta(hours=48),
        email=email,
        scans=tuple(ScanRecord(scan_id=new_id(), sha256="ab" * 32, size_bytes=6) for _ in range(scans)),
    )
    storage.accept(record, parts)
    return record


def publish_result(storage: Storage, job: JobRecord, scan_id: str, *, positive: bool = True) -> None:
    """Write a scan's result as the processor does."""
    with storage.staged_result(job.job_id, scan_id) as stage:
        write_result(stage, report(job.job_id, scan_id, positive=positive))


def write_result(stage: Path, result: Report) -> None:
    """Write the files of a result into a folder."""
    (stage / "report.json").write_text(result.model_dump_json(by_alias=True, indent=1))
    for name, content in _pictures().items():
        (stage / name).write_bytes(content)


@cache
def _pictures() -> dict[str, bytes]:
    scan, saliency = head(), saliency_map()
    summary = io.BytesIO()
    _summary(scan, saliency).save(summary, "PNG")
    return {
        "aligned.nii.gz": _nifti(scan),
        "saliency.nii.gz": _nifti(saliency),
        "saliency_fixed.nii.gz": _nifti(saliency * np.float32(1.23e-4)),
        "saliency_native.nii.gz": _nifti(saliency),
        "summary.png": summary.getvalue(),
        "alignment.png": summary.getvalue(),
    }


def head() -> NDArray[np.int16]:
    """Return an ellipsoid of brain in a skull, HU, shape `SHAPE`."""
    radius = _radius((73, 91, 66), (62, 80, 62))
    rng = np.random.default_rng(5)
    volume = np.where(radius < 1, 90, 0)
    volume = np.where(radius < 0.95, 100, volume)
    volume = np.where(radius < 0.88, 38 + rng.normal(0, 6, SHAPE), volume)
    volume = np.where(_radius((73, 95, 74), (12, 30, 14)) < 1, 8, volume)
    return volume.astype(np.int16)


def saliency_map() -> NDArray[np.float32]:
    """Return a blob around `PEAK_VOXEL`; percent of its maximum, shape `SHAPE`."""
    percent = 100 * np.exp(-1.5 * _radius(PEAK_VOXEL, (20, 26, 18)) ** 2)
    return np.asarray(np.rint(percent), np.float32)


def report(job_id: str, scan_id: str, *, positive: bool = True) -> Report:
    """Return a report like the processor's; where the map is not positive it lies below the model's floor."""
    peak_mm = (AFFINE @ (*PEAK_VOXEL, 1))[:3]
    return Report(
        job_id=job_id,
        scan_id=scan_id,
        input=InputFacts(
            sha256="ab" * 32,
            shape=SHAPE,
            voxel_size_mm=(1.0, 1.0, 1.0),
            orientation="LAS",
            hu_range=(-12.0, 100.0),
        ),
        orientation_note="Left and right are as the scan's header says: its axes run to the patient's left, "
        "front and top (LAS). A header that swaps left and right cannot be told from a true one.",
        alignment=Alignment(method="already on the grid", applied=False),
        model=ModelFacts(
            name="demo", sha256="cd" * 32, description=DEMO, trained_on="synthetic CT angiograms"
        ),
        core_estimate=CoreEstimate(
            value=23.46,
            unit="ml",
            rmse=10.5,
            note="Volume of the planted territory, as the synthetic training data state it.",
        ),
        saliency=Saliency(
            raw_max=0.0123 if positive else 0.0004,
            floor=0.001,
            positive=positive,
            side="left",
            peak_voxel=PEAK_VOXEL,
            peak_mm=(float(peak_mm[0]), float(peak_mm[1]), float(peak_mm[2])),
            scale="percent of this map's largest value",
            scale_fixed="network output per feature",
        ),
        timings_s={"read": 0.12, "network": 2.31, "write": 0.84},
        software={"corestream": "0.1.0", "tensorflow": "2.21.0"},
        warnings=(WARNING,),
    )


def _radius(center: tuple[int, int, int], half_axes: tuple[int, int, int]) -> NDArray[np.float64]:
    axes = [((np.arange(n) - c) / h) ** 2 for n, c, h in zip(SHAPE, center, half_axes, strict=True)]
    radius: NDArray[np.float64] = np.sqrt(
        axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :]
    )
    return radius


def _nifti(volume: NDArray[np.int16] | NDArray[np.float32]) -> bytes:
    image = nib.Nifti1Image(volume, AFFINE)
    image.set_sform(AFFINE, code=1)
    image.set_qform(AFFINE, code=1)
    return gzip.compress(image.to_bytes(), compresslevel=1)


def _summary(scan: NDArray[np.int16], saliency: NDArray[np.float32]) -> Image.Image:
    tiles = []
    for k in range(20, 116, 8):
        gray = np.rot90(np.clip(scan[:, :, k], 0, 100) * 2.5)
        heat = np.rot90(saliency[:, :, k] / 100)
        tiles.append(np.stack([gray + 200 * heat, gray + 120 * heat, gray], axis=-1).clip(0, 255))
    rows = [np.hstack(tiles[i : i + 6]) for i in (0, 6)]
    return Image.fromarray(np.vstack(rows).astype(np.uint8))
