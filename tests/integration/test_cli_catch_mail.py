"""`corestream catch-mail` as its own process, spoken to over SMTP and HTTP."""

from __future__ import annotations

import asyncio
import signal
import smtplib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

import aiohttp
import pytest

from tests.support.axe import findings
from tests.support.browser import running_browser, visit
from tests.support.ports import free_ports
from tests.support.waiting import PATIENCE_S, eventually

ROOT = Path(__file__).parents[2]
LINK = "http://127.0.0.1:7606/r/token.of-a_job"


@dataclass(frozen=True)
class Catcher:
    """A running mail catcher."""

    process: asyncio.subprocess.Process
    smtp_port: int
    page: str
    folder: Path


@pytest.fixture
async def catcher(tmp_path: Path) -> AsyncIterator[Catcher]:
    """A mail catcher of the test's own."""
    smtp_port = free_ports(2)
    page_port = smtp_port + 1
    arguments = ["--smtp-port", str(smtp_port), "--page-port", str(page_port), "--dir", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "corestream", "catch-mail", *arguments), cwd=ROOT
    )
    caught = Catcher(process, smtp_port, f"http://127.0.0.1:{page_port}", tmp_path)

    async def answers() -> bool:
        async with aiohttp.ClientSession() as http:
            try:
                async with http.get(f"{caught.page}/readyz") as answer:
                    return answer.ok
            except aiohttp.ClientError:
                return False

    try:
        await eventually(answers)
        yield caught
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def send(port: int) -> None:
    """Send a mail as the notifier does, with a text and an HTML part."""
    message = EmailMessage()
    message["From"], message["To"] = "corestream@example.org", "researcher@example.org"
    message["Subject"] = "Result <ready>"
    message.set_content(f"Open {LINK}.\n. a line that begins with a dot\n")
    message.add_alternative(f'<script>alert(1)</script><a href="{LINK}">Open</a>', subtype="html")
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as smtp:
        assert smtp.send_message(message) == {}


async def fetch(url: str, **headers: str) -> tuple[int, str, str]:
    """Return status, Content-Security-Policy and text of a page."""
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as answer:
        return answer.status, answer.headers["Content-Security-Policy"], await answer.text()


async def test_a_mail_is_kept_listed_and_shown_with_a_link_to_click(catcher: Catcher) -> None:
    """Once the sender hears 250 the mail is on the disk, whole; its text keeps every line."""
    await asyncio.to_thread(send, catcher.smtp_port)
    (path,) = catcher.folder.glob("*")
    assert path.suffix == ".eml"
    _, _, listed = await fetch(f"{catcher.page}/")
    assert "Result &lt;ready&gt;" in listed
    _, policy, shown = await fetch(f"{catcher.page}/mails/{path.stem}")
    assert f'<a href="{LINK}"' in shown
    assert "\n. a line that begins with a dot" in shown
    assert "frame-src 'self'" in policy


async def test_list_and_mail_are_for_everybody(catcher: Catcher) -> None:
    """By keyboard from the list to the mail and back; nothing complains, light and dark, wide and narrow."""
    async with running_browser() as browser:
        async with visit(browser, catcher.page) as opened:
            assert await opened.page.is_visible("text=No mail yet")
        await asyncio.to_thread(send, catcher.smtp_port)
        for dark, width in ((False, 1280), (True, 390)):
            async with visit(browser, catcher.page, dark=dark, width=width) as opened:
                page = opened.page
                assert await findings(page) == []
                await page.focus("text=Result <ready>")
                await page.keyboard.press("Enter")
                await page.frame_locator("iframe").get_by_text("Open").wait_for()
                assert await findings(page) == []
                assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
                await page.get_by_text("All mails").click()
                await page.wait_for_selector("h1 >> text=Caught mails")
                # Chromium's own word that the mail's script was not run.
                assert all("frame is sandboxed" in said for said in opened.complaints)


async def test_the_html_of_a_mail_can_neither_run_nor_load_anything(catcher: Catcher) -> None:
    """Whoever can send a mail must not get to act in the page's name."""
    await asyncio.to_thread(send, catcher.smtp_port)
    (path,) = catcher.folder.glob("*.eml")
    _, policy, html = await fetch(f"{catcher.page}/mails/{path.stem}/html")
    assert "alert(1)" in html
    assert policy.startswith("sandbox ")
    assert "allow-scripts" not in policy
    assert "default-src 'none'" in policy


async def test_a_mail_that_is_not_there_is_not_found(catcher: Catcher) -> None:
    """Also where the name tries to leave the folder."""
    for name in ("20261122T000000000-" + "0" * 32, "..%2f..%2fetc%2fpasswd"):
        status, _, _ = await fetch(f"{catcher.page}/mails/{name}")
        assert status == 404


async def test_a_web_page_cannot_read_mails_by_a_name_that_points_here(catcher: Catcher) -> None:
    """Mails hold signed links; DNS rebinding makes any page same-origin with a server that takes any name."""
    status, _, _ = await fetch(f"{catcher.page}/", Host="evil.example")
    assert status == 403


async def test_sigterm_ends_the_catcher_in_order(catcher: Catcher) -> None:
    """It is a service like the others."""
    catcher.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(catcher.process.wait(), PATIENCE_S) == 0
