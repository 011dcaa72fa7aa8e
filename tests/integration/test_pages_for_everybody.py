"""Every page by axe-core's rules, light, dark and on a phone; and what a page weighs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from pipeline.storage import JobRecord
from tests.support.axe import findings
from tests.support.browser import visit
from tests.support.nifti_files import compressed, good
from tests.support.results import REFUSAL, accepted_job, publish_result
from tests.support.system import ADDRESS, ADMIN, System, running_system
from tests.support.viewing import RunningViewer, running_viewer
from viewer import result_page

MOST_BYTES = 60_000
WEIGH = """() => performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation"))
    .filter(({ name, initiatorType }) => !name.includes("/files/") && initiatorType !== "fetch")
    .reduce((total, { transferSize }) => total + transferSize, 0)"""


@pytest.fixture
async def system(tmp_path: Path, redis_url: str) -> AsyncIterator[System]:
    """An installation."""
    async with running_system(tmp_path / "system", redis_url, admin_token=ADMIN) as running:
        yield running


@pytest.fixture
async def viewer(tmp_path: Path) -> AsyncIterator[RunningViewer]:
    """A viewer over a folder of its own."""
    folder = tmp_path / "viewer"
    folder.mkdir()
    async with running_viewer(folder) as running:
        yield running


def result_of_three(viewer: RunningViewer) -> JobRecord:
    """Return a job with a result, a failure and a scan that waits."""
    job = accepted_job(viewer.storage, scans=3)
    publish_result(viewer.storage, job, job.scans[0].scan_id)
    viewer.storage.write_failure(job.job_id, job.scans[1].scan_id, REFUSAL)
    return job


async def pages(system: System, viewer: RunningViewer) -> dict[str, str]:
    """Return the address of every page that a submitter or an administrator meets."""
    done = await system.submit(email=ADDRESS)
    await system.until_idle()
    system.network.refuses = True
    failed = await system.submit()
    await system.until_idle()
    shown = result_of_three(viewer)
    single = accepted_job(viewer.storage)
    publish_result(viewer.storage, single, single.scans[0].scan_id)

    def of(submitted: dict[str, Any], what: str = "") -> str:
        token = submitted["status_url"].partition("token=")[2]
        return f"{system.origin}/jobs/{submitted['job_id']}{what}?token={token}"

    return {
        "upload": system.origin,
        "job, done": of(done),
        "job, failed": of(failed),
        "delete": of(done, "/delete"),
        "no token": f"{system.origin}/jobs/{done['job_id']}",
        "interface": f"{system.origin}/api/docs",
        "result": viewer.result(single),
        "results": viewer.result(shown),
        "viewer": viewer.papaya(single),
        "monitor, log in": f"{system.origin}/monitor/login",
        "monitor": f"{system.origin}/monitor",  # with a dead letter
        "monitor, drop": f"{system.origin}/monitor",
    }


async def test_no_page_keeps_anybody_out_and_none_is_heavy(
    system: System, viewer: RunningViewer, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """axe-core finds nothing serious, light and dark; beside Papaya and pictures a page is below 60 kB."""
    monkeypatch.setattr(result_page, "REFRESH_S", 3600)  # one with a scan that waits would leave under axe
    found: dict[str, Any] = {}
    for name, url in (await pages(system, viewer)).items():
        for dark in (False, True):
            async with visit(browser, url, dark=dark, width=390 if dark else 1280) as opened:
                page = opened.page
                if name in {"monitor", "monitor, drop"}:
                    await page.get_by_label("Administrator's token").fill(ADMIN.get_secret_value())
                    await page.keyboard.press("Enter")
                    await page.wait_for_selector("[data-letter]")
                if name == "monitor, drop":
                    await page.get_by_role("link", name="Drop").click()
                    await page.get_by_role("button", name="Drop it").wait_for()
                if name == "viewer":
                    await page.wait_for_selector('html[data-viewer="ready"]', state="attached")
                for details in await page.query_selector_all("details"):
                    await details.evaluate("(node) => { node.open = true; }")
                if serious := await findings(page):
                    found[f"{name}, {'dark, phone' if dark else 'light, wide'}"] = serious
                weight = await page.evaluate(WEIGH)
                if name != "viewer" and weight > MOST_BYTES:
                    found[f"{name}, bytes"] = weight
    assert found == {}


async def test_a_scan_is_submitted_by_keyboard_alone(
    system: System, browser: Browser, tmp_path: Path
) -> None:
    """Tab reaches every control in the order of the page; the file dialog is opened by Enter."""
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes(compressed(good()))
    async with visit(browser, system.origin) as opened:
        page = opened.page
        await page.wait_for_selector('html[data-upload="ready"]', state="attached")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "Skip to content"
        async with page.expect_file_chooser() as chosen:  # watched for before the keys arrive
            while await page.evaluate("document.activeElement.id") != "choose":
                await page.keyboard.press("Tab")
            await page.keyboard.press("Enter")
        await (await chosen.value).set_files(scan)
        await page.wait_for_selector("text=1 of 1 sent")
        while await page.evaluate("document.activeElement.id") != "submit":
            await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/jobs/*")
        assert opened.complaints == []
