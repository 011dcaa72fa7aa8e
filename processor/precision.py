"""Whether the precision that is asked for can be used: on this CPU, and with a model."""

from __future__ import annotations

from dataclasses import dataclass

from processor.detection.precision import Precision, has_bfloat16
from processor.models import Model


@dataclass(frozen=True)
class Usable:
    """What a wish for a precision comes to.

    Attributes:
        precision: The one to compute in.
        reason: Why it is not the wanted one, a sentence; empty where it is.
    """

    precision: Precision
    reason: str = ""


def usable(wanted: Precision, model: Model) -> Usable:
    """Return the wanted precision, or float32, which every CPU and every model has."""
    if wanted == "float32":
        return Usable(wanted)
    if not model.fast:
        return Usable("float32", f"How far {wanted} is from float32 is not established for {model.name}.")
    if not has_bfloat16():
        return Usable("float32", "This CPU has no bfloat16 instructions (AVX512-BF16 or AMX).")
    return Usable(wanted)
