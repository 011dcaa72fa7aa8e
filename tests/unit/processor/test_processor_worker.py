"""How the processor starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from processor import worker
from tests.support.cpus import cpu_with


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that is asked for the fast precision, and that nobody connects to anything."""
    for name, value in {"SECRET_KEY": "k" * 32, "PRECISION": "fast", "LOG_FORMAT": "json"}.items():
        monkeypatch.setenv(f"CORESTREAM_{name}", value)
    monkeypatch.setattr(worker, "run_worker", lambda _main: None)


@pytest.mark.parametrize(("flags", "warned"), [("fpu avx2", ["precision.not_usable"]), ("fpu amx_bf16", [])])
def test_a_precision_that_the_cpu_has_not_is_warned_of(
    flags: str,
    warned: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Once, as it starts; it goes on in float32."""
    cpu_with(flags, tmp_path, monkeypatch)
    worker.main()
    records = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [record["event"] for record in records if record["level"] == "warning"] == warned


def test_a_precision_that_there_is_not_is_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence names the variable, its value and what it may be."""
    monkeypatch.setenv("CORESTREAM_PRECISION", "float16")
    with pytest.raises(SystemExit):
        worker.main()
    said = capsys.readouterr().err
    assert "CORESTREAM_PRECISION is 'float16': Input should be 'float32' or 'fast'" in said
