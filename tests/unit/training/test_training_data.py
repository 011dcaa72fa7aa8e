"""What the network is trained on is what the network would compute, and what was planted."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from processor.detection.network import NORM_EPSILON, branch
from processor.detection.preprocessing import normalise
from processor.synthetic import Lesion, synthesize
from processor.training.dataset import blocks_of_cells, examples, lesion_of, territory_cells
from processor.training.filters import first_block, first_block_features, widen


def test_the_cheap_first_block_computes_what_the_network_does() -> None:
    """Separable filters give the network's own numbers, on a narrow volume with odd sizes, at full width."""
    volume = np.random.default_rng(1).uniform(0.0, 1.0, (146, 13, 11)).astype(np.float32)

    cheap = first_block_features(volume)

    hemispheres = np.stack([volume[73:], volume[:73][::-1]])[..., None]
    whole: Any = SimpleNamespace(branch=(widen(first_block(), 1, 8),))
    real = branch(whole, tf.constant(hemispheres)).numpy() * np.sqrt(1.0 + NORM_EPSILON)
    assert cheap.shape == (2, 37, 7, 6, 8)
    assert cheap == pytest.approx(real, abs=1e-5)


def test_a_cell_holds_the_fraction_of_its_voxels_that_are_territory() -> None:
    """Counted voxel by voxel, each given to the cell its centre falls into."""
    territory = synthesize(11, Lesion("right", 25.0, -10.0)).truth.territory

    cells = territory_cells(territory)

    inside, total = np.zeros((10, 23, 17)), np.zeros((10, 23, 17))
    for j in range(182):
        for k in range(133):
            for i in range(73):
                cell = (int((i + 0.5) * 10 / 73), int((j + 0.5) * 23 / 182), int((k + 0.5) * 17 / 133))
                total[cell] += 1
                inside[cell] += territory[72 - i, j, k]
    assert cells[1] == pytest.approx(inside / total, abs=1e-6)
    assert cells[0].max() == 0


def test_blocks_keep_a_territory_where_it_is() -> None:
    """Cells of 7.3 mm become blocks of 8 mm without moving the territory's middle in the hemisphere."""
    cells = np.zeros((2, 10, 23, 17), np.float32)
    cells[0, 6:9, 10:14, 8:11] = 1.0

    blocks = blocks_of_cells(cells)

    middle = [np.average(np.arange(n) * 8 + 4.0, weights=blocks[0].sum(axis=other)) for n, other in
              ((10, (1, 2)), (23, (0, 2)), (17, (0, 1)))]  # fmt: skip
    assert middle == pytest.approx([7.5 * 7.3, 12 * 182 / 23, 9.5 * 133 / 17], abs=0.6)
    assert blocks[1].max() == 0


def test_an_example_is_made_once_and_read_again(tmp_path: Path) -> None:
    """The cache gives the numbers that were computed, with the truth of the seed's scan."""
    (first,) = examples([1], tmp_path, 1)
    stored = next(tmp_path.glob("*.npz"))
    written = stored.stat().st_mtime_ns
    (again,) = examples([1], tmp_path, 1)

    assert stored.stat().st_mtime_ns == written
    assert np.array_equal(first.features, again.features)
    lesion = lesion_of(1)
    assert lesion is not None
    assert first.volume_ml == pytest.approx(lesion.volume_ml, abs=0.001)
    scan = synthesize(1, lesion)
    assert np.array_equal(first.features, first_block_features(normalise(scan.volume_hu)).astype(np.float16))
    assert lesion_of(5) is None
