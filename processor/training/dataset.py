"""Training volumes, made once and kept on disk, as the network sees them."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from processor.detection.grid import HEMISPHERE_SHAPE, split_hemispheres
from processor.detection.preprocessing import normalise
from processor.synthetic import Lesion, random_lesion, synthesize
from processor.training.filters import first_block_features

# Each range is far from the others, so that no head is in two of them.
FIRST_TRAINING_SEED, FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED_WITHOUT_LESION = 0, 30_000, 31_000
# One in so many scans has no lesion.
WITHOUT_LESION_EVERY = 5
# Cells of the branch's output per hemisphere, which the saliency map is made of.
CELLS = (10, 23, 17)


@dataclass(frozen=True)
class Example:
    """A scan to learn from.

    Attributes:
        features: What the first block makes of the hemispheres, float16, shape (2, 37, 91, 67, 8).
        territory: Fraction of each cell that is territory, left hemisphere first, both mirrored to have the
            midline at index 0 of the second axis, float32, shape (2, 10, 23, 17).
        volume_ml: Volume of the territory, 0 without one.
    """

    features: npt.NDArray[np.float16]
    territory: npt.NDArray[np.float32]
    volume_ml: float


def lesion_of(seed: int) -> Lesion | None:
    """Return what the scan of this seed has planted in it: a random lesion, or None in one of five."""
    return None if seed % WITHOUT_LESION_EVERY == 0 else random_lesion(seed)


def examples(seeds: Sequence[int], cache: Path, processes: int) -> Iterator[Example]:
    """Yield the examples of `seeds` in order, making those that `cache` does not hold yet."""
    cache.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(processes) as pool:
        for path in pool.map(partial(_make, cache), seeds, chunksize=4):
            with np.load(path) as stored:
                yield Example(stored["features"], stored["territory"], float(stored["volume_ml"]))


def _make(cache: Path, seed: int) -> Path:
    path = cache / f"{seed:06d}.npz"
    if path.exists():
        return path
    scan = synthesize(seed, lesion_of(seed))
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(
            file,
            features=first_block_features(normalise(scan.volume_hu)).astype(np.float16),
            territory=territory_cells(scan.truth.territory),
            volume_ml=scan.truth.volume_ml,
        )
    return part.replace(path)


def territory_cells(territory: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Return the fraction of territory in each cell of the saliency map.

    Args:
        territory: True in the territory, shape (146, 182, 133).

    Returns:
        npt.NDArray[np.float32]: shape (2, 10, 23, 17), the left hemisphere first, the midline at index 0. A
        cell covers the voxels that nearest-neighbour enlargement of the map to (73, 182, 133) gives it.
    """
    cells: npt.NDArray[Any] = np.stack(split_hemispheres(territory)).astype(np.float32)
    for axis, count in enumerate(CELLS, start=1):
        size = cells.shape[axis]
        cell = ((np.arange(size) + 0.5) * count / size).astype(int)
        starts = np.searchsorted(cell, np.arange(count))
        shape = [1] * cells.ndim
        shape[axis] = count
        cells = np.add.reduceat(cells, starts, axis=axis) / np.bincount(cell).reshape(shape)
    return cells.astype(np.float32)


def blocks_of_cells(cells: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the fraction of territory in the 8 mm blocks that the branch's poolings see, from map cells.

    The branch's output at (a, b, c) sees voxels 8a to 8a + 7 and so on, while enlargement of the map to the
    hemisphere's 73 x 182 x 133 voxels puts it at cells of 7.3 x 7.9 x 7.8: up to 7 mm apart at the far end.

    Args:
        cells: As `territory_cells` returns them, shape (2, 10, 23, 17).
    """
    blocks: npt.NDArray[Any] = cells
    for axis, (count, size) in enumerate(zip(CELLS, HEMISPHERE_SHAPE, strict=True), start=1):
        voxel = np.arange(size)
        cell = ((voxel + 0.5) * count / size).astype(int)
        overlap = np.zeros((count, count), np.float32)
        np.add.at(overlap, (voxel // 8, cell), 1.0)
        overlap /= overlap.sum(axis=1, keepdims=True)
        blocks = np.moveaxis(np.tensordot(overlap, blocks, (1, axis)), 0, axis)
    return blocks.astype(np.float32)
