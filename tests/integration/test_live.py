"""Jobs as Server-Sent Events, and the page that follows them: nothing missed or twice, few connections."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout, FormData, TCPConnector
from playwright.async_api import Route

from ingest.settings import IngestSettings
from pipeline.events import ScanProcessed
from pipeline.jobs import Jobs
from pipeline.storage import JobRecord
from pipeline.streams import connect
from tests.support.browser import running_browser, visit
from tests.support.nifti_files import compressed, good
from tests.support.ports import free_ports
from tests.support.results import WARNING, accepted_job, publish_result
from tests.support.system import ADDRESS, SECRET, System, running_system
from tests.support.waiting import PATIENCE_S, eventually

PAGES = 300
MOST_CONNECTIONS = 30


@pytest.fixture
async def system(tmp_path: Path, redis_url: str) -> AsyncIterator[System]:
    """An installation."""
    async with running_system(tmp_path, redis_url) as running:
        yield running


def page_of(system: System, submitted: dict[str, Any]) -> str:
    """Return the address of a job's page on the port of this test."""
    token = submitted["status_url"].partition("token=")[2]
    return f"{system.origin}/jobs/{submitted['job_id']}?token={token}"


async def events(
    http: ClientSession, submitted: dict[str, Any], *, last: str | None = None, **query: str
) -> list[dict[str, Any]]:
    """Follow a job until its end; return the events, each with `id`, `event` and `data`."""
    token = submitted["status_url"].partition("token=")[2]
    headers = {"Last-Event-ID": last} if last else {}
    url = f"/api/jobs/{submitted['job_id']}/events"
    async with http.get(url, params={"token": token} | query, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "text/event-stream"
        text = await answer.text()
    blocks = [
        dict(line.split(": ", 1) for line in b.split("\r\n") if ": " in line) for b in text.split("\r\n\r\n")
    ]
    return [block | {"data": json.loads(block["data"])} for block in blocks if "data" in block]


async def test_a_job_is_followed_from_its_beginning_or_from_where_a_client_was_cut_off(
    system: System,
) -> None:
    """Ids are those of the timeline; the header of a browser that comes back wins over its page's address."""
    submitted = await system.submit(email=ADDRESS)
    seen = await events(system.http, submitted)
    moments = [event for event in seen if event["event"] == "moment"]
    assert [m["data"]["what"] for m in moments] == [
        "received", "waiting", "detecting", "done", "finished", "mail sent",
    ]  # fmt: skip
    assert seen[-1]["event"] == "end"
    assert "id" not in seen[-1]
    later = await events(system.http, submitted, last=moments[2]["id"], **{"from": moments[4]["id"]})
    assert [e["id"] for e in later if e["event"] == "moment"] == [m["id"] for m in moments[3:]]
    shown = await events(system.http, submitted, **{"from": moments[4]["id"]})
    assert [e["id"] for e in shown if e["event"] == "moment"] == [moments[5]["id"]]


async def test_a_position_that_is_none_is_refused_and_a_job_that_is_gone_ends_the_following(
    system: System,
) -> None:
    """After 204 browsers do not come back."""
    submitted = await system.submit()
    token = submitted["status_url"].partition("token=")[2]
    url = f"/api/jobs/{submitted['job_id']}/events"
    for position in ("$", "1", "\u0661-\u0660"):
        async with system.http.get(url, params={"token": token, "from": position}) as answer:
            assert answer.status == 400
            assert (await answer.json())["code"] == "position-invalid"
    async with system.http.get(url) as answer:
        assert answer.status == 401
    system.storage.delete_job(submitted["job_id"])
    async with system.http.get(url, params={"token": token}) as answer:
        assert answer.status == 204


async def test_a_deleted_job_ends_its_open_pages(system: System) -> None:
    """Whoever looks at it is told at once."""
    system.network.let_go.clear()
    submitted = await system.submit()
    token = submitted["status_url"].partition("token=")[2]
    url = f"/api/jobs/{submitted['job_id']}"
    async with system.http.get(f"{url}/events", params={"token": token}) as following:
        assert b"hello" in await following.content.readuntil(b"\r\n\r\n")
        async with system.http.delete(url, params={"token": token}) as answer:
            assert answer.status == 200
        last = (await asyncio.wait_for(following.text(), PATIENCE_S)).strip().split("\r\n\r\n")[-1]
    assert last == 'event: end\r\ndata: {"state": "gone"}'


async def test_hundreds_of_open_pages_need_few_connections_to_redis(system: System) -> None:
    """A page costs Redis nothing while nothing happens, and all hear of what does."""
    system.network.let_go.clear()
    submitted = await system.submit()
    connector, timeout = TCPConnector(limit=0), ClientTimeout(total=None)
    async with ClientSession(system.origin, connector=connector, timeout=timeout) as http:
        following = [asyncio.create_task(events(http, submitted)) for _ in range(PAGES)]

        async def all_open() -> bool:
            return len(connector._acquired) == PAGES

        await eventually(all_open)
        system.network.let_go.set()
        ended = await asyncio.gather(*following)
        assert len(await system.client.client_list()) <= MOST_CONNECTIONS
    for seen in ended:
        assert [e["data"]["what"] for e in seen if e["event"] == "moment"][-1] == "finished"


async def test_an_open_page_follows_its_scan_to_the_result(system: System) -> None:
    """Without a reload, in words that are read out, without a complaint."""
    system.network.let_go.clear()
    submitted = await system.submit(email=ADDRESS)
    async with running_browser() as browser, visit(browser, page_of(system, submitted)) as opened:
        page = opened.page
        await page.wait_for_selector('html[data-live="open"]', state="attached")
        await page.wait_for_selector('[data-state="detecting"]')
        await page.evaluate("window.loadedOnce = true")
        system.network.let_go.set()
        await page.wait_for_selector('[data-state="done"]')
        await page.wait_for_selector('html[data-live="ended"]', state="attached")
        assert await page.inner_text("#note") == "Your scan is ready"
        assert await page.is_visible("text=Mail sent")
        assert await page.is_visible("text=23.5")
        assert await page.is_visible("text=Typical error ± 10.5 ml, as RMSE on scans outside its training.")
        assert await page.is_visible(
            "text=Regions that moved the estimate are shown on the side where they are darker, the left."
        )
        assert await page.is_visible(f"text={WARNING}")
        await page.locator(".picture").first.evaluate("(picture) => picture.decode()")
        await page.get_by_text("Alignment", exact=True).click()
        await page.get_by_role("img", name="outlines over it").wait_for()
        async with page.expect_download() as saving:
            await page.get_by_role("link", name="All as one zip").click()
        assert (await saving.value).suggested_filename == f"corestream-{submitted['job_id'][:8]}.zip"
        assert await page.evaluate("window.loadedOnce") is True
        assert opened.complaints == []


async def test_a_page_comes_back_from_an_answer_that_browsers_take_for_the_last_word(
    system: System,
) -> None:
    """A proxy in front answers 502 while ingest restarts, and browsers then follow no more by themselves."""
    system.network.let_go.clear()
    submitted = await system.submit()
    answered: list[int] = []

    async def away_once(route: Route) -> None:
        answered.append(502 if not answered else 200)
        await (route.fulfill(status=502) if len(answered) == 1 else route.continue_())

    async with running_browser() as browser, visit(browser, "about:blank") as opened:
        page = opened.page
        await page.route("**/events?*", away_once)
        await page.goto(page_of(system, submitted))
        # At once, since it comes back by itself in a few seconds.
        await page.wait_for_selector(
            'html[data-live="lost"] #note:has-text("trying again")', state="attached"
        )
        await page.wait_for_selector('html[data-live="open"]', state="attached")
        system.network.let_go.set()
        await page.wait_for_selector('[data-state="done"]')
        await page.wait_for_selector('html[data-live="ended"]', state="attached")
    assert answered == [502, 200]


async def test_a_page_whose_last_look_failed_does_not_take_that_for_the_end(system: System) -> None:
    """It would say for ever that the scan is in progress."""
    system.network.let_go.clear()
    submitted = await system.submit()

    async def away(route: Route) -> None:
        await route.abort()

    async with running_browser() as browser, visit(browser, page_of(system, submitted)) as opened:
        page = opened.page
        await page.wait_for_selector('html[data-live="open"]', state="attached")
        await page.route(page.url, away)
        system.network.let_go.set()
        await page.wait_for_selector('html[data-live="lost"]', state="attached")
        assert await page.locator('[data-state="done"]').count() == 0
        await page.unroute(page.url)
        await page.wait_for_selector('[data-state="done"]')
        await page.wait_for_selector('html[data-live="ended"]', state="attached")


async def test_a_page_that_nobody_looks_at_holds_no_connection(system: System) -> None:
    """Browsers have six to a host: with seven pages of jobs open, nothing more of it would open."""
    system.network.let_go.clear()
    submitted = await system.submit()
    turn = """(hidden) => {
        Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    async with running_browser() as browser, visit(browser, page_of(system, submitted)) as opened:
        page = opened.page
        await page.wait_for_selector('html[data-live="open"]', state="attached")
        async with page.expect_event("requestfailed", lambda request: "/events?" in request.url):
            await page.evaluate(turn, True)
        await page.wait_for_selector('html[data-live="resting"]', state="attached")
        system.network.let_go.set()
        await system.until_idle()
        assert await page.locator('[data-state="done"]').count() == 0
        await page.evaluate(turn, False)
        await page.wait_for_selector('[data-state="done"]')
        await page.wait_for_selector('html[data-live="ended"]', state="attached")
        assert opened.complaints == []


async def test_of_several_scans_the_page_says_how_many_stand_where(system: System) -> None:
    """It is read out, so it is one short sentence for any number of scans."""
    system.network.let_go.clear()
    await system.submit()
    data = FormData()
    for _ in range(3):
        data.add_field("file", compressed(good()), filename="scan.nii.gz")
    async with system.http.post("/api/jobs", data=data) as answer:
        submitted = await answer.json()
    async with system.http.get(page_of(system, submitted), headers={"Accept": "text/html"}) as answer:
        text = " ".join((await answer.text()).split())
    assert "data-summary> 3 waiting, the first at place 1 in line. You can close this page" in text


async def test_a_scan_whose_detection_broke_down_is_tried_again_by_its_submitter(system: System) -> None:
    """The job's token is enough; what is in the file is not mended by trying; enough is enough."""
    submitted = await system.submit()
    await system.until_idle()
    job = system.storage.read_job(submitted["job_id"])
    assert await retry_status(system, submitted, job) == 409
    system.network.breaks = system.settings.max_deliveries
    broken = await system.submit()
    await system.until_idle()
    async with running_browser() as browser, visit(browser, page_of(system, broken)) as opened:
        assert await opened.page.is_visible("text=The detection failed")
        await opened.page.get_by_role("button", name="Try again").click()
        await opened.page.wait_for_selector('[data-state="done"]')
        assert opened.complaints == []
    system.network.refuses = True
    refused = await system.submit()
    await system.until_idle()
    assert await retry_status(system, refused, system.storage.read_job(refused["job_id"])) == 409


async def retry_status(system: System, submitted: dict[str, Any], job: JobRecord) -> int:
    """Ask for a retry; return the status of the answer."""
    token = system.settings.tokens.issue(job.job_id, job.links_expire_at)
    url = f"/api/jobs/{submitted['job_id']}/scans/{job.scans[0].scan_id}/retry"
    async with system.http.post(url, params={"token": token}) as answer:
        return answer.status


@contextmanager
def ingest(folder: Path, redis_url: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m ingest` on a port until the block ends, if it is not dead by then."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ingest"],
        env=os.environ
        | {
            "CORESTREAM_SECRET_KEY": SECRET.get_secret_value(),
            "CORESTREAM_REDIS_URL": redis_url,
            "CORESTREAM_DATA_DIR": str(folder),
            "CORESTREAM_INGEST_PORT": str(port),
        },
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE_S)


async def test_a_page_outlives_a_killed_ingest(tmp_path: Path, redis_url: str) -> None:
    """It says that the connection is lost, comes back by itself, and shows what happened meanwhile."""
    settings = IngestSettings(secret_key=SECRET, redis_url=redis_url, data_dir=tmp_path)
    client = connect(redis_url)
    jobs = Jobs(client, settings.keys)
    job = accepted_job(settings.storage)
    scan_id = job.scans[0].scan_id
    await jobs.enqueue(job, settings.storage)
    port = free_ports()
    url = f"http://127.0.0.1:{port}"

    async def ready() -> bool:
        try:
            async with ClientSession() as http, http.get(f"{url}/readyz") as answer:
                return answer.status == 200
        except ClientError:
            return False

    token = settings.tokens.issue(job.job_id, job.links_expire_at)
    async with running_browser() as browser:
        with ingest(tmp_path, redis_url, port) as first:
            await eventually(ready)
            async with visit(browser, f"{url}/jobs/{job.job_id}?token={token}") as opened:
                page = opened.page
                await page.wait_for_selector('html[data-live="open"]', state="attached")
                first.kill()
                await page.wait_for_selector('html[data-live="lost"]', state="attached")
                assert "trying again" in await page.inner_text("#note")
                assert await page.evaluate("document.getElementById('note').offsetHeight") > 1
                publish_result(settings.storage, job, scan_id)
                done = ScanProcessed(job_id=job.job_id, scan_id=scan_id, path="result")
                await jobs.scan_ended(done).run(client)
                with ingest(tmp_path, redis_url, port):
                    await eventually(ready)
                    await page.wait_for_selector('[data-state="done"]')
                    await page.wait_for_selector('html[data-live="ended"]', state="attached")
    await client.aclose()
