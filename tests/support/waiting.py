"""Waiting for a condition instead of for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

POLL_S = 0.01
PATIENCE_S = 120.0
"""Ends a test that hangs. It measures nothing, so it is far above what anything takes on a busy machine but
the network and the alignment; a test that is about a time says which."""
NETWORK_PATIENCE_S = 300.0
"""The same for these: loading TensorFlow alone takes a core ten seconds, if it has one."""


async def eventually(condition: Callable[[], Awaitable[object]], *, within_s: float = PATIENCE_S) -> float:
    """Return after how many seconds `condition` came true.

    Raises:
        AssertionError: It did not within `within_s`.
    """
    started = time.monotonic()
    while not await condition():
        if time.monotonic() - started > within_s:
            raise AssertionError(f"Expected a condition to hold within {within_s} s, it never did.")
        await asyncio.sleep(POLL_S)
    return time.monotonic() - started
