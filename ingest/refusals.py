"""How refusals are worded."""

from __future__ import annotations

from pipeline.web.problems import ProblemError


def file_invalid(code: str, title: str, expected: str, received: str, advice: str) -> ProblemError:
    """Return the refusal of a file that is what it should be, but not as it should be."""
    return ProblemError(
        status=422, code=code, title=title, detail=f"Expected {expected}, received {received}. {advice}"
    )


def inflated_too_large(limit_bytes: int) -> ProblemError:
    """Return the refusal of a scan beyond the limit, however small it was when compressed."""
    return ProblemError(
        status=413,
        code="inflated-too-large",
        title="Scan too large",
        detail=f"Expected a scan of at most {limit_bytes:,} bytes when uncompressed, "
        "received a longer one. Crop or resample it, "
        "or ask whoever runs this service to raise its limit.",
    )


def scan_incomplete(expected: str, received: str) -> ProblemError:
    """Return the refusal of a file that ends too soon."""
    return file_invalid(
        "scan-incomplete",
        "Scan incomplete",
        expected,
        received,
        "The file was cut off on its way, or its header is wrong: copy or export the scan again and submit "
        "that.",
    )
