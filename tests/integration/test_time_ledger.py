"""The time ledger of real services: every moment of a scan, in the job's document and in the CSV."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from pathlib import Path

from pipeline.ledger import MOMENTS, texts
from tests.support.system import ADDRESS, running_system
from tests.support.viewing import running_viewer
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]


async def test_a_scan_leaves_its_moments_from_first_byte_to_opened_link(
    tmp_path: Path, redis_url: str
) -> None:
    """They follow one another, stand in report, pages and job's document, and outlive the job in the CSV."""
    async with running_system(tmp_path, redis_url) as system:
        system.network.let_go.clear()
        submitted = await system.submit(email=ADDRESS)

        async def claimed() -> bool:
            return "claimed" in (await system.status(submitted))["scans"][0]["times"]

        await eventually(claimed)
        times = (await system.status(submitted))["scans"][0]["times"]
        assert list(times) == ["first_byte", "on_disk", "queued", "claimed"]
        system.network.let_go.set()
        await system.until_idle()
        record = system.storage.read_job(submitted["job_id"])
        async with (
            running_viewer(system.settings.data_dir) as viewer,
            system.http.get(viewer.result(record)) as page,
        ):
            assert page.status == 200
            shown = re.findall(r'<time datetime="([^"]+)" data-clock>', await page.text())
        times = (await system.status(submitted))["scans"][0]["times"]
        # The stand-in reports another clock's steps and no alignment.
        assert list(times) == [name for name in MOMENTS if name not in {"aligned", "failed"}]
        assert sorted(shown) == sorted(times.values())
        report = system.storage.read_report(record.job_id, record.scans[0].scan_id)
        assert report is not None
        later = {"mail_accepted", "link_opened"}  # than the report
        assert texts(report.times) == {name: at for name, at in times.items() if name not in later}
        in_order = [times[name] for name in times if name != "inferred"]
        assert in_order == sorted(in_order)
        system.storage.delete_job(record.job_id)
        command = [sys.executable, "-m", "corestream", "ledger", "--data", str(system.storage.root)]
        printed = subprocess.run([*command, "--csv"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: ASYNC221 - nothing else is to happen meanwhile
        narrow = os.environ | {"COLUMNS": "40"}
        table = subprocess.run(command, cwd=ROOT, env=narrow, capture_output=True, text=True, check=True)  # noqa: ASYNC221 - the same
    (row,) = csv.DictReader(io.StringIO(printed.stdout))
    assert {name: row[name] for name in times} == times
    assert (row["scan_id"], row["outcome"], row["deliveries"]) == (record.scans[0].scan_id, "done", "1")
    assert ADDRESS not in printed.stdout
    assert row["scan_id"] in table.stdout


async def test_a_failed_scan_leaves_its_code(tmp_path: Path, redis_url: str) -> None:
    """What failed, and why, can be counted later."""
    async with running_system(tmp_path, redis_url) as system:
        system.network.refuses = True
        submitted = await system.submit()
        await system.until_idle()
        times = (await system.status(submitted))["scans"][0]["times"]
        assert list(times) == ["first_byte", "on_disk", "queued", "claimed", "failed"]
        (file,) = system.storage.ledger.iterdir()
        assert '"code":"not-a-head"' in file.read_text()


async def test_a_scan_that_is_started_twice_has_the_same_times_in_report_and_ledger(
    tmp_path: Path, redis_url: str
) -> None:
    """The first claim counts, also for the delivery that came to the end."""
    async with running_system(tmp_path, redis_url) as system:
        system.network.breaks = 1
        submitted = await system.submit()
        await system.until_idle()
        scan = (await system.status(submitted))["scans"][0]
    assert (scan["state"], scan["deliveries"]) == ("done", 2)
    assert scan["report"]["times"] == scan["times"]
    assert scan["times"]["claimed"] < scan["times"]["published"]
