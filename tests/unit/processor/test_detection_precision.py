"""Which CPUs have the fast arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest

from processor.detection import precision
from processor.detection.precision import has_bfloat16
from tests.support.cpus import cpu_with


@pytest.mark.parametrize(
    ("flags", "able"),
    [
        pytest.param("fpu avx2 avx512f avx512_bf16 avx512_vnni", True, id="AVX512-BF16"),
        pytest.param("fpu avx2 amx_bf16 amx_tile", True, id="AMX"),
        pytest.param("fpu avx2 avx512f avx512_vnni", False, id="AVX-512 without"),
        pytest.param("fpu avx2 amx_tile amx_int8", False, id="AMX for integers alone"),
        pytest.param("fpu avx512_bf16_of_another_kind", False, id="only a part of a name"),
    ],
)
def test_the_instructions_are_known_by_their_names(
    flags: str, *, able: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole names in the line of flags; what other lines say does not count."""
    cpu_with(flags, tmp_path, monkeypatch)
    assert has_bfloat16() is able


def test_a_system_that_lists_no_instructions_counts_as_one_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slower than needed there, never 25 times slower."""
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "absent")
    assert not has_bfloat16()
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "arm")
    (tmp_path / "arm").write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")
    assert not has_bfloat16()
