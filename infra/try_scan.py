"""Submit a synthetic scan to the published ports, wait for result and e-mail, open the viewer in Chromium.

The part of infra/try-with-podman that looks at a running installation from outside, as a user does.
"""
# ruff: noqa: INP001, T201 - a script, and it prints what it sees

from __future__ import annotations

import asyncio
import html
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tests.support.browser import running_browser, visit

INGEST = "http://127.0.0.1:7605"
MAILS = "http://127.0.0.1:7607"
RESULT_TIMEOUT_S = 600.0
MAIL_TIMEOUT_S = 60.0
VIEWER_TIMEOUT_S = 120.0
POLL_S = 0.2
SCREENSHOT = Path(".local/podman/viewer.png")

T = TypeVar("T")


def make_scan(folder: Path) -> Path:
    """Write a synthetic volume and return its path."""
    command = [sys.executable, "-m", "corestream", "sample", str(folder), "--count", "1"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command
    return next(folder.glob("*.nii.gz"))


def submit(scan: Path) -> dict[str, Any]:
    """Submit a scan with curl, as the README says, and return the reply."""
    command = ["curl", "--silent", "--show-error", "--fail-with-body"]
    command += ["-F", f"file=@{scan}", "-F", "email=researcher@example.org", f"{INGEST}/api/jobs"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - curl, our file
    reply: dict[str, Any] = json.loads(answer.stdout)
    return reply


def fetch(url: str) -> str:
    """Return the text at an address."""
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - an address of the trial
        text: str = answer.read().decode()
        return text


def wait_for(what: str, find: Callable[[], T | None], timeout_s: float) -> T:
    """Return what `find` finds, asking until it does.

    Raises:
        SystemExit: It found nothing in time.
    """
    deadline = time.monotonic() + timeout_s
    while (found := find()) is None:
        if time.monotonic() > deadline:
            raise SystemExit(f"Expected {what} within {timeout_s:g} s, there was none.")
        time.sleep(POLL_S)
    return found


def finished(status_url: str) -> dict[str, Any] | None:
    """Return the state of a job that has ended, else None."""
    job: dict[str, Any] = json.loads(fetch(status_url))
    return job if job["state"] == "finished" else None


def mailed_link(job: dict[str, Any]) -> str | None:
    """Return the link of the mail that announces a job, or None while there is no such mail."""
    for path in re.findall(r'href="(/mails/[^"/]+)"', fetch(f"{MAILS}/")):
        links = re.findall(r'https?://[^\s<>"]+', html.unescape(fetch(f"{MAILS}{path}")))
        if job["result_url"] in links:
            return str(job["result_url"])
    return None


async def look(link: str, viewer_url: str) -> None:
    """Open the mailed link, then the viewer, and say what a reader sees there.

    Raises:
        SystemExit: A page complains.
    """
    async with running_browser() as browser:
        async with visit(browser, link) as result:
            print(f"result page: {await result.page.title()}")
        async with visit(browser, viewer_url) as viewer:
            ready = 'html[data-viewer="ready"][data-volumes="2"]'
            await viewer.page.wait_for_selector(ready, timeout=VIEWER_TIMEOUT_S * 1000)
            value = await viewer.page.evaluate("papayaContainers[0].display.canvas.currentval")
            print(f"viewer: ready with 2 volumes, map under the crosshair {value}")
            await viewer.page.screenshot(path=SCREENSHOT)
            print(f"screenshot: {SCREENSHOT}")
    if complaints := [*result.complaints, *viewer.complaints]:
        raise SystemExit(f"Expected pages without complaints, found {complaints}.")


def main() -> None:
    """Run the trial; exit status 0 only if everything came."""
    with tempfile.TemporaryDirectory() as folder:
        scan = make_scan(Path(folder))
        started = time.monotonic()
        reply = submit(scan)
        print(f"accepted after {time.monotonic() - started:.1f} s: job {reply['job_id']}")
    job = wait_for("a result", lambda: finished(reply["status_url"]), RESULT_TIMEOUT_S)
    print(f"finished after {time.monotonic() - started:.1f} s")
    (scan_state,) = job["scans"]
    if scan_state["state"] != "done":
        raise SystemExit(f"Expected a result, received {scan_state}.")
    report = scan_state["report"]
    print(f"core estimate {report['core_estimate']}\nsaliency {report['saliency']}")
    link = wait_for("a mail with the result's link", lambda: mailed_link(job), MAIL_TIMEOUT_S)
    print(f"mail after {time.monotonic() - started:.1f} s")
    asyncio.run(look(link, scan_state["viewer_url"]))


if __name__ == "__main__":
    main()
