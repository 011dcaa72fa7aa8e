"""What goes on beside the requests of ingest."""

from __future__ import annotations

import asyncio

import structlog

from ingest.app import _say_if_broken


async def test_work_that_breaks_off_is_logged_at_once() -> None:
    """Not only when the service ends: until then nobody would know that, say, no folder is watched."""

    async def broken() -> None:
        raise OSError("no more watches")

    with structlog.testing.capture_logs() as lines:
        task = asyncio.create_task(broken(), name="DropFolder.run")
        task.add_done_callback(_say_if_broken)
        await asyncio.wait({task})
        await asyncio.sleep(0)  # the callback has its turn
    assert [(line["event"], line["work"]) for line in lines] == [
        ("ingest.background_ended", "DropFolder.run")
    ]
