"""How a job stands: what Redis knows, over what its files say."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from ingest.documents import JobDocument, ScanDocument
from pipeline.clock import of_entry
from pipeline.errors import Failure
from pipeline.jobs import Jobs, JobState, MailState, ScanState
from pipeline.ledger import LedgerReader, texts
from pipeline.links import Links
from pipeline.report import Report
from pipeline.settings import PipelineSettings
from pipeline.storage import JobRecord, ResultFile, ScanRecord, Storage
from pipeline.streams import RedisError

log = structlog.get_logger()

FILES: dict[str, ResultFile] = {
    "saliency": "saliency.nii.gz",
    "saliency_fixed": "saliency_fixed.nii.gz",
    "saliency_native": "saliency_native.nii.gz",
    "summary": "summary.png",
    "report": "report.json",
    "aligned": "aligned.nii.gz",
    "alignment": "alignment.png",
}
"""The files of a result by the kinds under which a job's document has their addresses."""

_WAITING = ScanState("waiting")


@dataclass(frozen=True)
class Status:
    """Tells how jobs stand, also while Redis is away.

    Attributes:
        settings: Of this service.
        storage: Where jobs lie.
        jobs: State of jobs.
        ledger: When what happened.
    """

    settings: PipelineSettings
    storage: Storage
    jobs: Jobs
    ledger: LedgerReader

    async def read(self, record: JobRecord) -> JobDocument:
        """Return how a job stands."""
        links = self.settings.links(record)
        known = await self._known(record.job_id)
        self.ledger.refresh()
        scans = [
            await self._scan(record, scan, known.scans.get(scan.scan_id) if known else None, links)
            for scan in record.scans
        ]
        ended = all(scan.state in {"done", "failed"} for scan in scans)
        return JobDocument(
            job_id=record.job_id,
            state=known.state if known else "finished" if ended else "open",
            created_at=record.created_at,
            expires_at=record.expires_at,
            result_url=links.result,
            mail=known.mail if known else self._mail(record),
            scans=tuple(scans),
        )

    async def _known(self, job_id: str) -> JobState | None:
        try:
            return await self.jobs.read(job_id)
        except RedisError as error:
            log.warning("status.redis_away", job_id=job_id, error=str(error))
            return None

    async def _scan(
        self, record: JobRecord, scan: ScanRecord, known: ScanState | None, links: Links
    ) -> ScanDocument:
        report = self.storage.read_report(record.job_id, scan.scan_id)
        failure = self.storage.read_failure(record.job_id, scan.scan_id)
        state = known or _from_files(report, failure)
        if state.state != "done":
            report = None
        if state.state != "failed":
            failure = None
        return ScanDocument(
            scan_id=scan.scan_id,
            state=state.state,
            place_in_line=await self._place(state),
            deliveries=state.deliveries,
            removed=scan.removed,
            report=report,
            files=self._files(record.job_id, scan.scan_id, links) if report else {},
            viewer_url=links.papaya(scan.scan_id),
            error=failure,
            times=self._times(scan.scan_id, state),
        )

    def _times(self, scan_id: str, state: ScanState) -> dict[str, str]:
        noted = self.ledger.scan(scan_id)
        moments = dict(noted.moments) if noted else {}
        if state.entry_id:  # the ledger hears of it with the claim
            moments["queued"] = of_entry(state.entry_id)
        return texts(moments)

    async def _place(self, state: ScanState) -> int | None:
        if state.state != "waiting" or state.number is None:
            return None
        try:
            return await self.jobs.place_in_line(state.number)
        except RedisError:  # away, or flushed since its job was read: its place is not known
            return None

    def _files(self, job_id: str, scan_id: str, links: Links) -> dict[str, str]:
        folder = self.storage.result_dir(job_id, scan_id)
        return {kind: links.file(scan_id, name) for kind, name in FILES.items() if (folder / name).is_file()}

    def _mail(self, record: JobRecord) -> MailState:
        receipt = self.storage.read_mail_receipt(record.job_id)
        return receipt.state if receipt else "pending" if record.email else "none"


def is_over(job: JobDocument) -> bool:
    """Return whether nothing more will happen to a job, unless somebody retries it."""
    return job.state == "finished" and job.mail != "pending"


def _from_files(report: Report | None, failure: Failure | None) -> ScanState:
    if report:
        return ScanState("done")
    return ScanState("failed") if failure else _WAITING
