"""Which arithmetic is used on which CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from processor.detection import precision
from processor.detection.precision import usable
from tests.support.cpus import cpu_with


@pytest.mark.parametrize(
    ("flags", "precision_of_fast"),
    [
        pytest.param("fpu avx2 avx512f avx512_bf16 avx512_vnni", "fast", id="AVX512-BF16"),
        pytest.param("fpu avx2 amx_bf16 amx_tile", "fast", id="AMX"),
        pytest.param("fpu avx2 avx512f avx512_vnni", "float32", id="AVX-512 without"),
        pytest.param("fpu avx2 amx_tile amx_int8", "float32", id="AMX for integers alone"),
        pytest.param("fpu avx512_bf16_of_another_kind", "float32", id="only a part of a name"),
    ],
)
def test_the_instructions_are_known_by_their_names(
    flags: str, precision_of_fast: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole names in the line of flags; what other lines say does not count."""
    cpu_with(flags, tmp_path, monkeypatch)
    assert usable("fast") == precision_of_fast
    assert usable("float32") == "float32"


def test_a_system_that_lists_no_instructions_counts_as_one_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slower than needed there, never 25 times slower."""
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "absent")
    assert usable("fast") == "float32"
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "arm")
    (tmp_path / "arm").write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")
    assert usable("fast") == "float32"
