"""A Redis that can lose events is named: by every service at its start, and by `corestream doctor`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from ingest.app import build
from ingest.settings import IngestSettings
from notifier.settings import NotifierSettings
from notifier.worker import serve
from pipeline.streams import connect
from tests.support.waiting import PATIENCE_S, eventually

ROOT = Path(__file__).parents[2]
KEY = SecretStr("s" * 64)


@pytest.fixture
async def forgetful_redis(redis_url: str) -> str:
    """A Redis that evicts and keeps nothing; its address."""
    client = connect(redis_url)
    await client.config_set("maxmemory-policy", "allkeys-lru")
    await client.config_set("appendonly", "no")
    await client.aclose()
    return redis_url


@asynccontextmanager
async def running(service: str, redis_url: str, data_dir: Path) -> AsyncIterator[None]:
    """Run a service in this process."""
    if service == "ingest":
        server = TestServer(build(IngestSettings(secret_key=KEY, redis_url=redis_url, data_dir=data_dir)))
        await server.start_server()
        yield
        await server.close()
        return
    smtp_url = SecretStr("smtp://127.0.0.1:1")
    settings = NotifierSettings(secret_key=KEY, redis_url=redis_url, data_dir=data_dir, smtp_url=smtp_url)
    stop = asyncio.Event()
    task = asyncio.create_task(serve(settings, stop))
    yield
    stop.set()
    await task


@pytest.mark.parametrize("service", ["ingest", "notifier"])
async def test_a_service_warns_at_its_start(service: str, forgetful_redis: str, tmp_path: Path) -> None:
    """Each, since each may be the only one whose log is read; the processor does the same."""
    with structlog.testing.capture_logs() as lines:

        async def both_warnings() -> bool:
            return [line["event"] for line in lines].count("redis.not_durable") == 2

        async with running(service, forgetful_redis, tmp_path / "data"):
            await eventually(both_warnings)
    warnings = " ".join(line["warning"] for line in lines if line["event"] == "redis.not_durable")
    assert "found allkeys-lru" in warnings
    assert "appendonly yes" in warnings


async def test_the_doctor_says_it(forgetful_redis: str, tmp_path: Path) -> None:
    """As a note: the pipeline works, and can lose."""
    known = {"CORESTREAM_REDIS_URL": forgetful_redis, "CORESTREAM_DATA_DIR": str(tmp_path), "COLUMNS": "500"}
    done = subprocess.run(  # noqa: ASYNC221 - nothing else runs
        [sys.executable, "-m", "corestream", "doctor"],
        cwd=ROOT,
        env=os.environ | known,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    (line,) = [line for line in done.stdout.splitlines() if " Redis " in line and "version" in line]
    assert line.startswith("note")
    assert "found allkeys-lru" in line
    assert "appendonly yes" in line
