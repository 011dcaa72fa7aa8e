"""From a result page to the upload service and back in a real Chromium: judging a result, deleting a job."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from pipeline.feedback import FeedbackFolder
from tests.support.browser import visit
from tests.support.ports import free_ports
from tests.support.system import ADDRESS, System, running_system
from tests.support.viewing import running_viewer


@pytest.fixture
async def system(tmp_path: Path, redis_url: str) -> AsyncIterator[System]:
    """An installation with a viewer; each knows the other's address."""
    port = free_ports()
    async with (
        running_system(tmp_path, redis_url, viewer_url=f"http://127.0.0.1:{port}") as running,
        running_viewer(running.settings.data_dir, port=port, public_url=running.origin),
    ):
        yield running


async def test_a_result_is_judged_by_keyboard_alone_and_the_word_can_be_changed(
    system: System, browser: Browser
) -> None:
    """The verdict is chosen with the arrows, stands on the page then, and is kept with the scan's hash."""
    submitted = await system.submit()
    await system.until_idle()
    result = (await system.status(submitted))["result_url"]
    kept = FeedbackFolder(system.storage.feedback)
    record = system.storage.read_job(submitted["job_id"])
    async with visit(browser, result, width=390, height=844) as opened:
        page = opened.page
        await page.get_by_label("Agree", exact=True).focus()
        await page.keyboard.press("ArrowRight")
        await page.keyboard.press("Tab")
        await page.keyboard.type("left, not right")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.get_by_text("Kept: disagree.").wait_for()
        assert page.url == f"{result}#judge-1"
        given = kept.read(record.job_id, record.scans[0].scan_id)
        assert given is not None
        assert (given.verdict, given.note, given.scan_sha256) == (
            "disagree",
            "left, not right",
            record.scans[0].sha256,
        )
        assert await page.get_by_label("Note").input_value() == "left, not right"
        await page.get_by_label("Unsure").check()
        await page.get_by_role("button", name="Change").click()
        await page.get_by_text("Kept: unsure.").wait_for()
        assert opened.complaints == []
    assert [given.verdict for given in kept.all()] == ["unsure"]


async def test_feedback_without_a_verdict_is_not_sent(system: System, browser: Browser) -> None:
    """The browser says what is missing, and nothing is kept."""
    submitted = await system.submit()
    await system.until_idle()
    async with visit(browser, (await system.status(submitted))["result_url"]) as opened:
        await opened.page.get_by_role("button", name="Send").click()
        assert await opened.page.locator("input:invalid").count() == 3
        assert "Kept:" not in await opened.page.content()
    assert list(FeedbackFolder(system.storage.feedback).all()) == []


async def test_a_job_is_deleted_from_its_result_page_with_a_receipt(
    system: System, browser: Browser, tmp_path: Path
) -> None:
    """It is asked first; the saved receipt names every file, and then no link of the job opens any more."""
    submitted = await system.submit(email=ADDRESS)
    await system.until_idle()
    job_id = submitted["job_id"]
    result = (await system.status(submitted))["result_url"]
    files = {p.name for p in system.storage.job_dir(job_id).rglob("*") if p.is_file()}
    async with visit(browser, result) as opened:
        page = opened.page
        await page.get_by_role("link", name="Delete now").click()
        async with page.expect_navigation():
            await page.get_by_role("link", name="Keep it").click()
        assert system.storage.job_ids() == [job_id]
        await page.goto(result)
        await page.get_by_role("link", name="Delete now").click()
        await page.get_by_role("button", name="Delete now").click()
        async with page.expect_download() as saving:
            await page.get_by_role("link", name="Save the receipt").click()
        await (await saving.value).save_as(tmp_path / "receipt.json")
        assert opened.complaints == []
        await page.goto(result)
        assert await page.text_content("h1") == "No longer here"
    receipt = json.loads((tmp_path / "receipt.json").read_text())
    assert {file["path"].rpartition("/")[2] for file in receipt["files"]} == files
    assert not system.storage.job_dir(job_id).exists()


async def test_a_deletion_is_sent_once_however_often_it_is_clicked(system: System, browser: Browser) -> None:
    """A second request would be answered that the job is gone, and the receipt would be nobody's."""
    submitted = await system.submit()
    token = submitted["status_url"].partition("token=")[2]
    asks = f"{system.origin}/jobs/{submitted['job_id']}/delete?token={token}"
    click = "document.forms[0].dispatchEvent(new SubmitEvent('submit', {bubbles: true, cancelable: true}))"
    async with visit(browser, asks) as opened:
        goes_on = [await opened.page.evaluate(click) for _ in range(3)]
        assert goes_on == [True, False, False]
