"""The viewer's pages in a real Chromium: what is drawn is what is in the files, and nothing complains."""

from __future__ import annotations

import gzip
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Route

from pipeline.clock import now
from pipeline.storage import JobRecord
from tests.support.browser import running_browser, visit
from tests.support.results import AFFINE, PEAK_VOXEL, REFUSAL, accepted_job, head, publish_result
from tests.support.viewing import RunningViewer, running_viewer
from viewer import result_page

VOXELS = [PEAK_VOXEL, (100, 90, 70), (115, 110, 80), (73, 91, 66), (20, 40, 60), (104, 98, 90)]
VOXELS += [
    (int(i), int(j), int(k))
    for i, j, k in np.random.default_rng(7).integers((60, 60, 50), (140, 130, 100), (20, 3))
]
VOLUMES = ("aligned.nii.gz", "saliency.nii.gz", "saliency_fixed.nii.gz")
VARIANTS = [
    pytest.param({}, id="light"),
    pytest.param({"dark": True}, id="dark"),
    pytest.param({"width": 390, "height": 844}, id="phone"),
]


# One browser for all tests, and so one event loop; every page is opened in a fresh profile.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def viewer(tmp_path: Path) -> AsyncIterator[RunningViewer]:
    """A viewer over an empty folder."""
    async with running_viewer(tmp_path) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Chromium."""
    async with running_browser() as running:
        yield running


@pytest.fixture
def job(viewer: RunningViewer) -> JobRecord:
    """A job of three scans: a result, a failure, one that waits."""
    job = accepted_job(viewer.storage, scans=3)
    publish_result(viewer.storage, job, job.scans[0].scan_id)
    viewer.storage.write_failure(job.job_id, job.scans[1].scan_id, REFUSAL)
    return job


async def value_under_crosshair(page: Page, mm: list[float], volume: int) -> float:
    """Go to a point of world space and return what Papaya says of a volume there."""
    value = await page.evaluate(
        """([mm, volume]) => {
            const container = papayaContainers[0];
            container.viewer.setCurrentScreenVol(volume);
            container.viewer.gotoWorldCoordinate(new papaya.core.Coordinate(...mm));
            return container.display.canvas.currentval;
        }""",
        [mm, volume],
    )
    return float(value)


async def ready(page: Page, volumes: int = 2) -> None:
    """Wait until Papaya has drawn so many volumes."""
    await page.wait_for_selector(f'html[data-viewer="ready"][data-volumes="{volumes}"]', state="attached")


async def range_of(page: Page, volume: int) -> list[float]:
    """Return where the grey levels or colours of a volume begin and end."""
    shown: list[float] = await page.evaluate(
        """(volume) => {
            const { screenMin, screenMax } = papayaContainers[0].viewer.screenVolumes[volume];
            return [screenMin, screenMax];
        }""",
        volume,
    )
    return shown


async def sideways(page: Page) -> int:
    """Return how many pixels a page is wider than its window."""
    return int(await page.evaluate("() => document.documentElement.scrollWidth - innerWidth"))


async def test_papaya_shows_the_values_of_the_files(
    viewer: RunningViewer, browser: Browser, job: JobRecord
) -> None:
    """At the same point of world space the page and nibabel read the same, from the scan and both maps."""
    folder = viewer.storage.result_dir(job.job_id, job.scans[0].scan_id)
    async with visit(browser, viewer.papaya(job)) as opened:
        await ready(opened.page, volumes=2)
        await opened.page.get_by_label("Fixed units").check()
        await ready(opened.page, volumes=3)
        for volume, name in enumerate(VOLUMES):
            image = nib.Nifti1Image.from_filename(folder / name)
            data = np.asanyarray(image.dataobj)
            for voxel in VOXELS:
                mm = (AFFINE @ (*voxel, 1))[:3].tolist()
                shown = await value_under_crosshair(opened.page, mm, volume)
                assert shown == pytest.approx(float(data[voxel]), rel=1e-6, abs=1e-9), (name, voxel)
        assert opened.complaints == []


async def test_papaya_opens_at_the_strongest_region_and_obeys_the_controls(
    viewer: RunningViewer, browser: Browser, job: JobRecord
) -> None:
    """Every control works by keyboard, and the button leads back to where the page began."""
    async with visit(browser, viewer.papaya(job)) as opened:
        page = opened.page
        await ready(page)
        assert await page.evaluate("() => papayaContainers[0].display.canvas.currentval") == "100"
        await page.focus("#threshold")
        await page.keyboard.press("ArrowRight")
        await page.focus("#opacity")
        await page.keyboard.press("ArrowLeft")
        await page.focus("#show")
        await page.keyboard.press("Space")
        changed = await page.evaluate(
            """() => {
                const { screenMin, alpha, hidden } = papayaContainers[0].viewer.screenVolumes[1];
                return [screenMin, alpha, hidden];
            }"""
        )
        assert changed == [11, 0.64, True]
        assert await page.text_content("#threshold-shown") == "11 %"
        assert await page.text_content("#legend-low") == "11 %"
        assert await value_under_crosshair(page, [30, 0, 0], 1) == 0
        await page.focus("#peak")
        await page.keyboard.press("Enter")
        assert await page.evaluate("() => papayaContainers[0].display.canvas.currentval") == "100"
        assert await page.get_by_role("img", name="Regions that moved the estimate").count() == 1
        assert opened.complaints == []


async def test_window_sides_and_slices_follow_their_controls(
    viewer: RunningViewer, browser: Browser, job: JobRecord
) -> None:
    """What stands under the picture is what the picture shows; what the scan does not hold is not offered."""
    async with visit(browser, viewer.papaya(job)) as opened:
        page = opened.page
        await ready(page)
        assert await page.inner_text("#map-value") == "100 %"
        assert await page.inner_text("#hu") == str(head()[PEAK_VOXEL])
        assert await page.inner_text("#at") == "\N{MINUS SIGN}32, \N{MINUS SIGN}9.5, 24.5"
        assert await range_of(page, 0) == [0, 100]
        await page.get_by_label("Brain").check()
        assert await range_of(page, 0) == [0, 80]
        await page.get_by_label("Stroke").check()
        assert await range_of(page, 0) == [20, 60]
        assert await page.get_by_label("Vessels").is_disabled()
        assert await page.is_visible("text=This scan holds no value above 100 HU")
        patients_left = """() => {
            const { mainImage } = papayaContainers[0].viewer;
            return Math.sign(mainImage.finalTransform[0][0]);
        }"""
        assert await page.evaluate(patients_left) == -1
        await page.get_by_label("Radiological").uncheck()
        assert await page.evaluate(patients_left) == 1
        await page.get_by_role("button", name="One slice up").click()
        assert (await page.inner_text("#at")).endswith(" 25.5")
        await page.get_by_role("button", name="One slice down").click()
        assert (await page.inner_text("#at")).endswith(" 24.5")
        await page.get_by_role("button", name="Full screen").click()
        await page.wait_for_selector(".viewer:fullscreen")
        assert await page.is_visible("text=Research use only >> nth=0")
        assert opened.complaints == []


async def test_the_map_in_fixed_units_has_one_scale_for_all_scans_of_a_job(
    viewer: RunningViewer, browser: Browser
) -> None:
    """Beside it the legend says the units; one map is shown at a time."""
    job = accepted_job(viewer.storage, scans=2)
    publish_result(viewer.storage, job, job.scans[0].scan_id)
    publish_result(viewer.storage, job, job.scans[1].scan_id, positive=False)
    for scan in (0, 1):
        async with visit(browser, viewer.papaya(job, scan)) as opened:
            page = opened.page
            await ready(page)
            await page.get_by_label("Percent of its maximum").focus()
            await page.keyboard.press("ArrowRight")
            await ready(page, volumes=3)
            await page.get_by_label("Fixed units").and_(page.locator(":focus:enabled")).wait_for()
            assert await range_of(page, 2) == pytest.approx([0.001, 0.02])
            assert await page.inner_text("#legend-high") == "2e\N{MINUS SIGN}2"
            hidden = "() => papayaContainers[0].viewer.screenVolumes.map((volume) => volume.hidden)"
            assert await page.evaluate(hidden) == [False, True, scan == 1]
            assert opened.complaints == []


async def test_the_aligned_scan_is_ready_within_two_seconds(
    viewer: RunningViewer, browser: Browser, job: JobRecord
) -> None:
    """Counted from the click, the best of three; on a busy machine it would measure the others."""
    if os.getloadavg()[0] > 2 * (os.cpu_count() or 1):
        pytest.skip("Expected a machine with time to spare, found one with twice the work that it can do.")
    took_ms = []
    for _ in range(3):
        async with visit(browser, viewer.papaya(job)) as opened:
            await ready(opened.page)
            took_ms.append(float(await opened.page.evaluate("performance.now()")))
    assert min(took_ms) < 2000


async def test_a_map_in_which_nothing_stands_out_is_hidden_until_asked_for(
    viewer: RunningViewer, browser: Browser
) -> None:
    """Scaled to its own maximum, noise looks like a finding."""
    job = accepted_job(viewer.storage)
    publish_result(viewer.storage, job, job.scans[0].scan_id, positive=False)
    async with visit(browser, viewer.papaya(job)) as opened:
        page = opened.page
        await ready(page)
        hidden = "() => papayaContainers[0].viewer.screenVolumes[1].hidden"
        assert await page.evaluate(hidden) is True
        assert await page.is_hidden("#peak")
        assert await page.inner_text(".finding") == "No region stands out. This does not exclude a stroke."
        await page.check("#show")
        assert await page.evaluate(hidden) is False


async def test_the_picture_can_be_moved_through_by_keyboard_alone(
    viewer: RunningViewer, browser: Browser, job: JobRecord
) -> None:
    """With the focus on the picture keys are the picture's; elsewhere they are the page's."""
    async with visit(browser, viewer.papaya(job)) as opened:
        page = opened.page
        await ready(page)
        coordinate = """() => {
            const { x, y, z } = papayaContainers[0].viewer.currentCoord;
            return [x, y, z];
        }"""
        start = await page.evaluate(coordinate)
        await page.focus("#stage")
        for key in ("ArrowUp", "ArrowRight", "PageUp"):
            await page.keyboard.press(key)
        moved = await page.evaluate(coordinate)
        assert [abs(a - b) for a, b in zip(start, moved, strict=True)] == [1, 1, 1]
        await page.focus("#threshold")
        await page.keyboard.press("ArrowUp")
        assert await page.evaluate(coordinate) == moved


@pytest.mark.parametrize("variant", VARIANTS)
async def test_no_page_complains_or_scrolls_sideways(
    viewer: RunningViewer,
    browser: Browser,
    job: JobRecord,
    variant: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No console error, no exception, no violation of the Content-Security-Policy."""
    monkeypatch.setattr(result_page, "REFRESH_S", 3600)  # one with a scan that waits would go meanwhile
    async with visit(browser, viewer.result(job), **variant) as opened:
        for details in await opened.page.query_selector_all("details"):
            await details.evaluate("(node) => { node.open = true; }")
        assert opened.complaints == []
        assert await sideways(opened.page) == 0
    async with visit(browser, viewer.papaya(job), **variant) as opened:
        await ready(opened.page)
        assert opened.complaints == []
        assert await sideways(opened.page) == 0


async def test_a_result_comes_into_the_open_page_and_takes_nothing_from_its_reader(
    viewer: RunningViewer, browser: Browser, job: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is open, chosen and half written beside it stays, and a service that is away is asked again."""
    monkeypatch.setattr("viewer.result_page.REFRESH_S", 0.2)
    asked: list[str] = []

    async def away_once(route: Route) -> None:
        asked.append(route.request.url)
        await (route.abort() if len(asked) == 1 else route.continue_())

    async with visit(browser, viewer.result(job)) as opened:
        page = opened.page
        await page.route(viewer.result(job), away_once)
        first = page.locator("#scan-1")
        await first.get_by_text("All facts").click()
        await first.get_by_label("Disagree").check()
        await first.get_by_label("Note").fill("half a sen")
        publish_result(viewer.storage, job, job.scans[2].scan_id)
        await page.locator("#scan-3").get_by_text("Ready").wait_for()
        assert await page.locator("#news").text_content() == "Scan 3 of 3: Ready."
        assert await page.evaluate("document.activeElement.value") == "half a sen"
        await page.locator("#scan-3").get_by_text("Methods text").click()
        assert await page.locator("#scan-3").get_by_role("button", name="Copy").count() == 2
        assert await page.get_by_role("row").filter(has_text="Open viewer").count() == 2
        assert await first.get_by_text("Scan SHA-256").is_visible()
        assert await first.get_by_label("Disagree").is_checked()
        assert await page.locator("[data-refresh-s]").count() == 0
    assert len(asked) >= 2


@pytest.mark.parametrize("address", ["result", "papaya"])
async def test_a_page_that_the_browser_kept_does_not_outlive_its_job(
    viewer: RunningViewer, browser: Browser, job: JobRecord, address: str
) -> None:
    """Browsers show it again when their reader goes back to it, also after the deletion."""
    async with visit(browser, getattr(viewer, address)(job)) as opened:
        viewer.storage.delete_job(job.job_id)
        await opened.page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
        await opened.page.get_by_text("No longer here").wait_for()


async def test_a_text_that_the_browser_does_not_copy_is_marked(
    viewer: RunningViewer, browser: Browser, job: JobRecord
) -> None:
    """Browsers let pages copy on secure origins alone; on others the keyboard still does."""
    async with visit(browser, viewer.result(job)) as opened:
        page = opened.page
        await page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
        await page.get_by_text("Methods text").click()
        await page.get_by_role("button", name="Copy").first.click()
        await page.get_by_role("button", name="Marked").wait_for()
        marked = await page.evaluate("getSelection().toString()")
        assert marked.startswith("The scan was processed with corestream")
        assert opened.complaints == []


async def test_a_result_on_paper_has_what_is_folded_and_nothing_to_press(
    viewer: RunningViewer, browser: Browser, job: JobRecord
) -> None:
    """Light on every screen; facts and methods are part of it."""
    async with visit(browser, viewer.result(job), dark=True) as opened:
        page = opened.page
        assert not await page.get_by_text("Scan SHA-256").is_visible()
        await page.emulate_media(media="print")
        for text in ("Scan SHA-256", "The scan was processed with corestream", "Typical error ± 10.5 ml"):
            assert await page.get_by_text(text).first.is_visible()
        for role in ("button", "textbox", "radio"):
            assert await page.get_by_role(role).filter(visible=True).count() == 0
        ink = await page.evaluate("getComputedStyle(document.body).color")
        assert ink == "rgb(23, 33, 43)"


async def test_the_map_is_saved_as_it_lies_on_the_disk(
    viewer: RunningViewer, browser: Browser, job: JobRecord, tmp_path: Path
) -> None:
    """Compressed, and under a name that tells nothing of the patient."""
    async with visit(browser, viewer.result(job)) as opened:
        async with opened.page.expect_download() as saving:
            await opened.page.get_by_role("link", name="Saliency map", exact=True).click()
        saved = await saving.value
        scan_id = job.scans[0].scan_id
        assert saved.suggested_filename == f"corestream-{scan_id[:8]}-saliency.nii.gz"
        await saved.save_as(tmp_path / "saved.nii.gz")
        original = viewer.storage.result_dir(job.job_id, scan_id) / "saliency.nii.gz"
        assert (tmp_path / "saved.nii.gz").read_bytes() == original.read_bytes()


async def test_a_refused_link_shows_a_page_in_words(viewer: RunningViewer, browser: Browser) -> None:
    """It says where to submit anew; the browser's own note of the status is the only complaint."""
    old = accepted_job(viewer.storage, links_expire_at=now() - timedelta(seconds=1))
    async with visit(browser, viewer.result(old)) as opened:
        assert await opened.page.text_content("h1") == "Link expired"
        assert len(opened.complaints) == 1
        assert "410" in opened.complaints[0]
        onward = opened.page.get_by_role("link", name="To the start page")
        assert await onward.get_attribute("href") == viewer.settings.public_url


async def test_a_damaged_volume_is_said_in_words(
    viewer: RunningViewer, browser: Browser, job: JobRecord
) -> None:
    """Papaya alone would wait for ever on a cut-off file."""
    path = viewer.storage.result_dir(job.job_id, job.scans[0].scan_id) / "saliency.nii.gz"
    path.write_bytes(path.read_bytes()[:2000])
    async with visit(browser, viewer.papaya(job)) as opened:
        await opened.page.wait_for_selector('html[data-viewer="error"]', state="attached")
        said = await opened.page.text_content("#message")
        assert said == "The saliency map arrived incomplete or damaged. Reload the page to fetch it again."


async def test_a_volume_too_large_for_a_browser_is_said_before_it_is_fetched(
    viewer: RunningViewer, browser: Browser, job: JobRecord
) -> None:
    """Its header says its size; a tab that dies says nothing."""
    header = nib.Nifti1Header()
    header.set_data_shape((1024, 1024, 1000))
    header.set_data_dtype(np.int16)
    path = viewer.storage.result_dir(job.job_id, job.scans[0].scan_id) / "aligned.nii.gz"
    path.write_bytes(gzip.compress(header.binaryblock + bytes(10_000)))
    async with visit(browser, viewer.papaya(job)) as opened:
        await opened.page.wait_for_selector('html[data-viewer="error"]', state="attached")
        said = await opened.page.text_content("#message")
        assert said == (
            "The scan is too large for this browser: 2000 MiB unpacked. "
            "Download it from the result page and open it in a desktop viewer."
        )


async def test_a_job_deleted_under_an_open_page_is_said_in_words(
    viewer: RunningViewer, browser: Browser, job: JobRecord
) -> None:
    """The words are the service's own."""
    async with visit(browser, viewer.papaya(job)) as opened:
        viewer.storage.delete_job(job.job_id)
        await opened.page.evaluate(
            """async () => {
                const { fetchVolumes } = await import('/assets/volumes.js');
                const settings = JSON.parse(document.getElementById('settings').textContent);
                const fetched = fetchVolumes(settings.volumes, () => {});
                document.title = await fetched.catch((error) => error.message);
            }"""
        )
        assert "deleted after its retention time or on request" in await opened.page.title()


async def test_without_script_the_result_is_all_there(
    viewer: RunningViewer, browser: Browser, job: JobRecord
) -> None:
    """Only Papaya needs script, and says so."""
    async with visit(browser, viewer.result(job), script=False) as opened:
        assert await opened.page.is_visible("text=23.5")
        assert await opened.page.is_visible("time >> text=UTC")
    async with visit(browser, viewer.papaya(job), script=False) as opened:
        assert "The viewer needs JavaScript" in (await opened.page.text_content("noscript") or "")
