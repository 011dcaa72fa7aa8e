"""What the upload page does with scans that are on their way, in a real Chromium."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Route

from ingest import rates
from tests.support.browser import visit
from tests.support.dicom_files import series, written
from tests.support.nifti_files import compressed, good
from tests.support.system import System, running_system

UPLOAD = "**/api/uploads/*"


@pytest.fixture
async def system(tmp_path: Path, redis_url: str) -> AsyncIterator[System]:
    """An installation."""
    async with running_system(tmp_path, redis_url) as running:
        yield running


@pytest.fixture
async def page(system: System, browser: Browser) -> AsyncIterator[Page]:
    """Its upload page."""
    async with visit(browser, system.origin) as opened:
        await opened.page.wait_for_selector('html[data-upload="ready"]', state="attached")
        yield opened.page


@pytest.fixture
def scans(tmp_path: Path) -> list[Path]:
    """Two scans, of different sizes."""
    paths = [tmp_path / "first.nii.gz", tmp_path / "second.nii"]
    for path, content in zip(paths, (compressed(good()), good()), strict=True):
        path.write_bytes(content)
    return paths


async def test_what_is_cancelled_after_submit_is_not_waited_for(
    system: System, page: Page, scans: list[Path]
) -> None:
    """The others are submitted without it."""
    first_has_come, let_go = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        if route.request.method == "PATCH":
            if first_has_come.is_set():
                await let_go.wait()
            first_has_come.set()
        await route.continue_()

    await page.route(UPLOAD, hold)
    await page.set_input_files("#file", scans[0])
    await page.wait_for_selector("text=1 of 1 sent")
    await page.set_input_files("#file", scans[1])
    await page.get_by_role("button", name="Submit 2 scans").click()
    await page.wait_for_selector("text=Submits when all are sent")
    await page.get_by_role("button", name="Cancel second.nii").click()
    await page.wait_for_url("**/jobs/*")
    let_go.set()
    [job_id] = system.storage.job_ids()
    assert len(system.storage.read_job(job_id).scans) == 1


async def test_nothing_is_submitted_without_a_scan_that_fails_on_its_way(
    system: System, page: Page, scans: list[Path]
) -> None:
    """Whoever pressed Submit meant both, and would not see the reason on the next page; then they decide."""

    async def refuse(route: Route) -> None:
        problem = {"title": "Too large", "detail": "Expected a smaller file."}
        if route.request.method == "PATCH":
            await asked.wait()
        await route.fulfill(status=413, json=problem, content_type="application/problem+json")

    asked = asyncio.Event()
    await page.set_input_files("#file", scans[0])
    await page.wait_for_selector("text=1 of 1 sent")
    await page.route(UPLOAD, refuse)
    await page.set_input_files("#file", scans[1])
    await page.get_by_role("button", name="Submit 2 scans").click()
    asked.set()
    await page.wait_for_selector("text=Expected a smaller file.")
    submit = page.get_by_role("button", name="Submit", exact=True)
    await submit.wait_for()
    assert system.storage.job_ids() == []
    await submit.click()
    await page.wait_for_url("**/jobs/*")


async def test_scans_that_begin_alike_are_told_apart(system: System, page: Page, tmp_path: Path) -> None:
    """Two patients' volumes of one geometry, unpacked in one moment: air comes first in both."""
    paths, content = [tmp_path / "one.nii", tmp_path / "other.nii"], bytearray(good())
    for number, path in enumerate(paths, start=1):
        content[len(content) // 2] = number
        path.write_bytes(content)
        os.utime(path, (1_700_000_000, 1_700_000_000))
        await page.set_input_files("#file", path)
        await page.wait_for_selector(f"text={number} of {number} sent")
    await page.get_by_role("button", name="Submit 2 scans").click()
    await page.wait_for_url("**/jobs/*")
    [job_id] = system.storage.job_ids()
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert [scan.sha256 for scan in system.storage.read_job(job_id).scans] == hashes


async def test_a_folder_of_more_slices_than_an_address_may_begin_at_once_arrives(
    tmp_path: Path, redis_url: str, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page goes on as fast as the service lets it."""
    monkeypatch.setattr(rates, "_MINUTE_S", 1.0)
    written(series(8), tmp_path / "series")
    async with (
        running_system(tmp_path, redis_url, uploads_per_minute=5) as system,
        visit(browser, system.origin) as opened,
    ):
        await opened.page.set_input_files("#folder", tmp_path / "series")
        await opened.page.wait_for_selector("text=1 of 1 sent")
