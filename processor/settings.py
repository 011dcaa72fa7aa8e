"""Settings of the processor."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from pipeline.report import Precision
from pipeline.settings import WorkerSettings


class ProcessorSettings(WorkerSettings):
    """What the processor needs beside what the services share."""

    model: str = "demo"
    """A name (`demo`, `giancardo2020`) or the path of a weights file."""
    model_dir: Path = Path("models")
    """Where `corestream model fetch` keeps weights."""
    precision: Precision = "float32"
    """`fast` takes less CPU time and is a little off; where CPU or model cannot, float32 is used."""
    scan_timeout_s: float = Field(default=300, gt=0)
    """A detection that takes longer is ended and counts as one delivery; a usual one takes seconds."""
    grace_s: float = Field(default=30, ge=0)
    """How long SIGTERM lets a running detection go on before its scan is handed back."""
    keep_originals: bool = False
    """Whether scans stay as they were accepted once their results are out; they may show whole faces."""
