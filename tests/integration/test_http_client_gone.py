"""A client that goes away in the middle of an answer."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest
import structlog
from aiohttp import ClientSession, web
from pydantic import SecretStr

from pipeline.web.app import is_our_fault
from tests.support.results import accepted_job, publish_result
from tests.support.waiting import eventually
from viewer.app import build
from viewer.settings import ViewerSettings


async def test_a_download_that_is_broken_off_is_no_fault_of_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says so, the audit log keeps it; no traceback, and no refusal is counted."""
    settings = ViewerSettings(data_dir=tmp_path, secret_key=SecretStr("s" * 64))
    storage = settings.storage
    storage.create_folders()
    job = accepted_job(storage)
    publish_result(storage, job, job.scans[0].scan_id)
    large = storage.result_dir(job.job_id, job.scans[0].scan_id) / "aligned.nii.gz"
    large.write_bytes(os.urandom(64 * 1024**2))  # more than fits between server and client
    runner = web.AppRunner(
        build(settings), access_log=None
    )  # aiohttp's TestServer cancels the handler instead
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    try:
        with structlog.testing.capture_logs() as lines, caplog.at_level(logging.ERROR):
            reader, writer = await asyncio.open_connection(host, port)
            token = settings.links(job).token
            writer.write(f"GET /r/{token}/all.zip HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await reader.readexactly(100_000)
            writer.transport.abort()

            async def noticed() -> bool:
                return any(line["event"].startswith("http.") for line in lines)

            await eventually(noticed)
        assert [line["event"] for line in lines if line["event"].startswith("http.")] == ["http.client_gone"]
        assert not any(is_our_fault(record) for record in caplog.records)
        assert '"connection-lost"' in (storage.audit / "audit.jsonl").read_text()
        async with ClientSession() as http, http.get(f"http://{host}:{port}/metrics") as answer:
            assert "internal-error" not in await answer.text()
    finally:
        await runner.cleanup()
