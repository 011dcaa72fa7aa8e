"""How the processor starts."""

from __future__ import annotations

import json

import pytest

from processor import worker
from processor.child import DetectionDiedError


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that is connected to nothing."""
    for name, value in {"SECRET_KEY": "k" * 32, "LOG_FORMAT": "json"}.items():
        monkeypatch.setenv(f"CORESTREAM_{name}", value)
    monkeypatch.setattr(worker, "run_worker", lambda _main: None)


@pytest.mark.parametrize(
    ("precision", "warned"), [("fast", [("precision.not_usable", "fast")]), ("float32", [])]
)
def test_a_precision_that_cannot_be_used_is_warned_of(
    precision: str,
    warned: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Once, as it starts with the demonstration model; it goes on in float32."""
    monkeypatch.setenv("CORESTREAM_PRECISION", precision)
    worker.main()
    records = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    warnings = [record for record in records if record["level"] == "warning"]
    assert [(record["event"], record["wanted"]) for record in warnings] == warned


def test_a_precision_that_there_is_not_is_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence names the variable, its value and what it may be."""
    monkeypatch.setenv("CORESTREAM_PRECISION", "float16")
    with pytest.raises(SystemExit):
        worker.main()
    said = capsys.readouterr().err
    assert "CORESTREAM_PRECISION is 'float16': Input should be 'float32' or 'fast'" in said


def test_a_network_that_cannot_be_loaded_for_lack_of_memory_ends_the_service_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it needs, what came, what to do; no traceback."""

    def died(_main: object) -> None:
        raise DetectionDiedError("The detection's process died (exit status -9).")

    monkeypatch.setattr(worker, "run_worker", died)
    with pytest.raises(SystemExit) as caught:
        worker.main()
    for words in ("1.2 GB of memory", "exit status -9", "give this service more"):
        assert words in str(caught.value)
