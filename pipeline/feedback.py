"""What readers say of results: agree, disagree, unsure. Kept with the scan's hash, beyond the scan.

    feedback/<job_id>.<scan_id>.json     the last word on one scan

It is a validation set that grows by itself: whoever has the scans finds them by their hash.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from pipeline.clock import Instant
from pipeline.files import write_whole
from pipeline.ids import Id
from pipeline.report import Report, Side

Verdict = Literal["agree", "disagree", "unsure"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
MAX_NOTE_CHARACTERS = 1000


class Feedback(BaseModel):
    """A reader's judgement of one result, and of what result.

    Attributes:
        scan_sha256: Of the scan as uploaded, hexadecimal.
        scan_id: Of the scan, in its job.
        job_id: Its job.
        at: When it was given.
        verdict: Whether the reader agrees with the result.
        note: What the reader adds.
        core_estimate: The number that was judged.
        unit: Of that number.
        side: The side that the map named, None where it named none.
        positive: Whether the map said something.
        model: The model's name.
        model_sha256: Of its weights, hexadecimal.
        software: Version of corestream.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    scan_sha256: str
    scan_id: Id
    job_id: Id
    at: Instant
    verdict: Verdict
    note: str = Field(default="", max_length=MAX_NOTE_CHARACTERS)
    core_estimate: float
    unit: str
    side: Side | None
    positive: bool
    model: str
    model_sha256: str
    software: str

    @classmethod
    def of(
        cls,
        report: Report,
        *,
        scan_sha256: str,
        job_id: str,
        scan_id: str,
        verdict: Verdict,
        note: str,
        at: datetime,
    ) -> Feedback:
        """Return the judgement of the result that a report describes."""
        return cls(
            scan_sha256=scan_sha256,
            scan_id=scan_id,
            job_id=job_id,
            at=at,
            verdict=verdict,
            note=note,
            core_estimate=report.core_estimate.value,
            unit=report.core_estimate.unit,
            side=report.saliency.side if report.saliency.positive else None,
            positive=report.saliency.positive,
            model=report.model.name,
            model_sha256=report.model.sha256,
            software=report.software.get("corestream", ""),
        )


class FeedbackFolder:
    """Keeps judgements under a folder.

    Args:
        folder: Made with the first feedback.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, feedback: Feedback) -> None:
        """Keep a judgement in the place of an earlier one of the same scan."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        content = feedback.model_dump_json(indent=1).encode()
        write_whole(self._path(feedback.job_id, feedback.scan_id), content)

    def read(self, job_id: str, scan_id: str) -> Feedback | None:
        """Return what was said of a scan's result, or None."""
        try:
            return Feedback.model_validate_json(self._path(job_id, scan_id).read_bytes())
        except FileNotFoundError:
            return None

    def all(self) -> Iterator[Feedback]:
        """Return every judgement, in no order."""
        for path in self._folder.glob("*.json"):
            yield Feedback.model_validate_json(path.read_bytes())

    def files(self, job_id: str) -> list[Path]:
        """Return the files of a job's judgements."""
        return sorted(self._folder.glob(f"{job_id}.*.json"))

    def _path(self, job_id: str, scan_id: str) -> Path:
        return self._folder / f"{job_id}.{scan_id}.json"
