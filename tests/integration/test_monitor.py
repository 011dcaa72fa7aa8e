"""The monitor page in a real Chromium over real services: who sees it, what it shows, what its buttons do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, Page

from ingest.admin import wording
from ingest.admin.access import COOKIE
from pipeline.clock import now
from pipeline.keys import PROCESSORS
from pipeline.streams import read_stats
from tests.support.browser import Visit, running_browser, visit
from tests.support.redis_server import RedisServer
from tests.support.system import ADMIN, System, running_system
from tests.support.waiting import eventually

BEARER = {"Authorization": f"Bearer {ADMIN.get_secret_value()}"}
EVERY_MS = 2000
"""How often the page renews itself."""
VARIANTS = [
    pytest.param({}, id="light"),
    pytest.param({"dark": True}, id="dark"),
    pytest.param({"width": 390, "height": 844}, id="phone"),
]

# One browser for all tests, and so one event loop; every page is opened in a fresh profile.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Chromium."""
    async with running_browser() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def system(tmp_path: Path, redis_url: str) -> AsyncIterator[System]:
    """An installation with an administrator."""
    async with running_system(tmp_path, redis_url, admin_token=ADMIN) as running:
        yield running


async def log_in(visited: Visit, token: str = ADMIN.get_secret_value()) -> Page:
    """Type the token into the form that is shown."""
    await visited.page.get_by_label("Administrator's token").fill(token)
    await visited.page.get_by_role("button", name="Log in").click()
    return visited.page


async def log_in_live(visited: Visit) -> Page:
    """Log in, and wait until the page's script renews it and sends its forms."""
    page = await log_in(visited)
    await page.locator("#live", has_text="Live").wait_for()
    return page


async def shown(page: Page, key: str) -> str:
    """Return a number of the page."""
    return await page.inner_text(f'[data-value="{key}"]')


async def refused_scan(system: System) -> dict[str, Any]:
    """Submit a scan that is refused."""
    system.network.refuses = True
    submitted = await system.submit()
    await system.until_idle()
    system.network.refuses = False
    return submitted


@pytest.mark.parametrize("how", VARIANTS)
async def test_the_numbers_of_the_page_are_redis_s(
    system: System, browser: Browser, how: dict[str, Any]
) -> None:
    """They are right when the page opens and follow what happens; nothing complains, nothing is too wide."""
    await refused_scan(system)
    system.network.let_go.clear()
    for _ in range(3):
        await system.submit()

    async def one_runs() -> bool:
        stats = await read_stats(
            system.client, stream=system.keys.scans, group=PROCESSORS, dead_stream=system.keys.dead
        )
        return (stats.waiting, stats.running, stats.dead) == (2, 1, 1)

    await eventually(one_runs)
    async with visit(browser, f"{system.origin}/monitor", **how) as visited:
        page = await log_in(visited)
        await page.wait_for_selector('[data-part="running"] tbody tr')
        assert [await shown(page, key) for key in ("waiting", "running", "dead")] == ["2", "1", "1"]
        assert system.processor in await page.inner_text('[data-part="running"]')
        assert "not-a-head" in await page.inner_text('[data-part="failures"]')
        assert await page.locator('[data-part="workers"] .badge', has_text="alive").count() == 2
        sideways = await page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
        assert sideways <= 0
        system.network.let_go.set()
        await page.wait_for_selector('[data-value="waiting"]:text-is("0")')
        await page.wait_for_selector('[data-value="last-hour"]:text-is("3")')
        assert "Network" in await page.inner_text('[data-part="stages"]')
        assert visited.complaints == []


async def test_a_dead_letter_is_retried_and_another_dropped_by_click(
    system: System, browser: Browser
) -> None:
    """Each click does what it says and says what it did; a drop shows the letter and asks first."""
    first, second = [await refused_scan(system) for _ in range(2)]
    letters = {letter.fields["job_id"]: letter.dead_id for letter in await system.dead.list()}
    async with visit(browser, f"{system.origin}/monitor") as visited:
        page = await log_in_live(visited)
        await page.locator(f'[data-letter="{letters[first["job_id"]]}"] button:text("Retry")').click()
        await page.locator("#said.fine", has_text="back in line").wait_for()
        await page.wait_for_selector('[data-value="dead"]:text-is("1")')
        drop = page.locator(f'[data-letter="{letters[second["job_id"]]}"] a:text("Drop")')
        await drop.click()
        await page.get_by_text(second["job_id"]).wait_for()
        await page.get_by_role("link", name="Keep it").click()
        await page.wait_for_selector('[data-value="dead"]:text-is("1")')
        await drop.click()
        await page.get_by_role("button", name="Drop it").click()
        await page.locator("#said.fine", has_text="deleted").wait_for()
        await page.wait_for_selector('[data-value="dead"]:text-is("0")')
        assert visited.complaints == []
    await system.until_idle()
    assert (await system.status(first))["scans"][0]["state"] == "done"
    assert (await system.status(second))["scans"][0]["state"] == "failed"
    assert await system.dead.list() == []


async def test_all_dead_letters_are_retried_by_one_click(system: System, browser: Browser) -> None:
    """After an outage nobody clicks a hundred times; what cannot be retried is said and stays."""
    first, gone = [await refused_scan(system) for _ in range(2)]
    system.storage.delete_job(gone["job_id"])
    async with visit(browser, f"{system.origin}/monitor") as visited:
        page = await log_in_live(visited)
        page.once("dialog", lambda dialog: dialog.accept())
        await page.get_by_role("button", name="Retry all").click()
        await page.locator("#said", has_text="1 of 2 are not back").wait_for()
        await page.wait_for_selector('[data-value="dead"]:text-is("1")')
        assert visited.complaints == []
    await system.until_idle()
    assert (await system.status(first))["scans"][0]["state"] == "done"


async def test_without_script_the_page_and_its_forms_work(system: System, browser: Browser) -> None:
    """Log in, retry, drop, log out by forms alone, as in a text browser; each form says what it did."""
    submitted, dropped, gone = [await refused_scan(system) for _ in range(3)]
    letters = {letter.fields["job_id"]: letter.dead_id for letter in await system.dead.list()}
    system.storage.delete_job(gone["job_id"])
    async with visit(browser, f"{system.origin}/monitor", script=False) as visited:
        page = await log_in(visited)
        await page.locator(f'[data-letter="{letters[dropped["job_id"]]}"] a:text("Drop")').click()
        await page.get_by_role("button", name="Drop it").click()
        await page.get_by_text(wording.DONE["dropped"]).wait_for()
        await page.locator(f'[data-letter="{letters[submitted["job_id"]]}"] button:text("Retry")').click()
        await page.get_by_text(wording.DONE["retried"]).wait_for()
        await page.wait_for_selector('[data-value="dead"]:text-is("1")')
        await system.until_idle()
        assert (await system.status(submitted))["scans"][0]["state"] == "done"
        await refused_scan(system)
        await page.goto(f"{system.origin}/monitor")
        await page.get_by_role("button", name="Retry all").click()
        await page.get_by_text(wording.DONE["some-retried"]).wait_for()
        await page.wait_for_selector('[data-value="dead"]:text-is("1")')
        await page.get_by_role("button", name="Log out").click()
        await page.get_by_label("Administrator's token").wait_for()
        await page.goto(f"{system.origin}/monitor")
        assert page.url.endswith("/monitor/login")


async def test_a_click_before_the_script_has_come_does_the_same(system: System, browser: Browser) -> None:
    """On a slow line the page can be seen before its script is there."""
    submitted = await refused_scan(system)
    async with visit(browser, f"{system.origin}/monitor") as visited:
        page = visited.page
        await page.route("**/monitor.js", lambda route: route.abort())
        await log_in(visited)
        await page.get_by_role("button", name="Retry").click()
        await page.get_by_text(wording.DONE["retried"]).wait_for()
    await system.until_idle()
    assert (await system.status(submitted))["scans"][0]["state"] == "done"


async def test_a_wrong_token_is_told_and_gives_no_session(system: System, browser: Browser) -> None:
    """The form is there again, with the reason."""
    async with visit(browser, f"{system.origin}/monitor") as visited:
        page = await log_in(visited, "not the token at all")
        await page.get_by_role("alert").wait_for()
        assert "Wrong token" in await page.inner_text("[role=alert]")
        assert await page.context.cookies() == []


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(
    system: System, browser: Browser
) -> None:
    """HttpOnly and SameSite=Strict, and it is not the token."""
    async with visit(browser, f"{system.origin}/monitor") as visited:
        page = await log_in(visited)
        await page.wait_for_selector('[data-part="tiles"]')
        (cookie,) = await page.context.cookies()
    assert (cookie.get("name"), cookie.get("httpOnly"), cookie.get("sameSite")) == (COOKIE, True, "Strict")
    assert ADMIN.get_secret_value() not in str(cookie.get("value"))


async def session(system: System) -> str:
    """Log in as a browser does; returns the cookie."""
    headers = {"Origin": system.origin}
    data = {"token": ADMIN.get_secret_value()}
    async with system.http.post(
        "/monitor/login", data=data, headers=headers, allow_redirects=False
    ) as answer:
        assert answer.status == 303
        return f"{COOKIE}={answer.cookies[COOKIE].value}"


@pytest.mark.parametrize(
    "elsewhere",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_another_site_cannot_use_the_session(system: System, elsewhere: dict[str, str]) -> None:
    """Even with the cookie: no retry, no drop, no login, and nothing has changed."""
    await refused_scan(system)
    (letter,) = await system.dead.list()
    cookie = await session(system)
    for method, path in (
        ("POST", f"/api/dead/{letter.dead_id}/retry"),
        ("DELETE", f"/api/dead/{letter.dead_id}"),
        ("POST", f"/monitor/dead/{letter.dead_id}/retry"),
        ("POST", f"/monitor/dead/{letter.dead_id}/drop"),
        ("POST", "/monitor/login"),
    ):
        headers = {"Cookie": cookie} | elsewhere
        async with system.http.request(method, path, headers=headers) as answer:
            assert (answer.status, (await answer.json())["code"]) == (403, "other-site")
    assert [each.dead_id for each in await system.dead.list()] == [letter.dead_id]
    own = {"Cookie": cookie, "Origin": system.origin}
    async with system.http.delete(f"/api/dead/{letter.dead_id}", headers=own) as answer:
        assert answer.status == 204


@pytest.mark.parametrize(("elsewhere", "told"), [("127.0.0.1", "other-site"), ("localhost", "401")])
async def test_a_form_on_another_page_cannot_use_the_session(
    system: System, browser: Browser, elsewhere: str, told: str
) -> None:
    """A port away the browser sends the cookie along and the request is refused; a host away it has none."""
    await refused_scan(system)
    (letter,) = await system.dead.list()

    async def trap(_request: web.Request) -> web.Response:
        action = f"{system.origin}/monitor/dead/{letter.dead_id}/drop"
        form = f'<form method="post" action="{action}"><button>You have won</button></form>'
        return web.Response(text=f"<!doctype html>{form}", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", trap)
    async with TestServer(app) as other, visit(browser, f"{system.origin}/monitor") as visited:
        page = await log_in(visited)
        await page.wait_for_selector('[data-value="dead"]:text-is("1")')
        await page.goto(str(other.make_url("/")).replace("127.0.0.1", elsewhere))
        async with page.expect_request("**/drop") as sent:
            await page.get_by_role("button", name="You have won").click()
        request = await sent.value
        assert (COOKIE in (await request.all_headers()).get("cookie", "")) == (told == "other-site")
        await page.get_by_text(told).wait_for()
    assert [each.dead_id for each in await system.dead.list()] == [letter.dead_id]


async def test_a_page_that_nobody_looks_at_asks_nothing(system: System, browser: Browser) -> None:
    """A tab that was left open over night costs nothing; looked at again, it is up to date at once."""
    async with visit(browser, f"{system.origin}/monitor") as visited:
        page = await log_in(visited)
        polls: list[str] = []
        page.on("request", lambda request: polls.append(request.url))
        async with page.expect_request("**/monitor"), page.expect_response("**/monitor"):
            pass
        await look(page, hidden=True)
        polls.clear()
        await refused_scan(system)
        await page.wait_for_timeout(2 * EVERY_MS)  # a request that must not come cannot be awaited
        assert polls == []
        await look(page, hidden=False)
        await page.wait_for_selector('[data-value="dead"]:text-is("1")', timeout=EVERY_MS)


async def look(page: Page, *, hidden: bool) -> None:
    """Let the page believe that its tab was covered or shown; Chromium without a screen covers none."""
    await page.evaluate(
        """(hidden) => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


async def test_a_dead_letter_is_dropped_by_keyboard_alone(system: System, browser: Browser) -> None:
    """Log in, reach the button by Tab, press it; that the page renews itself takes no focus away."""
    await refused_scan(system)
    (letter,) = await system.dead.list()
    async with visit(browser, f"{system.origin}/monitor") as visited:
        page = visited.page
        await page.wait_for_selector("#token:focus")  # without a click
        await page.keyboard.type(ADMIN.get_secret_value())
        await page.keyboard.press("Enter")
        await page.wait_for_selector("[data-letter]")
        while await page.evaluate("document.activeElement.id") != f"drop-{letter.dead_id}":
            await page.keyboard.press("Tab")
        await system.submit()  # changes other parts
        await page.wait_for_selector('[data-value="last-hour"]:text-is("1")')
        assert await page.evaluate("document.activeElement.id") == f"drop-{letter.dead_id}"
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Drop this dead letter?").wait_for()
        while await page.evaluate("document.activeElement.textContent") != "Drop it":
            await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.wait_for_selector('[data-value="dead"]:text-is("0")')
        assert visited.complaints == []
    assert await system.dead.list() == []


async def test_an_installation_in_which_nothing_happened_says_so(system: System, browser: Browser) -> None:
    """No row of zeros stands for what is not known."""
    async with visit(browser, f"{system.origin}/monitor") as visited:
        page = await log_in(visited)
        for part, words in {
            "day": "No scan ended in the last 24 hours",
            "running": "Nothing is running",
            "dead": "Nothing was given up",
            "stages": "No scan was done in the last 24 hours",
            "failures": "Nothing failed in the last 24 hours",
        }.items():
            assert words in await page.inner_text(f'[data-part="{part}"]')
        assert visited.complaints == []


async def test_programs_read_the_same_as_json(system: System) -> None:
    """With the token in the header; without it nothing is told."""
    await refused_scan(system)
    await system.client.zadd(system.keys.workers, {"processor:gone": now().timestamp() - 600})
    async with system.http.get("/api/monitor") as answer:
        assert answer.status == 401
    async with system.http.get("/api/monitor", headers=BEARER) as answer:
        document = await answer.json()
    queue = document["queue"]
    assert (queue["scans"]["waiting"], queue["scans"]["running"], queue["dead"]) == (0, 0, 1)
    assert queue["letters"][0]["error"].startswith("ScanRefusedError: ")
    assert document["last_day"]["failures"] == [{"code": "not-a-head", "scans": 1}]
    assert len(document["last_day"]["hours"]) == 24
    states = {worker["name"]: worker["state"] for worker in queue["workers"]}
    assert states.pop("gone") == "silent"
    assert system.processor in states
    assert set(states.values()) == {"alive"}
    assert (queue["redis"]["aof"], queue["redis"]["warnings"]) == ("ok", [])
    assert queue["redis"]["used_memory_bytes"] > 0
    assert 0 < document["disk"]["free_bytes"] < document["disk"]["total_bytes"]


async def test_while_redis_is_away_the_page_says_so_and_comes_back(
    system: System, browser: Browser, redis_server: RedisServer
) -> None:
    """What the files tell is there all the same."""
    await refused_scan(system)
    async with visit(browser, f"{system.origin}/monitor") as visited:
        page = await log_in(visited)
        await page.wait_for_selector('[data-value="dead"]:text-is("1")')
        redis_server.kill()
        await page.wait_for_selector('[data-value="redis"]:text-is("away")')
        assert await shown(page, "failed") == "1"
        redis_server.start()
        await page.wait_for_selector('[data-value="dead"]:text-is("1")')


async def test_without_a_token_the_page_says_how_to_turn_it_on(tmp_path: Path, redis_url: str) -> None:
    """Closed by default."""
    async with running_system(tmp_path, redis_url) as system:
        for path in ("/monitor", "/monitor/login", "/api/monitor"):
            async with system.http.get(path) as answer:
                problem = await answer.json()
            assert (answer.status, problem["code"]) == (403, "admin-off")
            assert "CORESTREAM_ADMIN_TOKEN" in problem["detail"]
