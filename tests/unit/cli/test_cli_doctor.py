"""What `corestream doctor` says of the precision."""

from __future__ import annotations

from pathlib import Path

import pytest

from corestream.doctor import _precision
from processor.settings import ProcessorSettings
from tests.support.cpus import cpu_with
from tests.support.reference import published_weights


def settings(precision: str, model: str) -> ProcessorSettings:
    """Return what the environment would give."""
    return ProcessorSettings.model_validate(
        {"secret_key": "k" * 32, "precision": precision, "model": model, "model_dir": "unused"}
    )


@pytest.mark.parametrize(
    ("precision", "model", "flags", "state", "text"),
    [
        pytest.param("float32", "demo", "fpu", "ok", "float32", id="as ever"),
        pytest.param("fast", "published", "fpu avx512_bf16", "ok", "fast", id="used"),
        pytest.param("fast", "published", "fpu avx2", "note", "no bfloat16 instructions", id="no such CPU"),
        pytest.param("fast", "demo", "fpu avx512_bf16", "note", "for demo", id="no such model"),
        pytest.param("fast", "nowhere.hdf5", "fpu avx512_bf16", "note", "no model", id="no model"),
    ],
)
def test_it_says_which_precision_is_used_and_why(
    precision: str,
    model: str,
    flags: str,
    state: str,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is missing where float32 is computed instead: it is a note."""
    cpu_with(flags, tmp_path, monkeypatch)
    path = str(published_weights()) if model == "published" else model
    finding = _precision(settings(precision, path))
    assert finding.state == state
    assert text in finding.text
