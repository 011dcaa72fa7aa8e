"""What is done with a delivery of the stream of scans: the detection is run, its end recorded and told."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from pipeline.clock import now, of_entry
from pipeline.errors import Failure, ScanRefusedError
from pipeline.events import ScanFailed, ScanProcessed, ScanUploaded, UnknownEventError, parse_event
from pipeline.files import write_whole
from pipeline.jobs import Jobs
from pipeline.ledger import MOMENTS, Ledger, LedgerReader, Line, Moment, Span, seconds
from pipeline.metrics import ScanMetrics
from pipeline.report import Report
from pipeline.storage import Storage
from pipeline.streams import Delivery, Effect, Reason
from processor.child import DetectionChild

log = structlog.get_logger()

_ALIGNMENT_STEP = "alignment"
"""Of a report's timings."""
_MEASURED_HERE: tuple[Span, ...] = ("upload", "queueing", "processing", "total")


class ScanHandler:
    """What is done with a delivery of the stream of scans.

    Args:
        jobs: State of jobs.
        storage: Where scans and results lie.
        child: The process that runs the network.
        metrics: Of what scans take.
        keep_originals: Whether a scan stays as it was accepted once its result is published. It may show
            the whole face; the one in the result is cropped to the network's grid.
        retention: How old a scan can be.
    """

    def __init__(
        self,
        jobs: Jobs,
        storage: Storage,
        child: DetectionChild,
        metrics: ScanMetrics | None = None,
        *,
        keep_originals: bool = False,
        retention: timedelta = timedelta(days=1),
    ) -> None:
        self._jobs = jobs
        self._storage = storage
        self._child = child
        self._ledger = Ledger(storage.ledger)
        self._noted = LedgerReader(storage.ledger, retention + timedelta(days=1))
        self._metrics = metrics or ScanMetrics()
        self._keep_originals = keep_originals

    async def process(self, delivery: Delivery) -> Effect:
        """Run the detection of one scan and return what its end changes in Redis.

        Raises:
            UnknownEventError: The entry is not a `scan.uploaded`.
            ScanRefusedError: The scan cannot be processed.
            TransientError: The detection's process died or overran its time.
        """
        event = _scan_uploaded(delivery)
        scan = self._storage.scan_path(event.job_id, event.scan_id)
        result = self._storage.result_dir(event.job_id, event.scan_id)
        if not scan.exists() and not result.exists():  # deleted, on request or after its retention time
            log.info("scan.gone", job_id=event.job_id, scan_id=event.scan_id)
            return Effect.none()
        if failure := self._storage.read_failure(event.job_id, event.scan_id):  # Redis has forgotten it
            return self._failed(event, failure)
        await self._jobs.scan_started(event.job_id, event.scan_id, delivery.count)
        queued_at, started_at = of_entry(delivery.entry_id), now()
        self._note(event, "queued", queued_at)
        self._note(event, "claimed", started_at, deliveries=delivery.count)
        if delivery.count == 1:
            self._metrics.spent({"waiting": (started_at - queued_at).total_seconds()})
        if not result.exists():  # else a former delivery died between publication and acknowledgement
            try:
                with self._storage.staged_result(event.job_id, event.scan_id) as stage:
                    await self._child.detect(scan, stage, job_id=event.job_id, scan_id=event.scan_id)
                    await asyncio.to_thread(self._write_times, stage, event, queued_at, started_at)
            except Exception:
                if scan.exists():
                    raise
                if not result.exists():  # deleted meanwhile; else another worker has published
                    log.info("scan.gone", job_id=event.job_id, scan_id=event.scan_id)
                    return Effect.none()
        if failure := self._storage.read_failure(event.job_id, event.scan_id):  # given up meanwhile
            return self._failed(event, failure)
        if not self._keep_originals:
            scan.unlink(missing_ok=True)
        self._note_result(event)
        return self._done(event)

    async def give_up(self, delivery: Delivery, reason: Reason) -> Effect:
        """Record why a scan has no result and return what that changes in Redis."""
        try:
            event = _scan_uploaded(delivery)
        except UnknownEventError:
            return Effect.none()  # nothing of ours: the dead letter itself says all there is to say
        failure = _failure(reason, event.scan_id)
        self._storage.write_failure(event.job_id, event.scan_id, failure)
        if self._storage.result_dir(event.job_id, event.scan_id).exists():
            return self._done(event)  # a former delivery had published it, and was paused or killed then
        self._note(event, "failed", now(), code=failure.code)
        self._metrics.ended(failure.code)
        return self._failed(event, failure)

    def _done(self, event: ScanUploaded) -> Effect:
        path = self._storage.relative(self._storage.result_dir(event.job_id, event.scan_id))
        return self._jobs.scan_ended(ScanProcessed(job_id=event.job_id, scan_id=event.scan_id, path=path))

    def _failed(self, event: ScanUploaded, failure: Failure) -> Effect:
        return self._jobs.scan_ended(
            ScanFailed(job_id=event.job_id, scan_id=event.scan_id, path=event.path, **failure.model_dump())
        )

    def _write_times(
        self, stage: Path, event: ScanUploaded, queued_at: datetime, started_at: datetime
    ) -> None:
        """Write into a report, as the last thing before it is published, when its scan was what."""
        self._noted.refresh()
        noted = self._noted.scan(event.scan_id)
        path = stage / "report.json"
        report = Report.model_validate_json(path.read_bytes())
        times: dict[Moment, datetime] = {"queued": queued_at, "claimed": started_at}
        times |= noted.moments if noted else {}  # the ledger has its first start, this may be a later one
        times |= {**_steps_ended(report, started_at), "published": now()}
        in_order = {name: times[name] for name in MOMENTS if name in times}
        report = report.model_copy(update={"times": in_order})
        write_whole(path, report.model_dump_json(by_alias=True, indent=1).encode())

    def _note_result(self, event: ScanUploaded) -> None:
        """Note what the report says of the detection, whichever delivery published it."""
        report = self._storage.read_report(event.job_id, event.scan_id)
        if report is None or "published" not in report.times:  # deleted meanwhile, or of an earlier version
            return
        for moment in ("aligned", "inferred"):
            if moment in report.times:
                self._note(event, moment, report.times[moment])
        self._note(event, "published", report.times["published"], timings_s=report.timings_s)
        self._metrics.spent({span: seconds(report.times, span) for span in _MEASURED_HERE})
        self._metrics.spent(report.timings_s)
        self._metrics.ended("done")

    def _note(self, event: ScanUploaded, moment: Moment, at: datetime, **details: Any) -> None:  # noqa: ANN401 - fields of `Line`
        self._ledger.note(Line(at=at, moment=moment, job_id=event.job_id, scan_id=event.scan_id, **details))


def _scan_uploaded(delivery: Delivery) -> ScanUploaded:
    event = parse_event(delivery.fields)
    if not isinstance(event, ScanUploaded):
        raise UnknownEventError(f"Expected scan.uploaded in the stream of scans, received {event.type}.")
    return event


def _steps_ended(report: Report, started_at: datetime) -> dict[Moment, datetime]:
    """Return when the detection was how far: its steps follow one another from the start."""
    ended: dict[Moment, datetime] = {}
    at = started_at
    for step, took_s in report.timings_s.items():
        at += timedelta(seconds=took_s)
        if step == _ALIGNMENT_STEP:
            ended["aligned"] = at
    return {**ended, "inferred": at}


def _failure(reason: Reason, scan_id: str) -> Failure:
    if isinstance(reason.cause, ScanRefusedError):
        return reason.cause.failure
    return Failure(
        code="detection-failed",
        title="The detection failed",
        detail=(
            f"The detection was started {reason.starts} times on this scan and never came to an end. "
            "The scan is kept until its retention time is over. Whoever runs this service finds the cause "
            f"in its log under scan {scan_id}. Other scans are not affected."
        ),
    )
