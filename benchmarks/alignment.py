"""Measures the alignment: errors, overlap, time, memory and verdict of every case.

    python -m benchmarks.alignment SCAN... [--perturbations N] [--fine SCAN] [--difficulties SCAN]

Run it from the root of the repository; it prints a table and writes benchmarks/results/alignment.json. Every
scan is aligned as it is, and again turned by up to 20 degrees about every axis and moved by up to 40 mm along
each; what a perturbed run's transform differs by from that of the scan as it is, is its error over the brain.
The scan given to --fine is treated so on 512 x 512 x 470 voxels; that given to --difficulties gets midline
shift, haematoma and the like. Each scan has a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from scipy.spatial.transform import Rotation

from benchmarks.head_difficulties import DIFFICULTIES, Anatomy
from processor.alignment.align import Alignment, align
from processor.alignment.coarse import AIR_HU
from processor.alignment.errors import AlignmentRefusedError
from processor.alignment.resampling import onto_grid
from processor.alignment.space import Affine, StoredVolume, resample, transform
from processor.alignment.template import load_template
from processor.volumes import read_volume

MOST_DEGREES, MOST_SHIFT_MM = 20.0, 40.0
FINE_SHAPE = (512, 512, 470)
HEAD_SIZES = (0.8, 0.85, 1.15)
"""Times the size of the scan's head."""
SEED = 11
MIB = 1024
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        case: What was aligned.
        verdict: `aligned`, or the code of the refusal.
        mean_mm: Mean distance over the brain from the transform that is taken for the truth; None of that
            one itself, and of refusals.
        worst_mm: The largest.
        dice: Overlap of the cavity with the template's brain.
        cpu_s: Of alignment and resampling, reading left out.
        peak_mib: Of the process so far.
        quality: All figures.
    """

    case: str
    verdict: str
    mean_mm: float | None
    worst_mm: float | None
    dice: float | None
    cpu_s: float
    peak_mib: int
    quality: dict[str, float] | None


Cases: TypeAlias = Callable[[Path], Iterator[Row]]


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("scans", nargs="*", type=Path)
    parser.add_argument("--perturbations", type=int, default=3, metavar="N")
    parser.add_argument("--fine", type=Path, action="append", default=[], metavar="SCAN")
    parser.add_argument("--difficulties", type=Path, action="append", default=[], metavar="SCAN")
    options = parser.parse_args()
    perturbed: Cases = partial(perturbed_cases, count=options.perturbations)
    fine: Cases = partial(perturbed_cases, count=options.perturbations, shape=FINE_SHAPE)
    work = [
        *((scan, perturbed) for scan in options.scans),
        *((scan, fine) for scan in options.fine),
        *((scan, difficult_cases) for scan in options.difficulties),
    ]
    rows: list[Row] = []
    print(f"{'case':<48}{'verdict':<24}{'mean mm':>8}{'worst':>7}{'Dice':>7}{'CPU s':>7}{'MiB':>6}")
    for scan, cases in work:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            rows += pool.submit(measure, scan, cases).result()
    _summarise(rows)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "alignment.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def measure(path: Path, cases: Cases) -> list[Row]:
    """Run and print cases of one scan."""
    load_template()
    rows = []
    for row in cases(path):
        _print(row)
        rows.append(row)
    return rows


def perturbed_cases(path: Path, count: int, shape: tuple[int, int, int] | None = None) -> Iterator[Row]:
    """Align a scan as it is, on other voxels if a shape is given, and so many times turned and moved."""
    name, volume = _name(path), read_volume(path).volume
    if shape:
        name, volume = f"{name}, {' x '.join(map(str, shape))}", _on_voxels(volume, shape)
    row, plain = _run(name, volume, None)
    yield row
    if plain is None:
        return
    for number, motion in enumerate(_motions(count)):
        yield _run(f"{name}, perturbed {number + 1}", _moved(volume, motion), motion @ plain.to_scan)[0]


def difficult_cases(path: Path) -> Iterator[Row]:
    """Align a scan with what a template has not, and as a head of other sizes."""
    name, volume = _name(path), read_volume(path).volume
    plain = align(volume)
    anatomy = Anatomy(plain.volume, plain.to_scan)
    for difficulty in DIFFICULTIES:
        case = f"{name}, {difficulty.__name__.replace('_', ' ')}"
        yield _run(case, difficulty(plain.volume, anatomy), plain.to_scan)[0]
    for size in HEAD_SIZES:
        motion = np.diag([size, size, size, 1])
        yield _run(f"{name}, {size:g} times its size", _moved(volume, motion), motion @ plain.to_scan)[0]


def _name(path: Path) -> str:
    return path.name.removesuffix(".nii.gz")


def _moved(volume: StoredVolume, motion: Affine) -> StoredVolume:
    return dataclasses.replace(volume, affine=motion @ volume.affine)


def _on_voxels(volume: StoredVolume, shape: tuple[int, int, int]) -> StoredVolume:
    """Return a scan on so many voxels of the same extent."""
    factors = np.array(volume.stored.shape) / shape
    to_stored = np.diag([*factors, 1.0])
    to_stored[:3, 3] = (factors - 1) / 2
    stored = np.empty(shape, volume.stored.dtype, order="F")
    for k in range(shape[2]):  # slice by slice, so that the peak of memory is the alignment's
        slab = to_stored.copy()
        slab[2, 3] += factors[2] * k
        air = (AIR_HU - volume.intercept) / volume.slope
        stored[:, :, k] = resample(volume.stored, slab, (*shape[:2], 1), outside=air)[:, :, 0]
    return dataclasses.replace(volume, stored=stored, affine=volume.affine @ to_stored)


def _motions(count: int) -> Iterator[Affine]:
    rng = np.random.default_rng(SEED)
    for _ in range(count):
        motion = np.eye(4)
        degrees = rng.uniform(-MOST_DEGREES, MOST_DEGREES, 3)
        motion[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
        motion[:3, 3] = rng.uniform(-MOST_SHIFT_MM, MOST_SHIFT_MM, 3)
        yield motion


def _run(case: str, volume: StoredVolume, truth: Affine | None) -> tuple[Row, Alignment | None]:
    started = time.process_time()
    try:
        alignment = align(volume)
    except AlignmentRefusedError as error:
        cpu_s = time.process_time() - started
        return Row(case, error.code, None, None, None, cpu_s, _peak_mib(), None), None
    onto_grid(alignment.volume, alignment.to_scan)
    cpu_s = time.process_time() - started
    mean_mm = worst_mm = None
    if truth is not None:
        apart = _apart_mm(alignment.to_scan, truth)
        mean_mm, worst_mm = float(apart.mean()), float(apart.max())
    quality = alignment.quality
    figures = quality.figures()
    return Row(case, "aligned", mean_mm, worst_mm, quality.dice, cpu_s, _peak_mib(), figures), alignment


def _apart_mm(found: Affine, truth: Affine) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return how far apart two transforms put the brain's voxels, in the template's millimetres."""
    template = load_template()
    brain = transform(template.affine, np.argwhere(template.brain)[::37])
    moved = transform(np.linalg.inv(truth) @ found, brain)
    return np.asarray(np.linalg.norm(moved - brain, axis=1), np.float64)


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // MIB


def _print(row: Row) -> None:
    mean, worst, dice = (
        "" if value is None else f"{value:.{digits}f}"
        for value, digits in ((row.mean_mm, 2), (row.worst_mm, 2), (row.dice, 3))
    )
    print(
        f"{row.case:<48}{row.verdict:<24}{mean:>8}{worst:>7}{dice:>7}{row.cpu_s:>7.1f}{row.peak_mib:>6}",
        flush=True,
    )


def _summarise(rows: list[Row]) -> None:
    perturbed = [row for row in rows if ", perturbed" in row.case]
    aligned = [row for row in perturbed if row.mean_mm is not None and row.worst_mm is not None]
    if not aligned:
        return
    means = [row.mean_mm for row in aligned if row.mean_mm is not None]
    worst = max(row.worst_mm for row in aligned if row.worst_mm is not None)
    print(
        f"\n{len(aligned)} of {len(perturbed)} perturbed scans aligned; mean error {np.mean(means):.2f} mm, "
        f"worst run {max(means):.2f} mm, worst voxel {worst:.2f} mm"
    )


if __name__ == "__main__":
    main()
