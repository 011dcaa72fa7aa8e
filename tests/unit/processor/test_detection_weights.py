"""Weights, in memory and on disk."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from processor.detection.weights import (
    Array,
    Weights,
    WeightsFileError,
    read_weights,
    weight_shapes,
    write_weights,
)
from tests.support.reference import published_weights


def random_weights(filters: int, seed: int = 4) -> Weights[Array]:
    """Return weights of the right shapes and no sense."""
    rng = np.random.default_rng(seed)
    return weight_shapes(filters).map(lambda shape: rng.random(shape, dtype=np.float32))


def attributes(path: Path) -> dict[str, dict[str, object]]:
    """Return the attributes of every group and dataset of an HDF5 file, and the shapes of the datasets."""
    found: dict[str, dict[str, object]] = {}

    def visit(name: str, entry: h5py.Group | h5py.Dataset) -> None:
        found[name] = {key: np.asarray(value).tolist() for key, value in entry.attrs.items()}
        found[name]["shape"] = getattr(entry, "shape", None)

    with h5py.File(path) as file:
        visit("/", file)
        file.visititems(visit)
    return found


@pytest.mark.parametrize("filters", [1, 8])
def test_weights_come_back_as_they_were_written(tmp_path: Path, filters: int) -> None:
    """Every leaf keeps its place and value; the file alone says how many filters there are."""
    weights = random_weights(filters)
    write_weights(tmp_path / "w.hdf5", weights)
    again = read_weights(tmp_path / "w.hdf5")
    assert again.map(np.shape) == weight_shapes(filters)
    for one, other in zip(weights.leaves(), again.leaves(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    """A model's hash is its name: no time stamps."""
    for name in ("a", "b"):
        write_weights(tmp_path / name, random_weights(2))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_published_file_is_written_as_it_is_laid_out(tmp_path: Path) -> None:
    """Groups, datasets, names, order and values are those of Keras 2.4."""
    published = published_weights()
    weights = read_weights(published)
    write_weights(tmp_path / "w.hdf5", weights)
    assert attributes(tmp_path / "w.hdf5") == attributes(published)
    for one, other in zip(weights.leaves(), read_weights(tmp_path / "w.hdf5").leaves(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_leaves_are_changed_in_the_order_they_are_listed() -> None:
    """`map` and `leaves` visit the same places."""
    numbers = iter(range(1000))
    counted = weight_shapes(2).map(lambda _shape: next(numbers))
    assert list(counted.leaves()) == list(range(len(list(weight_shapes(2).leaves()))))


def test_a_file_that_is_not_hdf5_is_refused(tmp_path: Path) -> None:
    """The message names the file."""
    (tmp_path / "w.hdf5").write_bytes(b"<html>not found</html>")
    with pytest.raises(WeightsFileError, match=r"Expected an HDF5 file.*received w\.hdf5"):
        read_weights(tmp_path / "w.hdf5")


def test_another_networks_file_is_refused(tmp_path: Path) -> None:
    """The message names the layer that is missing and those that are there."""
    with h5py.File(tmp_path / "w.hdf5", "w") as file:
        file.create_dataset("dense/kernel:0", data=np.zeros(3))
    with pytest.raises(WeightsFileError, match=r"model/conv3d/bias:0.*its layers: dense"):
        read_weights(tmp_path / "w.hdf5")


def test_a_layer_of_another_shape_is_refused(tmp_path: Path) -> None:
    """The message says which shape was expected and which received."""
    path = tmp_path / "w.hdf5"
    write_weights(path, random_weights(2))
    with h5py.File(path, "r+") as file:
        del file["core_dense/core_dense/kernel:0"]
        file["core_dense/core_dense/kernel:0"] = np.zeros((2, 7), np.float32)
    with pytest.raises(WeightsFileError, match=r"core_dense.*\(2, 15\).*2 filters, received \(2, 7\)"):
        read_weights(path)


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    """They would give NaN for every scan."""
    weights = random_weights(2)
    weights.core_output.bias[0] = np.nan
    write_weights(tmp_path / "w.hdf5", weights)
    with pytest.raises(WeightsFileError, match=r"core_output/core_output/bias:0"):
        read_weights(tmp_path / "w.hdf5")
