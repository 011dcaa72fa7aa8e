"""The weights of the network, in memory and in the HDF5 layout of Keras 2.4.

The layout is that of the published weights: one group per layer, named by `layer_names`; the two
hemispheres share their branch, whose layers lie together inside the group `model`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import h5py
import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float32]
Shape: TypeAlias = tuple[int, ...]
T = TypeVar("T")
U = TypeVar("U")

DENSE_UNITS = 15
"""Width of the hidden dense layer of each output."""


class WeightsFileError(Exception):
    """Raised when a file does not hold the weights of this network; says what was expected and received."""


@dataclass(frozen=True)
class Affine(Generic[T]):
    """A convolution or a dense layer.

    Attributes:
        kernel: (3, 3, 3, inputs, outputs) of a convolution, (inputs, outputs) of a dense layer.
        bias: (outputs,).
    """

    kernel: T
    bias: T

    def map(self, change: Callable[[T], U]) -> Affine[U]:
        """Return the layer with every leaf changed."""
        return Affine(change(self.kernel), change(self.bias))

    def leaves(self) -> Iterator[T]:
        """Iterate over the leaves."""
        yield from (self.kernel, self.bias)


@dataclass(frozen=True)
class BatchNorm(Generic[T]):
    """A batch normalisation; every leaf is (channels,)."""

    gamma: T
    beta: T
    moving_mean: T
    moving_variance: T

    def map(self, change: Callable[[T], U]) -> BatchNorm[U]:
        """Return the layer with every leaf changed."""
        return BatchNorm(
            change(self.gamma), change(self.beta), change(self.moving_mean), change(self.moving_variance)
        )

    def leaves(self) -> Iterator[T]:
        """Iterate over the leaves."""
        yield from (self.gamma, self.beta, self.moving_mean, self.moving_variance)


@dataclass(frozen=True)
class Block(Generic[T]):
    """Three convolutions, and the normalisation that follows their max-pooling."""

    convolutions: tuple[Affine[T], Affine[T], Affine[T]]
    norm: BatchNorm[T]

    def map(self, change: Callable[[T], U]) -> Block[U]:
        """Return the block with every leaf changed."""
        first, second, third = self.convolutions
        return Block((first.map(change), second.map(change), third.map(change)), self.norm.map(change))

    def leaves(self) -> Iterator[T]:
        """Iterate over the leaves."""
        for convolution in self.convolutions:
            yield from convolution.leaves()
        yield from self.norm.leaves()


@dataclass(frozen=True)
class Weights(Generic[T]):
    """All weights of the network; the leaves are arrays, or variables while it is trained.

    Attributes:
        branch: The blocks that both hemispheres go through.
        head: The blocks that their absolute difference goes through.
        head_norm: The normalisation after them.
        core_dense: (filters, 15).
        core_output: (15, 1): the `core_estimate`.
        pen_dense: (15, 15), on the activation of `core_dense`.
        pen_output: (15, 1): the penumbra's estimate.
    """

    branch: tuple[Block[T], Block[T], Block[T]]
    head: tuple[Block[T], Block[T]]
    head_norm: BatchNorm[T]
    core_dense: Affine[T]
    core_output: Affine[T]
    pen_dense: Affine[T]
    pen_output: Affine[T]

    def map(self, change: Callable[[T], U]) -> Weights[U]:
        """Return the weights with every leaf changed, in the order of `leaves`."""
        b0, b1, b2 = self.branch
        h0, h1 = self.head
        return Weights(
            branch=(b0.map(change), b1.map(change), b2.map(change)),
            head=(h0.map(change), h1.map(change)),
            head_norm=self.head_norm.map(change),
            core_dense=self.core_dense.map(change),
            core_output=self.core_output.map(change),
            pen_dense=self.pen_dense.map(change),
            pen_output=self.pen_output.map(change),
        )

    def leaves(self) -> Iterator[T]:
        """Iterate over the leaves, always in the same order."""
        for block in (*self.branch, *self.head):
            yield from block.leaves()
        yield from self.head_norm.leaves()
        for dense in (self.core_dense, self.core_output, self.pen_dense, self.pen_output):
            yield from dense.leaves()


def weight_shapes(filters: int) -> Weights[Shape]:
    """Return the shape of every leaf of a network of so many filters."""

    def norm() -> BatchNorm[Shape]:
        return BatchNorm((filters,), (filters,), (filters,), (filters,))

    def block(inputs: int) -> Block[Shape]:
        first, later = (Affine[Shape]((3, 3, 3, n, filters), (filters,)) for n in (inputs, filters))
        return Block((first, later, later), norm())

    def dense(inputs: int, outputs: int) -> Affine[Shape]:
        return Affine((inputs, outputs), (outputs,))

    return Weights(
        branch=(block(1), block(filters), block(filters)),
        head=(block(filters), block(filters)),
        head_norm=norm(),
        core_dense=dense(filters, DENSE_UNITS),
        core_output=dense(DENSE_UNITS, 1),
        pen_dense=dense(DENSE_UNITS, DENSE_UNITS),
        pen_output=dense(DENSE_UNITS, 1),
    )


def read_weights(path: Path) -> Weights[Array]:
    """Read weights in the HDF5 layout of Keras 2.4; the number of filters is what the file has.

    Args:
        path: The file.

    Returns:
        Weights[Array]: float32 arrays.

    Raises:
        WeightsFileError: The file cannot be read as HDF5, lacks a layer, or has one of another shape or with
            values that are not finite.
    """
    try:
        with h5py.File(path, "r") as file:
            filters = int(_read(file, _PATHS.branch[0].convolutions[0].bias).size)
            weights = _PATHS.map(lambda name: _read(file, name))
    except OSError as error:
        raise WeightsFileError(f"Expected an HDF5 file of weights, received {path.name}: {error}.") from error
    _check(weights, filters)
    return weights


def write_weights(path: Path, weights: Weights[Array]) -> None:
    """Write weights in the layout that `read_weights` reads, which Keras 2.4 reads too.

    The same weights give the same bytes.
    """
    with h5py.File(path, "w") as file:
        file.attrs["backend"] = "tensorflow"
        file.attrs["keras_version"] = "2.4.0"
        file.attrs["layer_names"] = np.array(_LAYERS, dtype="S")
        for layer in _LAYERS:
            names = [
                name.removeprefix(f"{layer}/") for name in _keras_order() if name.startswith(f"{layer}/")
            ]
            # Keras writes an empty list as an empty float array.
            file.create_group(layer).attrs["weight_names"] = np.array(names, dtype="S" if names else float)
        for name, leaf in zip(_PATHS.leaves(), weights.leaves(), strict=True):
            file.create_dataset(name, data=np.asarray(leaf, dtype=np.float32))


def _read(file: h5py.File, name: str) -> Array:
    entry = file.get(name)
    if not isinstance(entry, h5py.Dataset):
        raise WeightsFileError(
            f"Expected the weights of this network with a layer {name!r}, received an HDF5 file without it "
            f"(its layers: {', '.join(sorted(file)) or 'none'})."
        )
    return np.asarray(entry[()], dtype=np.float32)


def _check(weights: Weights[Array], filters: int) -> None:
    expected = weight_shapes(filters).leaves()
    for name, shape, leaf in zip(_PATHS.leaves(), expected, weights.leaves(), strict=True):
        if leaf.shape != shape:
            raise WeightsFileError(
                f"Expected {name!r} of shape {shape} in a network of {filters} filters, "
                f"received {leaf.shape}."
            )
        if not np.isfinite(leaf).all():
            raise WeightsFileError(
                f"Expected finite numbers in {name!r}, received NaN or infinity: the training that wrote "
                "this file diverged, or it is damaged."
            )


def _affine_paths(prefix: str) -> Affine[str]:
    return Affine(f"{prefix}/kernel:0", f"{prefix}/bias:0")


def _norm_paths(prefix: str) -> BatchNorm[str]:
    leaves = ("gamma", "beta", "moving_mean", "moving_variance")
    return BatchNorm(*(f"{prefix}/{leaf}:0" for leaf in leaves))


def _block_paths(index: int, group: str | None) -> Block[str]:
    """Name the datasets of the index-th block: of the branch inside its group, of the head by themselves."""

    def inside(kind: str, number: int) -> str:
        layer = f"{kind}_{number}" if number else kind
        return f"{group or layer}/{layer}"

    first, second, third = (_affine_paths(inside("conv3d", 3 * index + n)) for n in range(3))
    return Block((first, second, third), _norm_paths(inside("sync_batch_normalization", index)))


_BRANCH_GROUP = "model"

_PATHS: Weights[str] = Weights(
    branch=(_block_paths(0, _BRANCH_GROUP), _block_paths(1, _BRANCH_GROUP), _block_paths(2, _BRANCH_GROUP)),
    head=(_block_paths(3, None), _block_paths(4, None)),
    head_norm=_norm_paths("sync_batch_normalization_9/sync_batch_normalization_9"),
    core_dense=_affine_paths("core_dense/core_dense"),
    core_output=_affine_paths("core_output/core_output"),
    pen_dense=_affine_paths("pen_dense/pen_dense"),
    pen_output=_affine_paths("pen_output/pen_output"),
)
"""Where in the file each leaf lies."""

_LAYERS = (
    "input_2",
    "input_3",
    "model",
    "lambda",
    "conv3d_9",
    "conv3d_10",
    "conv3d_11",
    "max_pooling3d_3",
    "sync_batch_normalization_3",
    "conv3d_12",
    "conv3d_13",
    "conv3d_14",
    "max_pooling3d_4",
    "sync_batch_normalization_4",
    "sync_batch_normalization_9",
    "global_average_pooling3d",
    "flatten",
    "core_dense",
    "pen_dense",
    "core_output",
    "pen_output",
)
"""Every layer of the Keras model, those without weights too."""


def _keras_order() -> list[str]:
    """Return the datasets as Keras lists them: what is trained first, the moving statistics after it."""
    return sorted(_PATHS.leaves(), key=lambda name: "/moving_" in name)
