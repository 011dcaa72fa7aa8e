"""A processor that is told to stop does, whatever it is waiting for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.support.ports import free_ports
from tests.support.processes import children
from tests.support.waiting import NETWORK_PATIENCE_S, eventually


@pytest.fixture
def metrics_port() -> int:
    """Where it tells of itself."""
    return free_ports()


@pytest.fixture
def processor(tmp_path: Path, metrics_port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A processor that warms up, and whose Redis is not there."""
    port = free_ports()
    settings = {
        "CORESTREAM_REDIS_URL": f"redis://127.0.0.1:{port}/0",
        "CORESTREAM_DATA_DIR": str(tmp_path),
        "CORESTREAM_SECRET_KEY": "k" * 32,
        "CORESTREAM_LOG_FORMAT": "json",
        "CORESTREAM_METRICS_PORT": str(metrics_port),
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "processor"], env=os.environ | settings, stdout=log, stderr=log
        )
    yield process
    process.kill()
    process.wait()


async def test_sigterm_ends_a_processor_that_is_loading_its_network(
    processor: subprocess.Popen[bytes],
) -> None:
    """A start that turns out to be a mistake need not be waited for."""

    async def loading() -> bool:
        return bool(children(processor.pid))

    await eventually(loading)
    await _assert_stops(processor)


async def test_sigterm_ends_a_processor_whose_redis_is_away(
    processor: subprocess.Popen[bytes], tmp_path: Path, metrics_port: int
) -> None:
    """Waiting for Redis is no reason to stay; it says what it waits for, and logs nothing but JSON."""

    async def waiting() -> bool:
        return b"stream.unavailable" in (tmp_path / "log").read_bytes()

    await eventually(waiting, within_s=NETWORK_PATIENCE_S)
    async with ClientSession(f"http://127.0.0.1:{metrics_port}") as http:
        async with http.get("/readyz") as answer:
            assert answer.status == 503
            checks = (await answer.json())["checks"]
        async with http.get("/metrics") as answer:
            assert "corestream_scan_seconds" in await answer.text()
    assert checks["network"] == "ok"
    assert "Expected Redis to answer" in checks["redis"]
    await _assert_stops(processor)
    records = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {record["service"] for record in records} == {"processor"}


async def _assert_stops(processor: subprocess.Popen[bytes]) -> None:
    processor.send_signal(signal.SIGTERM)

    async def stopped() -> bool:
        return processor.poll() is not None

    await eventually(stopped)
    assert processor.returncode == 0
