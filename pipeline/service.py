"""How a worker process starts and stops."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn

from pipeline.errors import ConfigurationError

CONFIGURATION_EXIT_STATUS = 2
"""Exit status of a service whose settings are wrong, as of a command that was called wrongly."""


def run_worker(work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run a worker until it ends by itself or SIGTERM or SIGINT asks it to.

    Args:
        work: Is given the event that is set when the worker is to stop, drains, and returns.
    """

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await work(stop)

    asyncio.run(main())


def exit_for(error: ConfigurationError) -> NoReturn:
    """End the process over wrong settings: words on standard error, no traceback."""
    sys.stderr.write(f"{error}\n")
    raise SystemExit(CONFIGURATION_EXIT_STATUS) from error
