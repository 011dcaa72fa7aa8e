"""A real Chromium for a test, which keeps everything a page complains of."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

from tests.support.waiting import PATIENCE_S

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--no-sandbox",  # tests may run as root in a container, where the sandbox cannot
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Visit:
    """A page and its complaints.

    Attributes:
        page: What playwright drives.
        complaints: Console errors and warnings (violations of the Content-Security-Policy are among them)
            and uncaught exceptions, in words.
    """

    page: Page
    complaints: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Collect from now on."""
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.type}: {message.text}")


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Run Chromium from PATH; without one, fail under CI and skip at a desk."""
    binary = next(filter(None, map(shutil.which, _NAMES)), None)
    if binary is None:
        message = f"Expected one of {', '.join(_NAMES)} on PATH: apt install chromium"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=binary, args=list(_FLAGS), timeout=PATIENCE_S * 1000
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def visit(
    browser: Browser,
    url: str,
    *,
    width: int = 1280,
    height: int = 900,
    dark: bool = False,
    script: bool = True,
) -> AsyncIterator[Visit]:
    """Open a page in a fresh profile.

    Args:
        browser: From `running_browser`.
        url: Where to go.
        width: Of the window, CSS pixels.
        height: The same.
        dark: Whether the reader prefers dark pages.
        script: Whether the reader allows JavaScript.
    """
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        java_script_enabled=script,
    )
    context.set_default_timeout(PATIENCE_S * 1000)
    try:
        opened = Visit(await context.new_page())
        opened.listen()
        await opened.page.goto(url)
        yield opened
    finally:
        await context.close()
