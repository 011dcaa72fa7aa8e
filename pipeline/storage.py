"""What lies where under DATA_DIR, and how it gets there whole.

    incoming/<upload_id>.part             not yet accepted; <id>.<n>.part for those of one request
    incoming/<upload_id>.json             what the sender of a resumable upload said of it
    incoming/<id>.<n>.dicom/              a DICOM series on its way to a NIfTI volume
    incoming/<id>.lock                    somebody is at work on the job, upload or request
    jobs/<job_id>/job.json                the submission
    jobs/<job_id>/mail.json               the receipt of its e-mail
    jobs/<job_id>/<scan_id>/scan.nii.gz   the volume as accepted; scan.nii where it came uncompressed
    jobs/<job_id>/<scan_id>/failure.json  why there is no result (failure.1.json: before its first retry), or
    jobs/<job_id>/<scan_id>/result/       the result: its files appear together, by one rename
    audit/audit.jsonl                     who did what with which job (pipeline.audit)
    ledger/<date>.jsonl                   when what happened to each scan (pipeline.ledger)
    sample.nii.gz                         a synthetic scan to try; processors write it
    feedback/<job_id>.<scan_id>.json      what a reader said of a result (pipeline.feedback)

The files are the truth; what Redis knows of a job can be rebuilt from them. Nothing is visible under its
final name before it is complete and on the disk.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.clock import Instant
from pipeline.errors import (
    CorestreamError,
    Failure,
    JobDamagedError,
    JobNotFoundError,
    MailUnderWayError,
    NoRoomError,
    OutcomeUnderWayError,
)
from pipeline.files import NO_ROOM, fsync_directory, give, write_whole, written_whole
from pipeline.ids import Id, new_id
from pipeline.report import Report

ResultFile = Literal[
    "aligned.nii.gz",
    "saliency.nii.gz",
    "saliency_fixed.nii.gz",
    "saliency_native.nii.gz",
    "summary.png",
    "alignment.png",
    "report.json",
]
"""The files of one scan's result."""

_COMPRESSED_SCAN, _PLAIN_SCAN = "scan.nii.gz", "scan.nii"
_FAILURE_FILE = "failure.json"
_PAST_FAILURES = "failure.*.json"
_RESULT = "result"


class ScanRecord(BaseModel):
    """One accepted volume.

    Attributes:
        scan_id: Its identifier.
        sha256: Of the bytes as uploaded, hexadecimal.
        size_bytes: Of the same.
        removed: Names of the header fields that were blanked at the door.
        compressed: Whether it is kept as gzip, as it was uploaded.
    """

    model_config = ConfigDict(frozen=True)

    scan_id: Id
    sha256: str
    size_bytes: int
    removed: tuple[str, ...] = ()
    compressed: bool = True


class JobRecord(BaseModel):
    """One submission, as `job.json` keeps it.

    Attributes:
        job_id: Its identifier.
        created_at: When it was accepted.
        links_expire_at: When its links stop working.
        expires_at: When its files are deleted.
        email: Where the result is announced, if anywhere.
        scans: Its volumes, in the order they were submitted.
        upload_ids: Of the resumable uploads it was made of, if it was; they are gone by now.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    job_id: Id
    created_at: Instant
    links_expire_at: Instant
    expires_at: Instant
    email: str | None = None
    scans: tuple[ScanRecord, ...]
    upload_ids: tuple[Id, ...] = ()


class MailReceipt(BaseModel):
    """What became of a job's e-mail.

    Attributes:
        state: Whether the server took it.
        message_id: The same for every try, so that a repeat can be recognised.
        at: When it was handed in, or given up.
        retries: Of the job's scans by hand before the end that it announces.
    """

    model_config = ConfigDict(frozen=True)

    state: Literal["sent", "failed"]
    message_id: str
    at: Instant
    retries: int = 0


@contextmanager
def _alone(folder: Path, busy: type[CorestreamError]) -> Iterator[None]:
    """Hold a folder's lock until the block ends, or this process: nobody ever waits for a paused one."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise busy("Expected to be alone with this, but somebody else is at it.") from error
        yield
    finally:
        os.close(handle)


@contextmanager
def _room() -> Iterator[None]:
    """Tell a full disk from everything else that can be wrong with it."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise NoRoomError(
            "Expected room on the disk of CORESTREAM_DATA_DIR, found none. Make some."
        ) from error


class Storage:
    """The folders of one installation."""

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir.resolve()
        self.incoming = self.root / "incoming"
        self.jobs = self.root / "jobs"
        self.ledger = self.root / "ledger"
        self.audit = self.root / "audit"
        self.feedback = self.root / "feedback"
        self.sample = self.root / "sample.nii.gz"

    def create_folders(self) -> None:
        """Make the folders that every service expects; readable by this user alone."""
        for folder in (self.root, self.incoming, self.jobs, self.ledger, self.audit):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def free_bytes(self) -> int:
        """Return what the disk has left."""
        return shutil.disk_usage(self.root).free

    # -- where things lie ----------------------------------------------------------------------------

    def part_path(self, upload_id: str) -> Path:
        """Return where an upload grows until it is accepted."""
        return self.incoming / f"{upload_id}.part"

    def upload_path(self, upload_id: str) -> Path:
        """Return where it is kept what the sender of a resumable upload said of it."""
        return self.incoming / f"{upload_id}.json"

    def lock_path(self, item_id: str) -> Path:
        """Return the file that is locked while a job is accepted or deleted, or an upload is written."""
        return self.incoming / f"{item_id}.lock"

    def job_dir(self, job_id: str) -> Path:
        """Return the folder of one job."""
        return self.jobs / job_id

    def scan_path(self, job_id: str, scan_id: str) -> Path:
        """Return where the accepted volume lies, or would."""
        plain = self.jobs / job_id / scan_id / _PLAIN_SCAN
        return plain if plain.exists() else plain.with_name(_COMPRESSED_SCAN)

    def result_dir(self, job_id: str, scan_id: str) -> Path:
        """Return the folder of a scan's result; it exists once the result is whole."""
        return self.jobs / job_id / scan_id / _RESULT

    def relative(self, path: Path) -> str:
        """Return a path as events carry it."""
        return path.relative_to(self.root).as_posix()

    # -- jobs ----------------------------------------------------------------------------------------

    def accept(self, record: JobRecord, parts: list[Path]) -> None:
        """Move uploaded volumes to their place and write the job's record last: with it the job exists.

        Args:
            record: The submission.
            parts: One complete and fsynced file per scan of the record, in its order, on the same disk.

        Raises:
            OSError: The disk refuses; nothing is left of the job, and the parts are where they were (on a
                disk whose files have one name each: those that had not been moved yet).
        """
        job_dir = self.job_dir(record.job_id)
        try:
            job_dir.mkdir(mode=0o700)
            for scan, part in zip(record.scans, parts, strict=True):
                folder = job_dir / scan.scan_id
                folder.mkdir(mode=0o700)
                give(part, folder / (_COMPRESSED_SCAN if scan.compressed else _PLAIN_SCAN))
                fsync_directory(folder)
            write_whole(job_dir / "job.json", record.model_dump_json(indent=1).encode())
            fsync_directory(self.jobs)
        except BaseException:
            self.delete_job(record.job_id)
            raise
        for part in parts:
            part.unlink(missing_ok=True)

    def read_job(self, job_id: str) -> JobRecord:
        """Read a submission.

        Raises:
            JobNotFoundError: There is none of that id, or it has been deleted.
            JobDamagedError: What lies there is no record.
        """
        path = self.job_dir(job_id) / "job.json"
        try:
            return JobRecord.model_validate_json(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise JobNotFoundError(
                "Expected a job this installation keeps, found none of this id: it was deleted after its "
                "retention time or on request. Submit the scan again."
            ) from error
        except ValidationError as error:
            raise JobDamagedError(
                f"Expected the record of a job in {self.relative(path)} under CORESTREAM_DATA_DIR, found a "
                "damaged one. Its operator can restore it from a backup, or remove the folder."
            ) from error

    def job_ids(self) -> list[str]:
        """Return the ids of all accepted jobs, in no order."""
        return [path.parent.name for path in self.jobs.glob("*/job.json")]

    def delete_job(self, job_id: str) -> None:
        """Remove a job and everything of it; the record goes first, so that no half of it is found.

        The folder is renamed before it is emptied: whoever is writing a result into it finds it gone, and
        cannot leave a file behind.
        """
        with suppress(FileNotFoundError):
            (self.job_dir(job_id) / "job.json").unlink()
        doomed = self.jobs / f".{job_id}.{new_id()}"
        with suppress(FileNotFoundError):
            self.job_dir(job_id).rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    # -- outcomes ------------------------------------------------------------------------------------

    @contextmanager
    def staged_result(self, job_id: str, scan_id: str) -> Iterator[Path]:
        """Give an empty folder to write a result into, and publish it whole when the block ends well.

        The first outcome of a scan stays, and this one is dropped: a result, where a delivery published one
        and died before its acknowledgement (both were made from the same bytes); or a failure, where the
        scan was given up while this delivery stood still.

        Raises:
            NoRoomError: The disk is full.
            OutcomeUnderWayError: Somebody else records an outcome at this moment.
        """
        final = self.result_dir(job_id, scan_id)
        stage = final.with_name(f".{_RESULT}.{new_id()}")
        try:
            with _room():
                stage.mkdir(mode=0o700)
                yield stage
                fsync_directory(stage)
                with _alone(final.parent, OutcomeUnderWayError):
                    if not final.exists() and not (final.parent / _FAILURE_FILE).exists():
                        stage.rename(final)
                        fsync_directory(final.parent)
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    def write_failure(self, job_id: str, scan_id: str, failure: Failure) -> None:
        """Record why a scan has no result, unless it has one.

        Raises:
            NoRoomError: The disk is full.
            OutcomeUnderWayError: Somebody else records an outcome at this moment.
        """
        folder = self.job_dir(job_id) / scan_id
        # A job that was deleted meanwhile has nobody left to be told.
        with _room(), suppress(FileNotFoundError), _alone(folder, OutcomeUnderWayError):
            if not (folder / _RESULT).exists():
                write_whole(folder / _FAILURE_FILE, failure.model_dump_json(indent=1).encode())

    def read_report(self, job_id: str, scan_id: str) -> Report | None:
        """Return a scan's report, or None while there is none."""
        try:
            return Report.model_validate_json((self.result_dir(job_id, scan_id) / "report.json").read_bytes())
        except FileNotFoundError:
            return None

    def read_failure(self, job_id: str, scan_id: str) -> Failure | None:
        """Return why a scan has no result; None if nothing went wrong, or a later try went well."""
        if self.result_dir(job_id, scan_id).exists():
            return None
        try:
            return Failure.model_validate_json((self.job_dir(job_id) / scan_id / _FAILURE_FILE).read_bytes())
        except FileNotFoundError:
            return None

    def retry_scan(self, job_id: str, scan_id: str) -> None:
        """Decide that a failed scan runs again: its failure becomes history.

        Once this is on the disk the retry happens, whatever dies; without a failure it changes nothing.
        """
        if self.read_failure(job_id, scan_id) is None:
            return
        folder = self.job_dir(job_id) / scan_id
        past = folder / f"failure.{self.retries(job_id, scan_id) + 1}.json"
        with suppress(FileNotFoundError):  # somebody else decided the same
            (folder / _FAILURE_FILE).rename(past)
            fsync_directory(folder)

    def retries(self, job_id: str, scan_id: str = "*") -> int:
        """Return how often a scan, or all scans of a job together, were retried by hand."""
        return sum(1 for _ in self.job_dir(job_id).glob(f"{scan_id}/{_PAST_FAILURES}"))

    def write_mail_receipt(self, job_id: str, receipt: MailReceipt) -> None:
        """Record what became of a job's e-mail.

        Raises:
            NoRoomError: The disk is full.
        """
        with suppress(FileNotFoundError), self.mail_receipt(job_id, receipt):  # the job was deleted meanwhile
            pass

    @contextmanager
    def mail_receipt(self, job_id: str, receipt: MailReceipt) -> Iterator[None]:
        """Record what becomes of a job's e-mail, when the block that sends it ends well.

        Raises:
            NoRoomError: The disk is full; the block was not begun.
            FileNotFoundError: The job was deleted.
        """
        path, content = self.job_dir(job_id) / "mail.json", receipt.model_dump_json(indent=1).encode()
        with _room(), written_whole(path, content):
            yield

    @contextmanager
    def mailing(self, job_id: str) -> Iterator[None]:
        """Let nobody else send a job's e-mail until the block ends, or this process.

        An entry can be in two hands: its first owner was paused past its lease, or the stream was deleted
        while a mail was on its way and the sweep announced the job again.

        Raises:
            MailUnderWayError: Somebody else is at it.
            JobNotFoundError: The job was deleted.
        """
        try:
            with _alone(self.job_dir(job_id), MailUnderWayError):
                yield
        except FileNotFoundError as error:
            raise JobNotFoundError("Expected the job of a mail, but it was deleted meanwhile.") from error

    def read_mail_receipt(self, job_id: str) -> MailReceipt | None:
        """Return what became of the e-mail about a job's present end, or None while nothing has.

        A mail that was sent before a scan was retried announced another end.
        """
        try:
            receipt = MailReceipt.model_validate_json((self.job_dir(job_id) / "mail.json").read_bytes())
        except FileNotFoundError:
            return None
        return receipt if receipt.retries >= self.retries(job_id) else None
