"""The time ledger: when what happened to each scan, from its first byte to the opening of its link.

    ledger/<UTC date>.jsonl     one line for each moment, appended by the service that saw it

It holds identifiers, instants and sizes: no name, no address, nothing of the patient. So it outlives the
scans, and whoever wants to know how long an installation takes reads months of it. Lines are not fsynced:
a power cut may cost the last seconds of measurement, never anything of a scan.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import IO, Literal, get_args

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.clock import Instant, now, to_text
from pipeline.files import append_line
from pipeline.ids import Id

log = structlog.get_logger()

Moment = Literal[
    "first_byte",
    "on_disk",
    "queued",
    "claimed",
    "aligned",
    "inferred",
    "published",
    "failed",
    "mail_accepted",
    "link_opened",
]
"""What is noted, in the order in which it happens; a scan is either `published` or `failed`."""
MOMENTS: tuple[Moment, ...] = get_args(Moment)
Span = Literal["upload", "queueing", "waiting", "processing", "mail", "opening", "total"]
SPANS: dict[Span, tuple[Moment, Moment]] = {
    "upload": ("first_byte", "on_disk"),
    "queueing": ("on_disk", "queued"),
    "waiting": ("queued", "claimed"),
    "processing": ("claimed", "published"),
    "mail": ("published", "mail_accepted"),
    "opening": ("published", "link_opened"),
    "total": ("first_byte", "published"),
}
"""What is measured from one moment to another, beside the detection's own steps."""
_OF_THE_UPLOAD: tuple[Moment, ...] = ("first_byte", "on_disk")
_SUFFIX = ".jsonl"


class Line(BaseModel):
    """One moment of one scan.

    Attributes:
        at: When.
        moment: What.
        job_id: The scan's job.
        scan_id: The scan.
        size_bytes: Of the upload, with `on_disk`.
        deliveries: Starts so far, with `claimed`.
        code: Why there is no result, with `failed`.
        timings_s: Seconds of each step of the detection, with `published`.
    """

    model_config = ConfigDict(frozen=True)

    at: Instant
    moment: Moment
    job_id: Id
    scan_id: Id
    size_bytes: int | None = None
    deliveries: int | None = None
    code: str | None = None
    timings_s: dict[str, float] | None = None


class Ledger:
    """Notes moments.

    Args:
        folder: Where the ledger lies; exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note(self, line: Line) -> None:
        """Append a line; never raises, since no scan shall fail for its measurement."""
        try:
            append_line(self._folder / f"{now().date().isoformat()}{_SUFFIX}", line)
        except OSError as error:
            log.warning("ledger.not_written", moment=line.moment, error=error.strerror)


@dataclass
class ScanTimes:
    """The moments of one scan, those of its last time in line.

    Attributes:
        job_id: Its job.
        scan_id: Its identifier.
        moments: When it was what.
        size_bytes: Of the upload.
        deliveries: How often a processor started on it.
        code: Why it has no result.
        timings_s: Seconds of each step of the detection.
    """

    job_id: str
    scan_id: str
    moments: dict[Moment, datetime] = field(default_factory=dict)
    size_bytes: int | None = None
    deliveries: int = 0
    code: str | None = None
    timings_s: dict[str, float] = field(default_factory=dict)

    @property
    def outcome(self) -> Literal["done", "failed", "open"]:
        """How it ended, if it has."""
        if "published" in self.moments:
            return "done"
        return "failed" if "failed" in self.moments else "open"

    def seconds(self, span: Span) -> float | None:
        """Return how long one of `SPANS` took; None unless both of its ends are known."""
        return seconds(self.moments, span)

    def take(self, line: Line) -> None:
        """Add a line. Of a moment that is noted twice the first counts: it was so from then on."""
        queued_anew = line.moment == "queued" and self.moments.get("queued", line.at) != line.at
        if queued_anew:  # retried by hand, or put back after a loss of Redis's data
            self.moments = {name: at for name, at in self.moments.items() if name in _OF_THE_UPLOAD}
            self.deliveries, self.code, self.timings_s = 0, None, {}
        self.moments.setdefault(line.moment, line.at)
        self.size_bytes = self.size_bytes or line.size_bytes
        self.deliveries = max(self.deliveries, line.deliveries or 0)
        self.code = self.code or line.code
        self.timings_s = self.timings_s or line.timings_s or {}


class LedgerReader:
    """Reads the ledger, and what is appended to it since; holds it in memory, about 1 kB a scan.

    Args:
        folder: Where the ledger lies; may not exist yet.
        keep: How far back; None for all of it.
    """

    def __init__(self, folder: Path, keep: timedelta | None = None) -> None:
        self._folder = folder
        self._keep = keep
        self._read_bytes: dict[Path, int] = {}
        self._scans: dict[str, ScanTimes] = {}

    def refresh(self) -> None:
        """Read what has been appended."""
        first = self._first_day()
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            if (day := _day(path)) is not None and day >= first:
                self._read_on(path)
        self._forget_before(first)

    def _first_day(self) -> date:
        return date.min if self._keep is None else (now() - self._keep).date()

    def scan(self, scan_id: str) -> ScanTimes | None:
        """Return the moments of a scan, as of the last `refresh`."""
        return self._scans.get(scan_id)

    def scans(self) -> list[ScanTimes]:
        """Return the moments of every scan, oldest first, as of the last `refresh`."""
        return list(self._scans.values())

    def _read_on(self, path: Path) -> None:
        known_bytes = self._read_bytes.get(path, 0)
        try:
            with path.open("rb") as file:
                file.seek(known_bytes)
                added = file.read()
        except FileNotFoundError:  # removed since it was listed
            return
        whole = added[: added.rfind(b"\n") + 1]  # the rest is still being written
        self._read_bytes[path] = known_bytes + len(whole)
        for text in whole.splitlines():
            try:
                line = Line.model_validate_json(text)
            except ValidationError:  # cut off by a full disk, or of a later version
                continue
            self._scans.setdefault(line.scan_id, ScanTimes(line.job_id, line.scan_id)).take(line)

    def _forget_before(self, first: date) -> None:
        over = [path for path in self._read_bytes if (day := _day(path)) is not None and day < first]
        for path in over:
            del self._read_bytes[path]
        if over:
            self._scans = {
                scan_id: scan
                for scan_id, scan in self._scans.items()
                if max(scan.moments.values()).date() >= first
            }


def _day(path: Path) -> date | None:
    """Return the day whose moments a file holds; None where its name says that it is none of the ledger's."""
    try:
        return date.fromisoformat(path.stem)
    except ValueError:
        return None


def write_csv(scans: Iterable[ScanTimes], file: IO[str]) -> None:
    """Write a row for each scan: identifiers, outcome, instants (RFC 3339, UTC), seconds of each step."""
    scans = list(scans)
    steps = list(dict.fromkeys(step for scan in scans for step in scan.timings_s))
    about = ["scan_id", "job_id", "size_bytes", "deliveries", "outcome", "code"]
    writer = csv.DictWriter(file, [*about, *MOMENTS, *(f"{step}_s" for step in steps)], lineterminator="\n")
    writer.writeheader()
    for scan in scans:
        row: dict[str, object] = {name: getattr(scan, name) for name in about}
        row |= texts(scan.moments)
        row |= {f"{step}_s": seconds for step, seconds in scan.timings_s.items()}
        writer.writerow(row)


def seconds(moments: Mapping[Moment, datetime], span: Span) -> float | None:
    """Return how long one of `SPANS` took; None unless both of its ends are known."""
    start, end = SPANS[span]
    if start in moments and end in moments:
        return (moments[end] - moments[start]).total_seconds()
    return None


def texts(moments: Mapping[Moment, datetime]) -> dict[str, str]:
    """Return moments as texts, in the order of `MOMENTS`."""
    return {name: to_text(moments[name]) for name in MOMENTS if name in moments}
