"""What the monitor page writes: numbers in their units, and what its forms have done."""

from __future__ import annotations

_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 24 * _HOUR_S
_KILO = 1000
_TENTH_BELOW_S = 10

DONE = {
    "retried": "It is back in line.",
    "all-retried": "All are back in line.",
    "some-retried": "Not all are back in line. Retry one that is left to read why.",
    "dropped": "It is deleted.",
}
"""What a form says that it has done, by the word that its answer carries in the address."""


def span(seconds: float) -> str:
    """Write a time in its two largest units, `0.42 s` to `2 d 3 h`."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < _TENTH_BELOW_S:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    units = ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min"), (1, "s"))
    first = next(n for n, (unit_s, _) in enumerate(units) if whole >= unit_s)
    parts = []
    for unit_s, name in units[first : first + 2]:
        parts.append(f"{whole // unit_s} {name}")
        whole %= unit_s
    return " ".join(part for part in parts if not part.startswith("0 "))


def size(size_bytes: float) -> str:
    """Write a size with its decimal unit, `3.4 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size_bytes < _KILO:
            return f"{size_bytes:.0f} {unit}" if unit == "bytes" else f"{size_bytes:.1f} {unit}"
        size_bytes /= _KILO
    return f"{size_bytes:.1f} TB"


def short(identifier: str) -> str:
    """Return enough of an identifier to tell it from others."""
    return identifier[:8]
