"""The books at the end, kept from outside: HTTP, files, mails received, Redis."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from PIL import Image

from ingest import idempotency
from pipeline.keys import NOTIFIERS, PROCESSORS
from pipeline.report import Report
from pipeline.storage import JobRecord, ScanRecord
from tests.support.chaos.clients import Submission, scan_file
from tests.support.chaos.faults import Faults
from tests.support.chaos.mail_server import Taken
from tests.support.chaos.system import KEYS, SECRET, System

RESULT_FILES = {"aligned.nii.gz", "saliency.nii.gz", "saliency_fixed.nii.gz", "summary.png", "report.json"}
REFUSED_BY_DETECTION = "not-a-head"
GIVEN_UP = "detection-failed"
KILL_WINDOW_S = 2.0
"""Around the mail server's 250: a notifier killed then may not have recorded it. Also before: a busy server
reads what its sender had sent when that one is dead already."""
BUGS = ("http.failed", "delivery.crashed", "delivery.not_settled", "delivery.on_dead_failed", "sweep.failed")
"""Lines of logs that say that a service met an error that it knows nothing of."""
_VIEWED = 20
"""Results that are fetched from the viewer too."""


@dataclass
class Ledger:
    """The books.

    Attributes:
        submissions: Jobs that clients meant to submit.
        jobs: Jobs that were accepted.
        accepted: Scans that were.
        finished: With a result.
        failed: Refused by the detection.
        dead: Given up after `MAX_DELIVERIES` starts.
        lost: Accepted, and without an outcome.
        doubled: Results, ends of jobs and mails that came more often than once without a cause outside.
        mails_due: Jobs that wanted one.
        mails_refused: Of these, refused by the mail server for good.
        mails_repeated: Mails that came again because SMTP itself could not tell; under the same Message-ID.
        starts: Of the stand-in.
        starts_twice: Of these, while another living process was still at work on the same scan.
        violations: What must not be, in words.
    """

    submissions: int = 0
    jobs: int = 0
    accepted: int = 0
    finished: int = 0
    failed: int = 0
    dead: int = 0
    lost: int = 0
    doubled: int = 0
    mails_due: int = 0
    mails_refused: int = 0
    mails_repeated: int = 0
    starts: int = 0
    starts_twice: int = 0
    violations: list[str] = field(default_factory=list)


class Auditor:
    """Writes the books of a system that has come to rest.

    Args:
        system: That was shot at.
        submissions: What clients sent and were told.
        faults: What was done.
    """

    def __init__(self, system: System, submissions: list[Submission], faults: Faults) -> None:
        self._system = system
        self._submissions = submissions
        self._faults = faults
        self._whole: set[str] = set()
        self.ledger = Ledger(
            submissions=len(submissions),
            starts=sum(map(len, system.starts.values())),
            starts_twice=system.twice,
        )

    async def audit(self) -> Ledger:
        """Return the books."""
        records = {record.job_id: record for record in self._system.records()}
        self.ledger.jobs = len(records)
        self._check_intake(records)
        for number, record in enumerate(records.values()):
            await self._check_job(record, look=number < _VIEWED)
        self._check_flushed()
        await self._check_redis(records)
        self._check_logs()
        return self.ledger

    def _wrong(self, text: str) -> None:
        self.ledger.violations.append(text)

    # -- intake -----------------------------------------------------------------------------------------

    def _check_intake(self, records: dict[str, JobRecord]) -> None:
        known = set()
        for submission in self._submissions:
            expected = idempotency.job_id(submission.key, SECRET)
            known.add(expected)
            if submission.refusal:
                self._wrong(f"submission {expected}: refused with {submission.refusal}")
            if submission.job_ids != {expected}:
                self._wrong(f"submission {expected}: answered with jobs {submission.job_ids}")
            record = records.get(expected)
            if record is None:
                self.ledger.lost += len(submission.kinds)
                self._wrong(f"job {expected}: acknowledged, and not there")
                continue
            sent = [hashlib.sha256(scan_file(kind)).hexdigest() for kind in submission.kinds]
            if [scan.sha256 for scan in record.scans] != sent or record.email != submission.email:
                self._wrong(f"job {expected}: is not what was submitted")
        for job_id in records.keys() - known:
            self._wrong(f"job {job_id}: nobody submitted it")

    # -- one job ----------------------------------------------------------------------------------------

    async def _check_job(self, record: JobRecord, *, look: bool) -> None:
        document = await self._system.job(record)
        if document.get("state") != "finished":
            self._wrong(f"job {record.job_id}: never finished: {document}")
        for scan, told in zip(record.scans, document.get("scans", []), strict=True):
            self.ledger.accepted += 1
            self._check_scan(record, scan, told)
            if look and told["state"] == "done":
                await self._look(told["files"]["report"])
        await self._check_timeline(record)
        self._check_mail(record, str(document.get("mail")))

    def _check_scan(self, record: JobRecord, scan: ScanRecord, told: dict[str, Any]) -> None:
        result = self._system.storage.result_dir(record.job_id, scan.scan_id)
        failure = self._system.storage.read_failure(record.job_id, scan.scan_id)
        if result.exists() and told["state"] == "done":
            self.ledger.finished += 1
            for complaint in self._complaints(record, scan, result):
                self._wrong(f"scan {scan.scan_id}: {complaint}")
        elif failure is not None and told["state"] == "failed":
            given_up = failure.code == GIVEN_UP
            self.ledger.dead += given_up
            self.ledger.failed += not given_up
            if not given_up and failure.code != REFUSED_BY_DETECTION:
                self._wrong(f"scan {scan.scan_id}: failed with {failure.code}")
        else:
            self.ledger.lost += 1
            self._wrong(f"scan {scan.scan_id} of job {record.job_id}: no outcome, told {told['state']}")

    def _complaints(self, record: JobRecord, scan: ScanRecord, result: Path) -> Iterator[str]:
        files = {path.name: path.read_bytes() for path in result.iterdir()}
        if set(files) != RESULT_FILES:
            yield f"result of {sorted(files)}"
            return
        report = Report.model_validate_json(files["report.json"])
        accepted = self._system.storage.scan_path(record.job_id, scan.scan_id).read_bytes()
        if (report.job_id, report.scan_id) != (record.job_id, scan.scan_id):
            yield "another scan's report"
        if report.input.sha256 != hashlib.sha256(accepted).hexdigest() or files["aligned.nii.gz"] != accepted:
            yield "the result of another volume"
        for name in RESULT_FILES - {"report.json"}:
            digest = hashlib.sha256(files[name]).hexdigest()
            if digest not in self._whole:  # equal bytes need be opened once
                _open_whole(result / name)
                self._whole.add(digest)

    async def _look(self, url: str) -> None:
        async with self._system.http.get(url) as answer:
            if answer.status != 200:
                self._wrong(f"the viewer answers {answer.status} for a report")

    async def _check_timeline(self, record: JobRecord) -> None:
        entries: Any = await self._system.redis.xrange(KEYS.timeline(record.job_id))
        notes = [(fields["scan_id"], fields["what"]) for _, fields in entries]
        self._count_ends(notes)
        for scan in record.scans:
            if not any(note in notes for note in ((scan.scan_id, "done"), (scan.scan_id, "failed"))):
                self._wrong(f"scan {scan.scan_id}: its end is not in the timeline: {notes}")
        if ("", "finished") not in notes:
            self._wrong(f"job {record.job_id}: its end is not in the timeline: {notes}")

    def _check_flushed(self) -> None:
        for notes in self._faults.flushed:
            self._count_ends(notes)

    def _count_ends(self, notes: list[tuple[str, str]]) -> None:
        ends = Counter(scan_id for scan_id, what in notes if what in {"done", "failed", "finished"})
        for scan_id, count in ends.items():
            if count > 1:
                self.ledger.doubled += 1
                self._wrong(f"scan {scan_id or '(job)'}: ended {count} times: {notes}")

    # -- mail -------------------------------------------------------------------------------------------

    def _check_mail(self, record: JobRecord, told: str) -> None:
        smtp = self._system.smtp
        receipt = self._system.storage.read_mail_receipt(record.job_id)
        if record.email is None:
            if told != "none" or receipt is not None:
                self._wrong(f"job {record.job_id}: wanted no mail, mail is {told}")
            return
        self.ledger.mails_due += 1
        if receipt is None or told != receipt.state:
            self._wrong(f"job {record.job_id}: mail is {told}, receipt {receipt}")
            return
        taken = [mail for mail in smtp.taken if mail.message_id == receipt.message_id]
        if receipt.state == "failed":
            self.ledger.mails_refused += 1
            if receipt.message_id not in smtp.refused:
                self._wrong(f"job {record.job_id}: its mail is given up, though nobody refused it")
            taken = [mail for mail in taken if mail.said]
        elif not any(mail.said for mail in taken):
            self._wrong(f"job {record.job_id}: its mail is called sent, and was not")
        for mail, _ in pairwise(taken):
            if self._unknowable(mail):
                self.ledger.mails_repeated += 1
            else:
                self.ledger.doubled += 1
                self._wrong(f"job {record.job_id}: its mail came again without a cause, after {mail}")

    def _unknowable(self, mail: Taken) -> bool:
        """Return whether nobody could know that this mail had been taken."""
        killed = self._faults.notifier_killed_at
        return not mail.said or any(abs(at - mail.at) < KILL_WINDOW_S for at in killed)

    # -- Redis ------------------------------------------------------------------------------------------

    async def _check_redis(self, records: dict[str, JobRecord]) -> None:
        redis = self._system.redis
        for stream, group in ((KEYS.scans, PROCESSORS), (KEYS.results, NOTIFIERS)):
            length = await redis.xlen(stream)
            pending = (await redis.xpending(stream, group))["pending"]
            if length or pending:
                self._wrong(f"{stream}: {length} entries and {pending} pending at rest")
        letters: Any = await redis.xrange(KEYS.dead)
        for _, fields in letters:
            if fields.get("job_id") not in records:
                self._wrong(f"a dead letter of an unknown job: {fields}")

    # -- logs -------------------------------------------------------------------------------------------

    def _check_logs(self) -> None:
        for program in self._system.programs.values():
            for line in program.log.read_text(errors="replace").splitlines():
                if any(f'"event": "{bug}"' in line for bug in BUGS):
                    self._wrong(f"{program.name} met what it did not expect: {line[:2000]}")


def _open_whole(path: Path) -> None:
    """Read every voxel or pixel; raises where something is missing."""
    if path.suffix == ".png":
        with Image.open(path) as picture:
            picture.load()
    else:
        np.asarray(cast("Any", nib).load(path).dataobj)
