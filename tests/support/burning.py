"""A detection that keeps a core busy and holds the interpreter, as the worst of networks might."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PID = "pid"
"""Written into the result's folder at the start: who runs it."""


@dataclass(frozen=True)
class Burning:
    """Stands in for the network.

    Attributes:
        go: It takes until this file is there.
    """

    go: Path

    def load(self) -> None:
        """Nothing is to be loaded."""

    def detect(self, _scan: Path, out_dir: Path, _job_id: str, _scan_id: str) -> None:
        """Compute nothing, at full speed."""
        (out_dir / PID).write_text(str(os.getpid()))
        while not self.go.exists():
            sum(range(100_000))
