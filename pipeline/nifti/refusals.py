"""How the refusals of a header are worded."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.errors import ScanRefusedError


def nifti_invalid(code: str, title: str, expected: str, received: str, advice: str) -> ScanRefusedError:
    """Return the refusal of a file that is what it should be, but not as it should be."""
    return ScanRefusedError(
        code=code, title=title, detail=f"Expected {expected}, received {received}. {advice}"
    )


def times(lengths: Iterable[int]) -> str:
    """Write the lengths of axes."""
    return " × ".join(map(str, lengths))  # noqa: RUF001 - the multiplication sign is meant
