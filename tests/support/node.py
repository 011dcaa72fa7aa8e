"""Node, for the JavaScript that others use to talk to this service."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE_S

_HERE = Path(__file__).parent


@asynccontextmanager
async def running_node(script: str, *arguments: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a script of this folder; without Node or its packages, fail under CI and skip at a desk."""
    node = shutil.which("node")
    if node is None or not (_HERE.parents[1] / "node_modules/@tus/server").exists():
        message = "Expected Node and the packages of package.json: apt install nodejs npm, then npm ci"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    process = await asyncio.create_subprocess_exec(
        node, str(_HERE / script), *map(str, arguments), stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line(process: asyncio.subprocess.Process, start: str = "") -> str:
    """Return the next line of a script that starts so, without that start."""
    assert process.stdout is not None
    while text := (await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)).decode():
        if text.startswith(start):
            return text.removeprefix(start).strip()
    raise AssertionError(f"Expected a line that starts with {start!r}, the script ended before.")
