"""`corestream jobs` on an installation that is not in order."""

from __future__ import annotations

from pathlib import Path

from corestream.jobs import _records
from pipeline.storage import Storage
from tests.support.results import accepted_job


def test_a_damaged_record_hides_no_other_job(tmp_path: Path) -> None:
    """The list is what an operator looks at when something is wrong."""
    storage = Storage(tmp_path)
    storage.create_folders()
    kept, damaged = accepted_job(storage), accepted_job(storage)
    (storage.job_dir(damaged.job_id) / "job.json").write_text("{")
    assert _records(storage) == [kept]
