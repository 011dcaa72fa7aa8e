"""The arithmetic of the network: float32, or `fast` on CPUs that have it.

`fast` computes the second and third convolution of the branch's first block in bfloat16, four fifths of all
operations: operands of 8 significant bits, products summed in float32, the layer's result rounded again. The
scan itself, whatever follows that block, the difference of the hemispheres and the gradient stay in float32.
Why these two and no others: docs/decisions/0007-fast-precision.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

Precision: TypeAlias = Literal["float32", "fast"]

IN_BFLOAT16: Mapping[Precision, Collection[int]] = {"float32": (), "fast": (1, 2)}
"""Convolutions of the branch that are computed in bfloat16, counted from 0, three to a block."""

CPUINFO = Path("/proc/cpuinfo")
_FLAGS = {"avx512_bf16", "amx_bf16"}
"""As Linux names the instructions that multiply in bfloat16 and add in float32."""


def has_bfloat16() -> bool:
    """Return whether this machine's CPU computes in bfloat16.

    Without these instructions TensorFlow takes some 25 times the CPU time of float32, and sums in bfloat16. A
    system that does not list its CPU's instructions as Linux does counts as one without.
    """
    try:
        lines = CPUINFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not _FLAGS.isdisjoint(flags.partition(":")[2].split())
