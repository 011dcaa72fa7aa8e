"""The processor's child process: what it prints, also when it dies of it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from processor.child import Detection, DetectionChild, DetectionDiedError


@dataclass(frozen=True)
class Talking:
    """A detection that prints, from Python and past it."""

    def load(self) -> None:
        """Greet."""
        os.write(2, b"I0000 a greeting\n\xff of a library\n")
        print("and its other words", flush=True)  # noqa: T201 - what is tested

    def detect(self, _scan: Path, _out_dir: Path, _job_id: str, _scan_id: str) -> None:
        """Say why, and die."""
        sys.stderr.write("Check failed: no memory")
        sys.stderr.flush()
        os.abort()


@dataclass(frozen=True)
class DyingAtOnce(Talking):
    """A detection that no memory is left for."""

    def load(self) -> None:
        """End as the kernel ends what takes too much."""
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def running_child(detection: Detection | None = None) -> Iterator[DetectionChild]:
    """Run a child until the block ends."""
    child = DetectionChild(detection or Talking(), timeout_s=60)
    try:
        yield child
    finally:
        child.close()


async def test_what_libraries_print_becomes_records_of_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    """One record a line, bytes that are no text included; nothing is left between the log's own lines."""
    with capture_logs() as records, running_child() as child:
        await child.warm()
    printed = [record["text"] for record in records if record["event"] == "detection.printed"]
    assert printed == ["I0000 a greeting", "� of a library", "and its other words"]
    assert "greeting" not in "".join(capfd.readouterr())


async def test_the_last_words_of_a_child_that_crashes_are_kept(tmp_path: Path) -> None:
    """They say why it died."""
    with capture_logs() as records, running_child() as child, pytest.raises(DetectionDiedError):
        await child.detect(tmp_path, tmp_path, job_id="", scan_id="")
    assert any("Check failed: no memory" in record.get("text", "") for record in records)


async def test_a_child_that_dies_while_it_loads_is_told_as_one_that_dies_on_a_scan() -> None:
    """Not by an error of the library that runs processes, which is an OSError and says nothing."""
    with running_child(DyingAtOnce()) as child, pytest.raises(DetectionDiedError, match="exit status -9"):
        await child.warm()
