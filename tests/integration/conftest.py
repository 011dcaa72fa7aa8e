"""The real servers that integration tests run against."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from playwright.async_api import Browser

from tests.support.browser import running_browser
from tests.support.ports import free_ports
from tests.support.redis_server import RedisServer, running_redis


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Let Ctrl-C reach what tests start; a shell has what it runs in the background ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def plain_tracebacks() -> Iterator[None]:
    """Log without structlog's boxes of local variables, which stop the event loop for half a second."""
    renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, renderer]
    )
    yield
    structlog.reset_defaults()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A Chromium of the test's own."""
    async with running_browser() as running:
        yield running


@pytest.fixture
def unused_tcp_port() -> int:
    """Of this worker alone; pytest-asyncio's own may be given to two."""
    return free_ports()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """An empty Redis of the test's own."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with running_redis(folder) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Its address."""
    return redis_server.url
