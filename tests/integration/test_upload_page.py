"""The upload page in a real Chromium: what is chosen arrives, whatever breaks; no name leaves the browser."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Dialog, Page, Request, Route

from tests.support.browser import visit
from tests.support.dicom_files import archive_of, series, written
from tests.support.nifti_files import compressed, good
from tests.support.system import ADDRESS, System, running_system

CHUNK_BYTES = 16 * 1024**2
NAME = "DOE_JANE_1970.nii.gz"


@pytest.fixture
async def system(tmp_path: Path, redis_url: str) -> AsyncIterator[System]:
    """An installation."""
    async with running_system(tmp_path, redis_url) as running:
        yield running


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A scan under a name that tells whose it is."""
    path = tmp_path / NAME
    path.write_bytes(compressed(good()))
    return path


async def drop(page: Page, name: str, content: bytes) -> None:
    """Drop a file onto the page as a hand does."""
    transfer = await page.evaluate_handle(
        """([name, content]) => {
            const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name));
            return transfer;
        }""",
        [name, base64.b64encode(content).decode()],
    )
    await page.dispatch_event("#zone", "drop", {"dataTransfer": transfer})


async def test_what_was_chosen_and_typed_before_the_script_came_is_taken(
    system: System, browser: Browser, scan: Path
) -> None:
    """On a slow line the form can be used before its script is there."""
    has_come = asyncio.Event()

    async def hold(route: Route) -> None:
        await has_come.wait()
        await route.continue_()

    async with visit(browser, f"{system.origin}/api/docs") as opened:
        page = opened.page
        await page.evaluate("localStorage.setItem('corestream-email', 'earlier@example.org')")
        await page.route("**/upload-page.js", hold)
        await page.goto(system.origin, wait_until="commit")
        await page.set_input_files("#file", scan)
        await page.fill("#email", ADDRESS)
        has_come.set()
        await page.wait_for_selector("text=1 of 1 sent")
        assert await page.input_value("#email") == ADDRESS
        assert opened.complaints == []


async def test_dropped_and_chosen_scans_become_one_job_and_no_name_leaves_the_browser(
    system: System, browser: Browser, scan: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A wrong file is said to be wrong before it is sent, and keeps nobody else."""
    async with visit(browser, system.origin) as opened:
        page = opened.page
        await page.wait_for_selector('html[data-upload="ready"]', state="attached")
        sent: list[str] = []
        page.on(
            "request", lambda request: sent.append(f"{request.url} {request.headers} {request.post_data}")
        )
        await drop(page, "letter.pdf", b"%PDF-1.7 " + bytes(400))
        await page.wait_for_selector("text=neither a NIfTI volume")
        await page.set_input_files("#file", scan)
        await drop(page, "second.nii.gz", compressed(good()))
        await page.wait_for_selector("text=2 of 2 sent")
        assert await page.is_visible(f"text={NAME}")
        await page.fill("#email", ADDRESS)
        await page.check("#remember")
        await page.get_by_role("button", name="Submit 2 scans").click()
        await page.wait_for_url("**/jobs/*")
        await page.wait_for_selector('html[data-live="ended"]', state="attached")
        stored = await page.evaluate("JSON.stringify(localStorage)")
        assert stored == f'{{"corestream-email":"{ADDRESS}"}}'
        assert opened.complaints == []
    await system.until_idle()
    [job_id] = system.storage.job_ids()
    assert len(system.storage.read_job(job_id).scans) == 2
    kept = b"".join(path.read_bytes() for path in system.storage.root.rglob("*") if path.is_file())
    assert b"DOE_JANE" not in kept
    assert "DOE_JANE" not in "".join(capfd.readouterr())
    assert "DOE_JANE" not in "".join(sent)


async def accept(dialog: Dialog) -> None:
    """Leave a page that asks whether to."""
    await dialog.accept()


async def test_an_upload_goes_on_after_a_reload_where_it_stopped(
    system: System, browser: Browser, tmp_path: Path
) -> None:
    """The same file is recognised without its name; what had arrived is not sent again."""
    large = tmp_path / "large.nii"
    large.write_bytes(good() + bytes(CHUNK_BYTES))
    offsets: list[int] = []

    async def cut(route: Route) -> None:
        offset = route.request.headers.get("upload-offset")
        if route.request.method == "PATCH" and offset != "0":
            await route.abort()
        else:
            await route.continue_()

    def note(request: Request) -> None:
        if request.method == "PATCH":
            offsets.append(int(request.headers["upload-offset"]))

    async with visit(browser, system.origin) as opened:
        page = opened.page
        await page.route("**/api/uploads/*", cut)
        await page.set_input_files("#file", large)
        await page.wait_for_selector("text=The connection is lost; trying again")
        page.once("dialog", accept)
        await page.reload()
        await page.wait_for_selector('html[data-upload="ready"]', state="attached")
        await page.unroute("**/api/uploads/*")  # the page that was left would have gone on
        page.on("request", note)
        await page.set_input_files("#file", large)
        await page.wait_for_selector("text=1 of 1 sent")
    assert offsets == [CHUNK_BYTES]


async def test_what_the_door_refuses_is_said_at_its_row_and_can_be_removed(
    system: System, browser: Browser, scan: Path, tmp_path: Path
) -> None:
    """The others are still there to be submitted."""
    flat = tmp_path / "flat.nii"
    broken = bytearray(good())
    broken[40:42] = (2).to_bytes(2, "little")
    flat.write_bytes(bytes(broken))
    async with visit(browser, system.origin) as opened:
        page = opened.page
        await page.set_input_files("#file", [scan, flat])
        await page.get_by_role("button", name="Submit 2 scans").click()
        row = page.locator(".row", has_text="flat.nii")
        await row.locator("text=Expected").wait_for()
        await page.get_by_role("button", name="Remove flat.nii").click()
        await page.get_by_role("button", name="Submit").click()
        await page.wait_for_url("**/jobs/*")


async def test_two_files_are_sent_at_a_time_and_each_can_be_cancelled_or_tried_again(
    system: System, browser: Browser, scan: Path, tmp_path: Path
) -> None:
    """What is cancelled is taken back from the service; what failed says why; the others go on."""
    let_go = asyncio.Event()
    sizes = [CHUNK_BYTES // n for n in (2, 3, 4)]
    files = [tmp_path / f"scan-{number}.nii" for number in (1, 2, 3)]
    for file, size in zip(files, sizes, strict=True):
        file.write_bytes(good() + bytes(size))

    async def hold(route: Route) -> None:
        if route.request.method == "PATCH":
            await let_go.wait()
        await route.continue_()

    async def refuse(route: Route) -> None:
        problem = {"title": "Too large", "detail": "Expected a smaller file."}
        await route.fulfill(status=413, json=problem, content_type="application/problem+json")

    async with visit(browser, system.origin) as opened:
        page = opened.page
        await page.route("**/api/uploads/*", hold)
        first, second, third = (page.locator(".row", has_text=file.name) for file in files)
        async with page.expect_request(lambda request: request.method == "PATCH"):
            await page.set_input_files("#file", files)
        await third.locator("text=Waiting for its turn").wait_for()
        assert [await row.get_attribute("data-state") for row in (first, second)] == ["sending", "sending"]
        async with page.expect_response(lambda answer: answer.request.method == "DELETE") as taken_back:
            await page.get_by_role("button", name="Cancel scan-1.nii").click()
        assert (await taken_back.value).status == 204
        await third.locator("text=Starting").or_(third.locator("text=%")).wait_for()
        let_go.set()
        await page.wait_for_selector("text=2 of 2 sent")
        await page.unroute("**/api/uploads/*")
        await page.route("**/api/uploads", refuse)
        await page.set_input_files("#file", scan)
        failed = page.locator(".row", has_text=NAME)
        await failed.locator("text=Expected a smaller file.").wait_for()
        await page.unroute("**/api/uploads")
        await page.get_by_role("button", name=f"Retry {NAME}").click()
        await page.wait_for_selector("text=3 of 3 sent")
        await page.fill("#email", ADDRESS)
        await page.get_by_role("button", name="Submit 3 scans").click()
        await page.wait_for_url("**/jobs/*")
        assert await page.evaluate("localStorage.length") == 0
    [job_id] = system.storage.job_ids()
    assert len(system.storage.read_job(job_id).scans) == 3


async def test_scans_are_submitted_once_whatever_is_pressed_or_added_meanwhile(
    system: System, browser: Browser, scan: Path
) -> None:
    """A file that is added while the reply is under way neither submits again nor gets lost silently."""
    let_go = asyncio.Event()
    posts: list[str] = []

    async def hold(route: Route) -> None:
        posts.append(route.request.url)
        await let_go.wait()
        await route.continue_()

    async with visit(browser, system.origin) as opened:
        page = opened.page
        await page.route("**/api/jobs", hold)
        await page.set_input_files("#file", scan)
        await page.wait_for_selector("text=1 of 1 sent")
        await page.get_by_role("button", name="Submit").click()
        await page.get_by_role("button", name="Submitting …").wait_for()
        await drop(page, "second.nii.gz", compressed(good()))
        await page.wait_for_selector("text=2 of 2 sent")
        assert await page.is_disabled("#submit")
        await page.focus("#email")
        await page.keyboard.press("Enter")
        let_go.set()
        await page.wait_for_url("**/jobs/*")
        assert len(posts) == 1
    [job_id] = system.storage.job_ids()
    assert len(system.storage.read_job(job_id).scans) == 1


async def test_a_browser_that_keeps_nothing_for_sites_sends_scans_all_the_same(
    system: System, browser: Browser, scan: Path
) -> None:
    """Such a browser refuses a page to name its storage; without it, only a reload forgets."""
    refuse = """Object.defineProperty(window, "localStorage", {
        get() { throw new DOMException("Access is denied for this document.", "SecurityError"); },
    });"""
    async with visit(browser, "about:blank") as opened:
        page = opened.page
        await page.add_init_script(refuse)
        await page.goto(system.origin)
        await page.wait_for_selector('html[data-upload="ready"]', state="attached")
        await page.set_input_files("#file", scan)
        await page.wait_for_selector("text=1 of 1 sent")
        await page.get_by_role("button", name="Submit").click()
        await page.wait_for_url("**/jobs/*")
        assert opened.complaints == []


async def test_progress_is_shown_and_not_read_out(system: System, browser: Browser, tmp_path: Path) -> None:
    """A screen reader would have to read every percent; it is told of starts, ends and trouble."""
    file = tmp_path / "scan.nii"
    file.write_bytes(good() + bytes(CHUNK_BYTES))
    let_go = asyncio.Event()
    patches: list[str] = []

    async def hold_the_second(route: Route) -> None:
        if route.request.method == "PATCH":
            patches.append(route.request.url)
            if len(patches) > 1:
                await let_go.wait()
        await route.continue_()

    async with visit(browser, system.origin) as opened:
        page = opened.page
        await page.route("**/api/uploads/*", hold_the_second)
        await page.set_input_files("#file", file)
        said = page.locator(".said")
        await said.filter(has_text="%").wait_for()
        assert await said.get_attribute("aria-live") == "off"
        let_go.set()
        await said.filter(has_text="Sent.").wait_for()
        assert await said.get_attribute("aria-live") == "polite"


async def test_a_dicom_folder_is_one_scan_and_so_is_its_zip(
    system: System, browser: Browser, tmp_path: Path
) -> None:
    """The slices of a folder belong together."""
    folder = tmp_path / "DOE_JANE"
    written(series(), folder)
    archive = tmp_path / "series.zip"
    archive.write_bytes(archive_of(series(seed=1)))
    async with visit(browser, system.origin) as opened:
        page = opened.page
        await page.set_input_files("#folder", folder)
        await page.locator(".row", has_text="DICOM series, 8 files").wait_for()
        await page.set_input_files("#file", archive)
        await page.wait_for_selector("text=2 of 2 sent")
        await page.get_by_role("button", name="Submit 2 scans").click()
        await page.wait_for_url("**/jobs/*")
    [job_id] = system.storage.job_ids()
    assert len(system.storage.read_job(job_id).scans) == 2


async def test_the_sample_is_offered_where_there_is_one_and_the_form_works_without_script(
    system: System, browser: Browser, scan: Path
) -> None:
    """Trying takes one click; reading and submitting take no script."""
    async with visit(browser, system.origin, script=False) as opened:
        page = opened.page
        assert not await page.is_visible("text=Drop scans or folders here")
        await page.set_input_files("#file", scan)
        await page.click("#submit")
        await page.wait_for_url("**/jobs/*")
    system.storage.sample.write_bytes(compressed(good()))
    async with visit(browser, system.origin) as opened:
        await opened.page.get_by_role("button", name="Try a synthetic sample").click()
        await opened.page.wait_for_selector("text=1 of 1 sent")
        assert opened.complaints == []
