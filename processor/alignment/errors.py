"""Why a scan is not aligned."""

from __future__ import annotations


class AlignmentRefusedError(Exception):
    """Raised when a volume cannot be brought onto the grid with certainty.

    Attributes:
        code: Stable, for scripts; listed in docs/errors.md.
        title: The kind of refusal in a few words.
        detail: What was expected, what was measured, what to do.
    """

    def __init__(self, *, code: str, title: str, detail: str) -> None:
        super().__init__(f"{title}: {detail}")
        self.code = code
        self.title = title
        self.detail = detail
