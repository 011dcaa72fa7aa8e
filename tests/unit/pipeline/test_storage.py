"""What lies under DATA_DIR is whole, or not there."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path

import pytest

from pipeline.clock import now
from pipeline.errors import Failure, JobDamagedError, JobNotFoundError, MailUnderWayError, NoRoomError
from pipeline.files import write_whole
from pipeline.ids import new_id
from pipeline.storage import MailReceipt, ScanRecord, Storage
from tests.support.results import accepted_job

ADDRESS = "reader@hospital.example"
FAILURE = Failure(
    code="not-hu", title="Not in HU", detail="Expected air, received none. Export it unwindowed."
)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty installation."""
    storage = Storage(tmp_path / "data")
    storage.create_folders()
    return storage


def test_an_accepted_job_is_read_back_as_it_was(storage: Storage) -> None:
    """The record and the volumes are in place, and nothing is left where uploads arrive."""
    record = accepted_job(storage, scans=3)
    assert storage.read_job(record.job_id) == record
    assert storage.job_ids() == [record.job_id]
    assert list(storage.incoming.iterdir()) == []
    for scan in record.scans:
        assert storage.scan_path(record.job_id, scan.scan_id).read_bytes() == b"voxels"


def test_folders_are_for_this_user_alone(storage: Storage) -> None:
    """Health data is not readable by the other users of a machine."""
    record = accepted_job(storage)
    for folder in (storage.root, storage.incoming, storage.jobs, storage.job_dir(record.job_id)):
        assert folder.stat().st_mode & 0o077 == 0


def test_a_job_whose_record_was_not_written_does_not_exist(storage: Storage) -> None:
    """A crash between the volumes and the record leaves nothing that anybody is shown."""
    record = accepted_job(storage)
    (storage.job_dir(record.job_id) / "job.json").unlink()
    assert storage.job_ids() == []
    with pytest.raises(JobNotFoundError, match="Submit the scan again"):
        storage.read_job(record.job_id)


def test_of_a_damaged_record_nothing_is_repeated(storage: Storage) -> None:
    """It holds an address, which belongs in no log; whoever asks is told that it is damaged."""
    record = accepted_job(storage, email=ADDRESS)
    path = storage.job_dir(record.job_id) / "job.json"
    path.write_text(path.read_text().replace(f'"{ADDRESS}"', f'["{ADDRESS}"]'))
    with pytest.raises(JobDamagedError, match="damaged") as raised:
        storage.read_job(record.job_id)
    assert isinstance(raised.value, JobNotFoundError)
    assert ADDRESS not in "".join(traceback.format_exception(raised.value))


def test_a_job_that_cannot_be_accepted_leaves_what_came_where_it_was(storage: Storage) -> None:
    """If the second of two volumes is gone, there is no job, and the first waits for another try."""
    record = accepted_job(storage, scans=2).model_copy(update={"job_id": new_id()})
    part = storage.part_path(new_id())
    part.write_bytes(b"voxels")
    with pytest.raises(FileNotFoundError):
        storage.accept(record, [part, storage.part_path(new_id())])
    assert not storage.job_dir(record.job_id).exists()
    assert list(storage.incoming.iterdir()) == [part]
    assert part.read_bytes() == b"voxels"


@pytest.mark.parametrize(("compressed", "name"), [(True, "scan.nii.gz"), (False, "scan.nii")])
def test_a_scan_is_named_for_what_it_is(storage: Storage, compressed: bool, name: str) -> None:  # noqa: FBT001 - pytest gives it
    """Whoever keeps originals can open them with anything: programs go by the name."""
    scan = ScanRecord(scan_id=new_id(), sha256="ab" * 32, size_bytes=6, compressed=compressed)
    record = accepted_job(storage).model_copy(update={"job_id": new_id(), "scans": (scan,)})
    part = storage.part_path(new_id())
    part.write_bytes(b"voxels")
    storage.accept(record, [part])
    assert storage.scan_path(record.job_id, scan.scan_id).name == name
    assert storage.scan_path(record.job_id, scan.scan_id).read_bytes() == b"voxels"


def test_a_disk_without_links_will_do(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems give a file one name only."""

    def refuse(_self: Path, _target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    record = accepted_job(storage)
    assert storage.scan_path(record.job_id, record.scans[0].scan_id).read_bytes() == b"voxels"
    assert list(storage.incoming.iterdir()) == []


def test_a_result_appears_whole(storage: Storage) -> None:
    """While it is written nobody sees any of it."""
    record = accepted_job(storage)
    scan_id = record.scans[0].scan_id
    final = storage.result_dir(record.job_id, scan_id)
    with storage.staged_result(record.job_id, scan_id) as stage:
        (stage / "a").write_text("1")
        assert not final.exists()
        (stage / "b").write_text("2")
    assert sorted(path.name for path in final.iterdir()) == ["a", "b"]


def test_a_result_that_fails_half_way_leaves_nothing(storage: Storage) -> None:
    """An exception while writing takes everything back."""
    record = accepted_job(storage)
    scan_id = record.scans[0].scan_id

    def write_half() -> None:
        with storage.staged_result(record.job_id, scan_id) as stage:
            (stage / "a").write_text("1")
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="output error"):
        write_half()
    assert [p.name for p in storage.scan_path(record.job_id, scan_id).parent.iterdir()] == ["scan.nii.gz"]


def test_the_first_of_two_results_stays(storage: Storage) -> None:
    """A scan that was delivered twice keeps the result its readers may have seen."""
    record = accepted_job(storage)
    scan_id = record.scans[0].scan_id
    for text in ("first", "second"):
        with storage.staged_result(record.job_id, scan_id) as stage:
            (stage / "a").write_text(text)
    assert (storage.result_dir(record.job_id, scan_id) / "a").read_text() == "first"
    assert len(list(storage.scan_path(record.job_id, scan_id).parent.iterdir())) == 2


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_from_everything_else(storage: Storage, error: int) -> None:
    """No room is a reason to wait, not a fault of the scan; nothing is left behind."""
    record = accepted_job(storage)
    job_id, scan_id = record.job_id, record.scans[0].scan_id
    with pytest.raises(NoRoomError, match="Expected room"), storage.staged_result(job_id, scan_id):
        raise OSError(error, "no room")
    with pytest.raises(PermissionError), storage.staged_result(job_id, scan_id):
        raise PermissionError(errno.EACCES, "no")
    assert not storage.result_dir(job_id, scan_id).exists()
    assert len(list(storage.scan_path(job_id, scan_id).parent.iterdir())) == 1


def test_a_receipt_is_visible_only_after_its_mail(storage: Storage) -> None:
    """Its bytes are on the disk before the mail leaves; a mail that does not leave has no receipt."""
    job_id = accepted_job(storage).job_id
    receipt = MailReceipt(state="sent", message_id="<a@b>", at=now())
    with pytest.raises(ConnectionError), storage.mail_receipt(job_id, receipt):
        raise ConnectionError
    assert storage.read_mail_receipt(job_id) is None
    with storage.mail_receipt(job_id, receipt):
        assert storage.read_mail_receipt(job_id) is None
    assert storage.read_mail_receipt(job_id) == receipt


def test_one_at_a_time_sends_the_mail_of_a_job(storage: Storage) -> None:
    """Whoever comes second comes again later; the lock ends with its block."""
    job_id = accepted_job(storage).job_id
    with storage.mailing(job_id), pytest.raises(MailUnderWayError), storage.mailing(job_id):
        pass
    with storage.mailing(job_id):
        storage.delete_job(job_id)
    with pytest.raises(JobNotFoundError), storage.mailing(job_id):
        pass


def test_failures_and_receipts_are_kept(storage: Storage) -> None:
    """Why a scan failed and what became of the mail outlives Redis."""
    record = accepted_job(storage)
    job_id, scan_id = record.job_id, record.scans[0].scan_id
    assert storage.read_failure(job_id, scan_id) is None
    assert storage.read_mail_receipt(job_id) is None
    assert storage.read_report(job_id, scan_id) is None
    storage.write_failure(job_id, scan_id, FAILURE)
    receipt = MailReceipt(state="sent", message_id="<a@b>", at=now())
    storage.write_mail_receipt(job_id, receipt)
    assert storage.read_failure(job_id, scan_id) == FAILURE
    assert storage.read_mail_receipt(job_id) == receipt


def test_a_result_after_a_retry_outweighs_the_earlier_failure(storage: Storage) -> None:
    """A scan that was tried again and went well has no failure any more."""
    record = accepted_job(storage)
    job_id, scan_id = record.job_id, record.scans[0].scan_id
    storage.write_failure(job_id, scan_id, FAILURE)
    storage.retry_scan(job_id, scan_id)
    with storage.staged_result(job_id, scan_id):
        pass
    assert storage.read_failure(job_id, scan_id) is None


def test_the_first_outcome_of_a_scan_stays(storage: Storage) -> None:
    """A worker that was paused past its lease finds its scan given up, or the other way round."""
    failed, done = (accepted_job(storage) for _ in range(2))
    with storage.staged_result(failed.job_id, failed.scans[0].scan_id):
        storage.write_failure(failed.job_id, failed.scans[0].scan_id, FAILURE)
    assert storage.read_failure(failed.job_id, failed.scans[0].scan_id) == FAILURE
    with storage.staged_result(done.job_id, done.scans[0].scan_id):
        pass
    storage.write_failure(done.job_id, done.scans[0].scan_id, FAILURE)
    assert storage.read_failure(done.job_id, done.scans[0].scan_id) is None
    folders = (storage.job_dir(job.job_id) / job.scans[0].scan_id for job in (failed, done))
    assert [sorted(path.name for path in folder.iterdir()) for folder in folders] == [
        ["failure.json", "scan.nii.gz"],
        ["result", "scan.nii.gz"],
    ]


def test_what_ends_after_its_job_was_deleted_ends_quietly(storage: Storage) -> None:
    """Deletion wins over everything that is still under way."""
    record = accepted_job(storage)
    storage.delete_job(record.job_id)
    storage.write_failure(record.job_id, record.scans[0].scan_id, FAILURE)
    storage.write_mail_receipt(record.job_id, MailReceipt(state="sent", message_id="<a@b>", at=now()))
    assert not storage.job_dir(record.job_id).exists()


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    """A write that fails changes nothing."""
    path = tmp_path / "file"
    write_whole(path, b"old")
    with pytest.raises(TypeError):
        write_whole(path, "not bytes")  # type: ignore[arg-type]  # the failure is the point
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
