"""The upload service that tests of resumable uploads talk to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from ingest.app import build
from ingest.settings import IngestSettings


@pytest.fixture
def settings(tmp_path: Path, redis_url: str, unused_tcp_port: int) -> IngestSettings:
    """Of a service that has its own Redis and folder, and knows its address."""
    return IngestSettings(
        secret_key=SecretStr("s" * 64),
        redis_url=redis_url,
        data_dir=tmp_path / "data",
        public_url=f"http://127.0.0.1:{unused_tcp_port}",
        ingest_port=unused_tcp_port,
    )


@pytest.fixture
async def url(settings: IngestSettings) -> AsyncIterator[str]:
    """Where uploads go; sweeps come ten times a second."""
    server = TestServer(build(settings, sweep_every_s=0.1), port=settings.ingest_port)
    await server.start_server()
    yield f"{settings.public_url}/api/uploads"
    await server.close()


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    """A client."""
    async with ClientSession() as session:
        yield session
