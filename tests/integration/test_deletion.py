"""Deleting a job on request: nothing of it is left, whatever it was doing, and the receipt says what went."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.storage import Storage
from tests.support.system import ADDRESS, System, running_system
from tests.support.waiting import eventually

AS_A_BROWSER = {"Accept": "text/html"}


@pytest.fixture
async def system(tmp_path: Path, redis_url: str) -> AsyncIterator[System]:
    """An installation."""
    async with running_system(tmp_path, redis_url) as running:
        yield running


def query(submitted: dict[str, Any]) -> dict[str, str]:
    """Return what opens the job."""
    return {"token": submitted["status_url"].partition("token=")[2]}


async def test_the_receipt_names_every_file_and_nothing_is_left(system: System) -> None:
    """Hashes are those of the files as they were; feedback goes too; links are gone, also in Redis."""
    submitted = await system.submit(email=ADDRESS)
    await system.until_idle()
    job_id, scan_id = submitted["job_id"], submitted["scans"][0]["scan_id"]
    async with system.http.post(
        f"/api/jobs/{job_id}/scans/{scan_id}/feedback", params=query(submitted), json={"verdict": "unsure"}
    ) as answer:
        assert answer.status == 200
    folder = system.storage.job_dir(job_id)
    files = [path for path in folder.rglob("*") if path.is_file()]
    files += list(system.storage.feedback.iterdir())
    before = {system.storage.relative(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    async with system.http.delete(f"/api/jobs/{job_id}", params=query(submitted)) as answer:
        assert answer.status == 200
        receipt = await answer.json()
    assert {file["path"]: file["sha256"] for file in receipt["files"]} == before
    assert f"jobs/{job_id}/{scan_id}/result/report.json" in before
    assert receipt["job_id"] == job_id
    assert list(system.storage.jobs.iterdir()) == []
    assert list(system.storage.feedback.iterdir()) == []
    assert await system.client.keys(f"*{job_id}*") == []
    async with system.http.get(f"/api/jobs/{job_id}", params=query(submitted)) as answer:
        assert answer.status == 410
        assert (await answer.json())["code"] == "job-gone"


async def test_a_deletion_that_dies_leaves_no_feedback_that_nobody_can_delete(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the job is gone no link leads to what a reader said of it."""
    submitted = await system.submit()
    await system.until_idle()
    url = f"/api/jobs/{submitted['job_id']}"
    judge = f"{url}/scans/{submitted['scans'][0]['scan_id']}/feedback"
    async with system.http.post(judge, params=query(submitted), json={"verdict": "unsure"}) as answer:
        assert answer.status == 200
    delete_job = Storage.delete_job

    def delete_and_die(storage: Storage, job_id: str) -> None:
        delete_job(storage, job_id)
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr(Storage, "delete_job", delete_and_die)
    async with system.http.delete(url, params=query(submitted)) as answer:
        assert answer.status == 500
    assert list(system.storage.feedback.iterdir()) == []


async def test_a_running_scan_of_a_deleted_job_ends_quietly(system: System) -> None:
    """No result, no mail, no dead letter, no file; and the next scan runs."""
    system.network.let_go.clear()
    running, waiting = await system.submit(email=ADDRESS), await system.submit(email=ADDRESS)

    async def under_way() -> bool:
        return bool((await system.status(running))["scans"][0]["state"] == "detecting")

    await eventually(under_way)
    for submitted in (running, waiting):
        async with system.http.delete(f"/api/jobs/{submitted['job_id']}", params=query(submitted)) as answer:
            assert answer.status == 200
    system.network.let_go.set()
    await system.until_idle()
    assert await system.client.xlen(system.keys.dead) == 0
    assert system.smtp.mails == []
    assert list(system.storage.jobs.iterdir()) == []
    assert await system.client.keys("*job:*") == []
    alive = await system.submit()
    await system.until_idle()
    assert (await system.status(alive))["scans"][0]["state"] == "done"


async def test_a_browser_is_asked_first_and_gets_the_receipt_as_a_page(system: System) -> None:
    """Looking deletes nothing; without the job's token nothing is even asked."""
    submitted = await system.submit()
    await system.until_idle()
    url = f"/jobs/{submitted['job_id']}/delete"
    async with system.http.post(url, headers=AS_A_BROWSER) as answer:
        assert answer.status == 401
    async with system.http.get(url, params=query(submitted), headers=AS_A_BROWSER) as answer:
        assert "Delete this job?" in await answer.text()
    assert system.storage.job_ids() == [submitted["job_id"]]
    async with system.http.post(url, params=query(submitted), headers=AS_A_BROWSER) as answer:
        assert answer.status == 200
        text = await answer.text()
    assert "Save the receipt" in text
    assert f"corestream-receipt-{submitted['job_id'][:8]}.json" in text
    async with system.http.get(url, params=query(submitted), headers=AS_A_BROWSER) as answer:
        assert answer.status == 410
