"""Whichever way a bad file comes, it gets the same answer, and nothing of it stays."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientSession, FormData
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from corestream import api
from corestream.errors import RefusedError
from ingest import drop
from ingest.app import build
from ingest.settings import IngestSettings
from tests.support.bad_scans import REFUSALS
from tests.support.nifti_files import compressed, good
from tests.support.tus import upload
from tests.support.waiting import eventually

LIMIT_BYTES = 16 * 1024**2


def files() -> dict[str, tuple[bytes, str]]:
    """Every file that is refused at the door, and the code it is refused with."""
    refused = {name: (build(), code) for name, (build, _, code, _) in REFUSALS.items()}
    bomb = compressed(good()[:352] + bytes(4 * LIMIT_BYTES))
    return refused | {"a gzip bomb": (bomb, "inflated-too-large")}


@dataclass(frozen=True)
class Service:
    """Ingest as it runs, and a folder for what is sent."""

    http: ClientSession
    url: str
    settings: IngestSettings
    folder: Path

    async def by_form(self, content: bytes) -> str:
        """Submit a form; return the code of the refusal."""
        form = FormData()
        form.add_field("file", content, filename="scan.nii.gz")
        async with self.http.post(f"{self.url}/api/jobs", data=form) as answer:
            return _code(answer.content_type, await answer.text())

    async def by_tus(self, content: bytes) -> str:
        """Submit a resumable upload."""
        address = await upload(self.http, f"{self.url}/api/uploads", content)
        async with self.http.post(f"{self.url}/api/jobs", json={"uploads": [address]}) as answer:
            return _code(answer.content_type, await answer.text())

    async def by_command(self, content: bytes) -> str:
        """Submit as `corestream submit` does."""
        scan = self.folder / "scan.nii"
        scan.write_bytes(content)
        with pytest.raises(RefusedError) as caught:
            await api.submit(self.http, self.url, [scan], None)
        return str(caught.value.problem["code"])

    async def by_drop_folder(self, content: bytes) -> str:
        """Put it into the folder; return what stands beside it when it was moved."""
        assert self.settings.drop_dir is not None
        scan, refused = self.settings.drop_dir / "scan.nii", self.settings.drop_dir / "refused"
        (self.folder / "dropped").write_bytes(content)
        (self.folder / "dropped").rename(scan)

        async def is_moved() -> bool:
            return (refused / "scan.nii").exists() and not scan.exists()

        await eventually(is_moved)
        title, detail, *_, code = (refused / "scan.nii.txt").read_text().splitlines()
        assert title
        assert detail.startswith("Expected ")
        assert (refused / "scan.nii").read_bytes() == content
        for moved in refused.iterdir():
            moved.unlink()
        return code.strip("()")


def _code(content_type: str, text: str) -> str:
    assert content_type == "application/problem+json", text
    problem = json.loads(text)
    assert problem["detail"].startswith("Expected ")
    assert "received " in problem["detail"]
    return str(problem["code"])


@pytest.fixture
async def service(
    tmp_path: Path, redis_url: str, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Service]:
    """A running one with a drop folder."""
    monkeypatch.setattr(drop, "_LOOK_EVERY_MS", 50)
    monkeypatch.setattr(drop, "SETTLED_AFTER_S", 0.1)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    url = f"http://127.0.0.1:{unused_tcp_port}"
    settings = IngestSettings(
        secret_key=SecretStr("s" * 64),
        redis_url=redis_url,
        data_dir=tmp_path / "data",
        drop_dir=tmp_path / "drop",
        public_url=url,
        max_upload_bytes=LIMIT_BYTES,
    )
    server = TestServer(build(settings), port=unused_tcp_port)
    await server.start_server()
    async with ClientSession() as http:
        yield Service(http, url, settings, tmp_path)
    await server.close()


WAYS: dict[str, Callable[[Service, bytes], Awaitable[str]]] = {
    "a form": Service.by_form,
    "a resumable upload": Service.by_tus,
    "the command": Service.by_command,
    "the drop folder": Service.by_drop_folder,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
async def test_every_bad_file_is_refused_alike(
    service: Service, way: Callable[[Service, bytes], Awaitable[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    """The code, words that say what was expected, nothing left on the disk, no traceback."""
    for name, (content, code) in files().items():
        assert await way(service, content) == code, name
        left = [p.name for top in ("incoming", "jobs") for p in (service.settings.data_dir / top).iterdir()]
        assert left == [], name
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
