"""The files of a result: the map, the scan it lies on, the picture, the report."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip

from pipeline.files import write_whole
from pipeline.report import NO_REGION_STANDS_OUT, Alignment, Report, Saliency
from pipeline.storage import ResultFile
from processor.alignment.coarse import AIR_HU, HIGHEST_HU
from processor.alignment.grid_check import LEAST_SKULL_SHARE
from processor.alignment.picture import alignment_png
from processor.alignment.quality import LEAST_DICE, MOST_RMS_MM
from processor.alignment.resampling import onto_scan
from processor.alignment.space import Affine
from processor.detection.picture import Caption, summary_png
from processor.detection.preprocessing import WINDOW_HU
from processor.detection.saliency import SaliencyMap
from processor.models import Model
from processor.placement import PlacedScan

_FIXED_UNIT = "Network output per feature."
_GRAYS = f"The grays: {WINDOW_HU[0]} HU (black) to {WINDOW_HU[1]} HU (white)."
_GZIP_LEVEL = 1
"""Of isal's 0 ... 3; higher ones take longer and save a few per cent."""


def write_outputs(
    out_dir: Path, scan: PlacedScan, saliency: SaliencyMap, model: Model, report: Report
) -> None:
    """Write the files of a result into a folder; each is complete and on the disk under its name.

    Args:
        out_dir: An existing folder; files of the same names are replaced.
        scan: On the grid.
        saliency: Its map.
        model: That made it.
        report: What is written as `report.json`, and in parts on the picture.

    Raises:
        OSError: The disk refuses.
    """
    # A map is scaled to its own maximum and looks like a finding even where it is none: not painted then.
    levels, peak = (saliency.levels, saliency.peak) if report.saliency.positive else (None, None)
    picture = summary_png(scan.hu, levels, peak, scan.affine, caption(report, model))
    space, research = (scan.affine, scan.xform_code), report.research_use_only
    files: dict[ResultFile, bytes] = {
        "aligned.nii.gz": aligned_nifti(scan, research),
        "saliency.nii.gz": nifti_gz(saliency.levels, *space, research),
        "saliency_fixed.nii.gz": nifti_gz(saliency.fixed, *space, f"{research} {_FIXED_UNIT}"),
        "saliency_native.nii.gz": _native_map(saliency, scan, research),
        "summary.png": picture,
        "alignment.png": alignment_png(
            scan.hu, scan.warnings, about_alignment(report.alignment, report.orientation_note), research
        ),
        "report.json": report.model_dump_json(by_alias=True, indent=1).encode(),
    }
    for name, content in files.items():
        write_whole(out_dir / name, content)


def _native_map(saliency: SaliencyMap, scan: PlacedScan, description: str) -> bytes:
    """Return the map on the voxels of the scan's own file, so that it opens over that file in any viewer."""
    native = scan.native
    levels = onto_scan(saliency.levels, native.from_grid, native.shape)
    return nifti_gz(levels, native.affine, native.xform_code, description)


def aligned_nifti(scan: PlacedScan, description: str) -> bytes:
    """Return the scan for viewers: 16-bit Hounsfield units, its axes and affine those of the map."""
    whole = np.rint(scan.hu) if scan.hu.dtype.kind == "f" else scan.hu
    hu = np.clip(whole, int(AIR_HU), int(HIGHEST_HU)).astype("<i2")
    return nifti_gz(hu, scan.affine, scan.xform_code, description)


def nifti_gz(voxels: npt.NDArray[Any], affine: Affine, xform_code: int, description: str) -> bytes:
    """Return a compressed NIfTI-1 file with a header that holds nothing but what is given here.

    Args:
        voxels: 3-D, of a type that NIfTI-1 knows.
        affine: (4, 4), voxel space to world space, RAS millimetres; stands as sform and, unless a tilted
            gantry has sheared it, which a qform cannot say, as qform.
        xform_code: NIfTI's code of that world space.
        description: At most 79 characters.

    Returns:
        bytes: Always the same for the same arguments.
    """
    image = nib.Nifti1Image(voxels, affine)
    image.set_sform(affine, code=xform_code)
    image.set_qform(affine, code=0 if _is_sheared(affine) else xform_code)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description.encode()
    compressed = io.BytesIO()
    # Slice by slice: a map on a large scan's voxels would else lie in memory three times over.
    with igzip.GzipFile(fileobj=compressed, mode="wb", compresslevel=_GZIP_LEVEL, mtime=0) as stream:
        image.to_stream(stream)
    return compressed.getvalue()


def _is_sheared(affine: Affine) -> bool:
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4)


def caption(report: Report, model: Model) -> Caption:
    """Put a report into the words that stand on its picture."""
    estimate, saliency = report.core_estimate, report.saliency
    off = f"usually off by {estimate.rmse:.1f} (RMSE)" if estimate.rmse is not None else "error unknown"
    finding = NO_REGION_STANDS_OUT
    if saliency.positive:
        finding = (
            "Coloured: the regions that moved the estimate, drawn on the side where they are darker, the "
            f"patient's {saliency.side}. The ring is around the strongest."
        )
    return Caption(
        number=f"{round(estimate.value, 1) + 0.0:.1f}",  # adding zero rids it of a negative one
        unit=estimate.unit,
        error=off,
        finding=finding,
        warnings=report.warnings,
        notes=(
            f"Model {model.name}: {model.description}",
            f"The number: {estimate.note}",
            f"{_GRAYS} {_about_colours(saliency)}",
            f"R and L are the patient's. {report.orientation_note}",
        ),
        research_use=report.research_use_only,
    )


def about_alignment(alignment: Alignment, orientation_note: str) -> list[str]:
    """Return the sentences under the picture of an alignment."""
    how = f"Aligned: {alignment.method}." if alignment.applied else "Taken as aligned, and not touched."
    return [
        "The line is right where it runs along the inside of the skull.",
        how,
        _quality(alignment),
        f"R and L are the patient's. {orientation_note}",
    ]


def _quality(alignment: Alignment) -> str:
    """Say the figures that tell most, beside what is asked of them; the report has all of them."""
    figures = alignment.quality or {}
    if alignment.applied:
        dice, apart_mm = figures["dice"], figures["surface_rms_mm"]
        return (
            f"Overlap with the template's brain (Dice): {dice:.2f}, accepted from {LEAST_DICE:.2f}. "
            f"Distance of their surfaces: {apart_mm:.1f} mm, accepted up to {MOST_RMS_MM:.1f}."
        )
    return (
        f"Bone where the grid has the skull: {figures['skull_share']:.0%}, in aligned heads at least "
        f"{LEAST_SKULL_SHARE:.0%}."
    )


def _about_colours(saliency: Saliency) -> str:
    if saliency.positive:
        return f"The colours: {saliency.scale}."
    if saliency.floor is None:
        return "Nothing is coloured: the map is zero everywhere."
    return (
        f"Nothing is coloured: the map's raw maximum of {saliency.raw_max:.1e} is not above this model's "
        f"floor of {saliency.floor:.1e}. The files of the result hold the map all the same."
    )
