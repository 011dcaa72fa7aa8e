"""Run a planned installation until it is told to stop, or cannot go on."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import IO, TypeVar

import aiohttp
import structlog

from corestream.up.plan import Plan
from corestream.up.supervisor import Supervisor

log = structlog.get_logger()
ResultT = TypeVar("ResultT")

_POLL_S = 0.2
_SAY_WHY_EVERY_S = 15
_ANSWER_TIMEOUT_S = 5


async def run(
    plan: Plan, body: Callable[[], Awaitable[ResultT]], output: IO[bytes] | None = None
) -> ResultT | None:
    """Start every service, do something once they are ready, and stop them.

    A first SIGTERM, SIGINT or SIGHUP stops: services finish what they are at. A second one kills.

    Args:
        plan: What to run.
        body: Is called when every service is ready; its end is the end of the installation.
        output: Where services write; None for where this process does.

    Returns:
        What the body returned, or None where it was stopped before.

    Raises:
        ConfigurationError: A service refuses its settings; it has said why on standard error.
        OSError: A program could not be started.
    """
    stop = asyncio.Event()
    async with Supervisor(plan.services, output) as supervisor:

        def on_signal() -> None:
            if stop.is_set():
                supervisor.hurry()
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, on_signal)
        main = asyncio.create_task(_when_ready(plan, body))
        others = [asyncio.create_task(supervisor.failed()), asyncio.create_task(stop.wait())]
        done, pending = await asyncio.wait((main, *others), return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        if stop.is_set():
            log.info("up.stopping", hint="again to kill what does not end by itself")
        for task in done:
            task.result()
        return main.result() if main in done else None


async def _when_ready(plan: Plan, body: Callable[[], Awaitable[ResultT]]) -> ResultT:
    await _wait_until_ready(plan.readiness_urls)
    return await body()


async def _wait_until_ready(urls: Mapping[str, str]) -> None:
    """Return once every service answers that it can work; say now and then what is waited for."""
    timeout = aiohttp.ClientTimeout(total=_ANSWER_TIMEOUT_S)
    # trust_env stays off: a proxy has no business between services of one machine.
    async with aiohttp.ClientSession(timeout=timeout) as http:
        await asyncio.gather(*(_wait_for(http, name, url) for name, url in urls.items()))


async def _wait_for(http: aiohttp.ClientSession, name: str, url: str) -> None:
    loop = asyncio.get_running_loop()
    say_at_s = loop.time() + _SAY_WHY_EVERY_S
    while why := await _why_not_ready(http, url):
        if loop.time() > say_at_s:
            log.warning("up.waiting", child=name, why=why)
            say_at_s = loop.time() + _SAY_WHY_EVERY_S
        await asyncio.sleep(_POLL_S)


async def _why_not_ready(http: aiohttp.ClientSession, url: str) -> str | None:
    try:
        async with http.get(url) as answer:
            return None if answer.ok else await answer.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        return str(error) or type(error).__name__
