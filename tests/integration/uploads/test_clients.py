"""The kept clients of tus, as others use them, against ingest as a process of its own."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tusclient.client import TusClient

from tests.support.browser import running_browser
from tests.support.node import line, running_node
from tests.support.ports import free_ports
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import PATIENCE_S, eventually

ROOT = Path(__file__).parents[3]
MIB = 1024**2


@dataclass
class Service:
    """Ingest, which can be killed and started again."""

    data_dir: Path
    redis_url: str
    port: int
    public_port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def uploads(self) -> str:
        """Where uploads go, as clients know it."""
        return f"http://127.0.0.1:{self.public_port or self.port}/api/uploads"

    async def start(self) -> None:
        """Start it; returns when it answers."""
        settings = {
            "CORESTREAM_REDIS_URL": self.redis_url,
            "CORESTREAM_DATA_DIR": str(self.data_dir),
            "CORESTREAM_INGEST_PORT": str(self.port),
            "CORESTREAM_PUBLIC_URL": self.uploads.removesuffix("/api/uploads"),
            "CORESTREAM_SECRET_KEY": "k" * 40,
        }
        self._process = subprocess.Popen(  # noqa: ASYNC220 - starts at once
            [sys.executable, "-m", "ingest"], cwd=ROOT, env=os.environ | settings
        )
        await eventually(self._answers)

    async def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5).close()  # noqa: ASYNC210 - our own
        except (urllib.error.URLError, OSError):
            return False
        return True

    def end(self, number: signal.Signals) -> None:
        """Send it a signal and wait for its end."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE_S)

    def sha256(self, address: str) -> str:
        """Return what an upload hashes to."""
        return digest(self.part(address))

    def part(self, address: str) -> Path:
        """Return the file of an upload."""
        return self.data_dir / "incoming" / f"{address.rpartition('/')[2]}.part"


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def service(tmp_path: Path, redis_url: str) -> Iterator[Service]:
    """One that has not been started."""
    port = free_ports()
    service = Service(tmp_path / "data", redis_url, port)
    yield service
    service.end(signal.SIGTERM)


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """A file of 24 MiB that has no two pieces alike."""
    path = tmp_path / "content"
    path.write_bytes(os.urandom(24 * MIB))
    return path


async def test_tuspy_uploads_a_file_whole_and_goes_on_after_a_kill(service: Service, content: Path) -> None:
    """With a checksum for each piece; SIGKILL between two pieces loses nothing."""
    await service.start()
    uploader = TusClient(service.uploads).uploader(str(content), chunk_size=5 * MIB, upload_checksum=True)
    await asyncio.to_thread(uploader.upload, 15 * MIB)
    service.end(signal.SIGKILL)
    await service.start()
    again = TusClient(service.uploads).uploader(
        str(content), url=uploader.url, chunk_size=5 * MIB, upload_checksum=True
    )
    assert again.offset == 15 * MIB
    await asyncio.to_thread(again.upload)
    assert service.sha256(again.url) == digest(content)


async def test_tus_js_client_goes_on_through_a_kill_in_the_middle_of_a_piece(
    service: Service, content: Path
) -> None:
    """It asks where the upload stands, again and again until somebody answers, and goes on from there."""
    proxy = TcpProxy(service.port, lose_after_bytes=5 * MIB)
    async with proxy.running():
        service.public_port = proxy.port  # so that the addresses given out lead through it
        await service.start()
        async with running_node("tus_upload.mjs", service.uploads, content, str(8 * MIB)) as client:
            at = await line(client, "at ")

            async def is_in_the_middle() -> bool:
                return proxy.lost and service.part(at).stat().st_size > 3 * MIB

            await eventually(is_in_the_middle)
            service.end(signal.SIGKILL)
            kept_bytes = service.part(at).stat().st_size
            await service.start()
            assert await line(client, "done ") == at
    assert 3 * MIB < kept_bytes < 8 * MIB
    assert service.sha256(at) == digest(content)


async def test_tus_js_client_goes_on_through_a_cut_connection(service: Service, content: Path) -> None:
    """A connection that ends where nobody expects it costs what was on the wire."""
    proxy = TcpProxy(service.port, lose_after_bytes=10 * MIB)
    async with proxy.running():
        service.public_port = proxy.port
        await service.start()
        async with running_node("tus_upload.mjs", service.uploads, content, str(8 * MIB)) as client:
            address = await line(client, "at ")

            async def is_in_the_middle() -> bool:
                return proxy.lost and service.part(address).stat().st_size > 9 * MIB

            await eventually(is_in_the_middle)
            proxy.cut()
            assert await line(client, "done ") == address
    assert service.sha256(address) == digest(content)


PAGE = """
const file = new File([bytes], "x");
window.upload = new tus.Upload(file, {
  endpoint: "/api/uploads", chunkSize: 4 << 20, retryDelays: [100, 100, 100],
  fingerprint: async () => "content",
  onProgress: (sent) => { window.sent = sent; }, onSuccess: () => { window.done = window.upload.url; },
  onError: (error) => { window.failed = String(error); },
});
"""


async def test_a_browser_goes_on_after_its_page_was_loaded_again(service: Service) -> None:
    """tus-js-client in Chromium under the page's own policy, by another name than PUBLIC_URL's."""
    await service.start()
    script = (ROOT / "node_modules/tus-js-client/dist/tus.min.js").read_text()
    proxy = TcpProxy(service.port, lose_after_bytes=10 * MIB)
    async with proxy.running(), running_browser() as browser:
        page = await browser.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        url = f"http://localhost:{proxy.port}/"

        async def prepare() -> None:
            await page.goto(url)
            await page.evaluate(script)
            await page.evaluate(
                f"""async () => {{
                let state = 1;  // the same 24 MiB each time the page is loaded
                const next = () => (state = (state * 16807) % 2147483647) & 255;
                const bytes = new Uint8Array({24 * MIB}).map(next);
                const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
                window.digest = Array.from(hash, (b) => b.toString(16).padStart(2, "0")).join("");
                {PAGE}
            }}"""
            )

        await prepare()
        await page.evaluate("() => window.upload.start()")

        async def is_in_the_middle() -> bool:
            return proxy.lost and bool(await page.evaluate("() => window.sent > 9 * 1024 * 1024"))

        await eventually(is_in_the_middle)
        await prepare()
        known = await page.evaluate("() => window.upload.findPreviousUploads()")
        assert len(known) == 1
        await page.evaluate(
            """async () => {
                const [previous] = await window.upload.findPreviousUploads();
                window.upload.resumeFromPreviousUpload(previous);
                window.upload.start();
            }"""
        )
        await eventually(lambda: page.evaluate("() => window.sent !== undefined"))
        assert await page.evaluate("() => window.sent") >= 8 * MIB
        await eventually(lambda: page.evaluate("() => window.done || window.failed"))
        assert await page.evaluate("() => window.failed") is None
        address = await page.evaluate("() => window.done")
        sha256 = await page.evaluate("() => window.digest")
    assert address.startswith(f"{url}api/uploads/")
    assert service.sha256(address) == sha256
