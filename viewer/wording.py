"""What the pages say of a result: what they share with mails, and lists of facts as labels and values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from pipeline.ledger import Moment
from pipeline.report import Report, Saliency
from pipeline.wording import FILES, alignment, error, finding, number, picture

__all__ = [
    "FILES",
    "alignment",
    "error",
    "facts",
    "finding",
    "join",
    "key_facts",
    "number",
    "picture",
    "raw_maximum",
    "size",
    "steps",
]

_KILOBYTE = 1000

_MOMENTS: dict[Moment, str] = {
    "first_byte": "First byte received",
    "on_disk": "On disk",
    "queued": "Queued",
    "claimed": "Claimed by a worker",
    "aligned": "Aligned",
    "inferred": "Inferred",
    "published": "Published",
    "failed": "Failed",
    "mail_accepted": "Mail accepted by the mail server",
    "link_opened": "Link first opened",
}


def join(values: Iterable[float], digits: int = 1, separator: str = " × ") -> str:  # noqa: RUF001 (times sign)
    """Write several numbers in a row."""
    return separator.join(number(value, digits) for value in values)


def size(size_bytes: int) -> str:
    """Write the size of a file in the unit that suits it, decimal as download lists have it."""
    if size_bytes < _KILOBYTE:
        return f"{size_bytes} B"
    if size_bytes < _KILOBYTE**2:
        return f"{size_bytes / _KILOBYTE:.0f} kB"
    return f"{size_bytes / _KILOBYTE**2:.1f} MB"


class Step(NamedTuple):
    """Something that happened to a scan."""

    name: str
    at: datetime
    after: str
    """How long after what happened before."""


def steps(moments: Mapping[Moment, datetime]) -> list[Step]:
    """List what happened to a scan.

    Args:
        moments: In the order in which they happened.
    """
    rows, before = [], None
    for name, at in moments.items():
        rows.append(
            Step(_MOMENTS[name], at, f"{number((at - before).total_seconds(), 3)} s" if before else "")
        )
        before = at
    return rows


def raw_maximum(saliency: Saliency) -> str:
    """Write a map's largest raw value so that one scan's can be compared with another's."""
    if saliency.floor:
        return f"{number(saliency.raw_max / saliency.floor)} × floor"  # noqa: RUF001 (times sign)
    return f"{saliency.raw_max:.1e}".replace("-", "−")  # noqa: RUF001 (the minus sign is meant)


def key_facts(report: Report) -> list[tuple[str, str]]:
    """List what one looks at first, as label and value."""
    return [
        ("Model", f"{report.model.name}, {report.model.sha256[:12]}"),
        ("Voxels", f"{join(report.input.voxel_size_mm, 2)} mm"),
        ("Took", f"{number(sum(report.timings_s.values()))} s"),
    ]


def facts(report: Report) -> list[tuple[str, str]]:
    """List what one needs to trust or reject a result, as label and value."""
    volume, aligned, saliency = report.input, report.alignment, report.saliency
    rows = [
        ("Model", report.model.name),
        ("Trained on", report.model.trained_on),
        ("Weights SHA-256", report.model.sha256),
        ("Precision", report.precision),
        ("Scan", f"{' × '.join(map(str, volume.shape))} voxels of {join(volume.voxel_size_mm, 2)} mm"),  # noqa: RUF001
        ("Orientation", volume.orientation),
        ("Intensities", f"{join(volume.hu_range, 0, ' to ')} HU"),
        ("Scan SHA-256", volume.sha256),
        ("Alignment", aligned.method if aligned.applied else "none: of the grid's shape, taken as aligned"),
        ("Largest raw value", f"{saliency.raw_max:.3g}"),
        ("Floor", "none established" if saliency.floor is None else f"{saliency.floor:.3g}"),
        ("Scale of the map", saliency.scale),
    ]
    if saliency.scale_fixed is not None:
        rows.append(("Scale of the fixed map", saliency.scale_fixed))
    if saliency.positive and saliency.peak_mm is not None:
        rows.append(("Strongest at (x, y, z)", f"{join(saliency.peak_mm, 1, ', ')} mm"))
    rows += [
        (f"Alignment, {name.replace('_', ' ')}", f"{v:.3g}") for name, v in (aligned.quality or {}).items()
    ]
    rows.append(("Time", ", ".join(f"{name} {number(s, 2)} s" for name, s in report.timings_s.items())))
    rows.append(("Software", ", ".join(f"{name} {version}" for name, version in report.software.items())))
    return rows
