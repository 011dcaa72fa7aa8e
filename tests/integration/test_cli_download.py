"""Downloads of weights, from a real HTTP server."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from corestream.download import DownloadError, download
from tests.support.ports import free_ports

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    """A server with a file, and with one that breaks off in the middle."""

    async def whole(_request: web.Request) -> web.Response:
        return web.Response(body=CONTENT)

    async def broken(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": str(len(CONTENT))})
        await answer.prepare(request)
        await answer.write(CONTENT[:100])
        assert request.transport is not None
        request.transport.abort()
        return answer

    app = web.Application()
    app.router.add_get("/whole", whole)
    app.router.add_get("/broken", broken)
    running = TestServer(app)
    async with running:
        yield running


def names(folder: Path) -> list[str]:
    """Return what lies in a folder."""
    return [path.name for path in folder.iterdir()]


async def test_a_file_with_the_right_hash_is_kept(server: TestServer, tmp_path: Path) -> None:
    """It appears under its name, in a folder that is made for it."""
    target = tmp_path / "models" / "weights.hdf5"
    await download(str(server.make_url("/whole")), target, SHA256, max_bytes=len(CONTENT))
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == [target.name]


async def test_a_file_with_another_hash_is_thrown_away(server: TestServer, tmp_path: Path) -> None:
    """Weights that nobody has checked never get under the name of those that somebody has."""
    with pytest.raises(DownloadError, match=rf"{'0' * 64}.*{SHA256}"):
        await download(str(server.make_url("/whole")), tmp_path / "w", "0" * 64, max_bytes=len(CONTENT))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "words"), [("/broken", "Check the network"), ("/none", "404"), ("/whole", "at most")]
)
async def test_what_cannot_be_had_leaves_nothing_behind(
    server: TestServer, tmp_path: Path, path: str, words: str
) -> None:
    """Broken off, not there, too large: words, and no half file."""
    with pytest.raises(DownloadError, match=words):
        await download(str(server.make_url(path)), tmp_path / "w", SHA256, max_bytes=len(CONTENT) - 1)
    assert names(tmp_path) == []


async def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    """An offline machine is told how to go on without a network."""
    url = f"http://127.0.0.1:{free_ports()}/weights"
    with pytest.raises(DownloadError, match=rf"{url}.*give its path"):
        await download(url, tmp_path / "w", SHA256, max_bytes=1)
