"""The time ledger: what is noted comes back, whoever wrote it and whatever was cut off."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from pathlib import Path

from pipeline.clock import now, to_text
from pipeline.ids import new_id
from pipeline.ledger import MOMENTS, SPANS, Ledger, LedgerReader, Line, Moment, write_csv

JOB, SCAN = new_id(), new_id()


def line(moment: Moment, after_s: float, scan_id: str = SCAN, **details: object) -> Line:
    """Return a moment so many seconds after some start."""
    at = now().replace(hour=1, minute=0, second=0, microsecond=0) + timedelta(seconds=after_s)
    return Line.model_validate({"at": at, "moment": moment, "job_id": JOB, "scan_id": scan_id} | details)


def test_a_reader_reads_on_where_it_stopped(tmp_path: Path) -> None:
    """A line that is still being written waits for its end; one that makes no sense is skipped."""
    ledger, reader = Ledger(tmp_path), LedgerReader(tmp_path)
    ledger.note(line("on_disk", 1, size_bytes=6))
    reader.refresh()
    (file,) = tmp_path.iterdir()
    half, rest = line("queued", 2).model_dump_json()[:40], line("queued", 2).model_dump_json()[40:]
    with file.open("a") as out:
        out.write(f"no line of ours\n{half}")
    reader.refresh()
    scan = reader.scan(SCAN)
    assert scan is not None
    assert list(scan.moments) == ["on_disk"]
    with file.open("a") as out:
        out.write(f"{rest}\n")
    reader.refresh()
    assert scan.seconds("queueing") == 1
    assert scan.seconds("processing") is None
    assert (scan.size_bytes, scan.outcome) == (6, "open")


def test_a_line_that_a_full_disk_cut_off_takes_no_other_with_it(tmp_path: Path) -> None:
    """The next one begins on a line of its own; the audit log is written in the same way."""
    ledger, reader = Ledger(tmp_path), LedgerReader(tmp_path)
    ledger.note(line("on_disk", 1))
    (file,) = tmp_path.iterdir()
    with file.open("a") as out:
        out.write(line("queued", 2).model_dump_json()[:40])
    ledger.note(line("claimed", 3))
    ledger.note(line("published", 4))
    reader.refresh()
    scan = reader.scan(SCAN)
    assert scan is not None
    assert list(scan.moments) == ["on_disk", "claimed", "published"]
    assert len(file.read_text().splitlines()) == 4


def test_a_second_start_keeps_the_first_and_counts(tmp_path: Path) -> None:
    """The wait ended when the scan was first claimed; that it was claimed again shows in its deliveries."""
    ledger, reader = Ledger(tmp_path), LedgerReader(tmp_path)
    for start in (1, 2):
        ledger.note(line("queued", 0))
        ledger.note(line("claimed", 10 * start, deliveries=start))
    ledger.note(line("published", 30, timings_s={"reading": 0.5, "network": 2.0}))
    reader.refresh()
    scan = reader.scan(SCAN)
    assert scan is not None
    assert (scan.seconds("waiting"), scan.deliveries, scan.outcome) == (10, 2, "done")
    assert scan.timings_s == {"reading": 0.5, "network": 2.0}


def test_a_scan_that_is_retried_begins_anew(tmp_path: Path) -> None:
    """Of its first time in line nothing is left but the upload."""
    ledger, reader = Ledger(tmp_path), LedgerReader(tmp_path)
    for each in (line("first_byte", 0), line("queued", 1), line("claimed", 2, deliveries=3)):
        ledger.note(each)
    ledger.note(line("failed", 3, code="not-a-head"))
    ledger.note(line("queued", 100))
    ledger.note(line("claimed", 101, deliveries=1))
    reader.refresh()
    scan = reader.scan(SCAN)
    assert scan is not None
    assert list(scan.moments) == ["first_byte", "queued", "claimed"]
    assert (scan.outcome, scan.code, scan.deliveries) == ("open", None, 1)


def test_days_beyond_the_horizon_are_forgotten(tmp_path: Path) -> None:
    """Memory does not grow with the months; a reader without horizon reads them all."""
    old, young = new_id(), new_id()
    days = {old: now() - timedelta(days=9), young: now()}
    for scan_id, at in days.items():
        text = Line(at=at, moment="queued", job_id=JOB, scan_id=scan_id).model_dump_json()
        (tmp_path / f"{at.date().isoformat()}.jsonl").write_text(f"{text}\n")
    every, recent = LedgerReader(tmp_path), LedgerReader(tmp_path, timedelta(days=2))
    for reader in (every, recent):
        reader.refresh()
    assert [scan.scan_id for scan in every.scans()] == [old, young]
    assert [scan.scan_id for scan in recent.scans()] == [young]


def test_what_else_lies_in_the_folder_is_not_read(tmp_path: Path) -> None:
    """A copy, an export: processors read the ledger for every report, and no scan fails for that."""
    Ledger(tmp_path).note(line("queued", 0))
    (file,) = tmp_path.iterdir()
    for name in ("old.jsonl", f"{file.stem} (copy).jsonl", "2026-99-99.jsonl"):
        (tmp_path / name).write_text(line("queued", 0, new_id()).model_dump_json() + "\n")
    reader = LedgerReader(tmp_path)
    reader.refresh()
    assert [scan.scan_id for scan in reader.scans()] == [SCAN]


def test_the_csv_has_a_row_a_scan_and_a_column_a_moment(tmp_path: Path) -> None:
    """Instants as RFC 3339, steps of the detection as seconds; what is not known stays empty."""
    ledger, reader, other = Ledger(tmp_path), LedgerReader(tmp_path), new_id()
    ledger.note(line("on_disk", 1, size_bytes=6))
    ledger.note(line("claimed", 2, deliveries=1))
    ledger.note(line("published", 3, timings_s={"network": 2.0}))
    ledger.note(line("failed", 4, other, code="not-a-head"))
    reader.refresh()
    text = io.StringIO()
    write_csv(reader.scans(), text)
    done, failed = csv.DictReader(io.StringIO(text.getvalue()))
    assert set(MOMENTS) < set(done)
    assert done["claimed"] == to_text(line("claimed", 2).at)
    assert (done["size_bytes"], done["outcome"], done["network_s"]) == ("6", "done", "2.0")
    assert (failed["outcome"], failed["code"], failed["network_s"]) == ("failed", "not-a-head", "")


def test_a_disk_that_refuses_costs_the_line_and_nothing_else(tmp_path: Path) -> None:
    """No scan fails for its measurement."""
    Ledger(tmp_path / "absent").note(line("queued", 0))
    reader = LedgerReader(tmp_path / "absent")
    reader.refresh()
    assert reader.scans() == []


def test_the_stretches_are_explained_as_the_code_has_them() -> None:
    """Who reads a histogram or the table of `corestream ledger` finds there what it measures."""
    page = (Path(__file__).resolve().parents[3] / "docs/operations.md").read_text()
    for name, (start, end) in SPANS.items():
        words = [
            moment.replace("_", " ").replace("link opened", "link first opened") for moment in (start, end)
        ]
        assert f"| `{name}` | {' | '.join(words)} |" in page
