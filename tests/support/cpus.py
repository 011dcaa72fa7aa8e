"""CPUs that can and cannot, as Linux describes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from processor.detection import precision

needs_bfloat16 = pytest.mark.skipif(
    not precision.has_bfloat16(), reason="needs a CPU with bfloat16 instructions (AVX512-BF16 or AMX)"
)
"""No build server is bound to have one: what is skipped there was not seen there."""


def cpu_with(flags: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this machine's CPU taken for one with these instructions."""
    cpuinfo = folder / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: a CPU\nflags\t\t: {flags}\nbugs\t\t: amx_bf16\n")
    monkeypatch.setattr(precision, "CPUINFO", cpuinfo)
