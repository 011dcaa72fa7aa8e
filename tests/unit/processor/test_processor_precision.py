"""Where the wanted precision is used, and what happens where it is not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from processor.detect import load_detector
from processor.detection.weights import Array, weight_shapes, write_weights
from processor.models import Model, resolve_model
from processor.precision import usable
from tests.support.cpus import cpu_with


@pytest.fixture(scope="module")
def custom(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network of one filter, of which nothing is known."""
    rng = np.random.default_rng(61)

    def leaf(shape: tuple[int, ...]) -> Array:
        return np.asarray(np.abs(rng.standard_normal(shape)), dtype=np.float32)

    folder = tmp_path_factory.mktemp("model")
    write_weights(folder / "tiny.hdf5", weight_shapes(1).map(leaf))
    return resolve_model(str(folder / "tiny.hdf5"), folder)


@pytest.fixture
def compared(custom: Model) -> Model:
    """The same, as if its fast precision had been compared with float32."""
    return dataclasses.replace(custom, fast=True)


def test_a_cpu_without_the_instructions_computes_in_float32(
    compared: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There bfloat16 would be slower by far; the reason is said in words."""
    cpu_with("fpu avx2 avx512f", tmp_path, monkeypatch)
    found = usable("fast", compared)
    assert found.precision == "float32"
    assert found.reason == "This CPU has no bfloat16 instructions (AVX512-BF16 or AMX)."
    assert load_detector(compared, "fast").precision == "float32"


def test_a_model_that_was_not_compared_computes_in_float32(
    custom: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two convolutions in bfloat16 move one model's map little and another's far; the shipped one's far."""
    cpu_with("fpu avx512_bf16", tmp_path, monkeypatch)
    for model in (custom, resolve_model("demo", tmp_path)):
        found = usable("fast", model)
        assert found.precision == "float32"
        assert f"not established for {model.name}" in found.reason
    assert load_detector(custom, "fast").precision == "float32"


def test_a_cpu_with_the_instructions_computes_what_was_asked_for(
    compared: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And float32 wherever it is asked for, which is the default."""
    cpu_with("fpu amx_bf16", tmp_path, monkeypatch)
    assert (usable("fast", compared).precision, usable("fast", compared).reason) == ("fast", "")
    assert (usable("float32", compared).precision, usable("float32", compared).reason) == ("float32", "")
    assert load_detector(compared).precision == "float32"
