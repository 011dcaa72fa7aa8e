"""tus as a client writes it by hand, for what the kept clients never do."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ClientSession

from ingest.settings import IngestSettings

VERSION = {"Tus-Resumable": "1.0.0"}
CHUNK = {"Content-Type": "application/offset+octet-stream"}


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def checksum(content: bytes, algorithm: str = "sha1") -> dict[str, str]:
    """Return the header that says what bytes hash to."""
    digest = hashlib.new(algorithm, content).digest()
    return {"Upload-Checksum": f"{algorithm} {base64.b64encode(digest).decode()}"}


async def send(
    http: ClientSession, method: str, url: str, *, content: bytes | None = None, **headers: str
) -> Answer:
    """Send one request of tus; underscores in the names of headers stand for hyphens."""
    sent = VERSION | (CHUNK if content is not None else {})
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.request(method, url, data=content, headers=sent) as answer:
        return Answer(answer.status, answer.headers, await answer.read())


async def create(http: ClientSession, url: str, length: int, **headers: str) -> str:
    """Announce an upload and return its address."""
    answer = await send(http, "POST", url, content=None, Upload_Length=str(length), **headers)
    assert answer.status == 201, answer
    return answer.headers["Location"]


async def patch(http: ClientSession, url: str, offset: int, content: bytes, **headers: str) -> Answer:
    """Send some bytes of an upload."""
    return await send(http, "PATCH", url, content=content, Upload_Offset=str(offset), **headers)


async def upload(http: ClientSession, url: str, content: bytes) -> str:
    """Upload a file whole and return its address."""
    address = await create(http, url, len(content))
    answer = await patch(http, address, 0, content)
    assert answer.status == 204, answer
    return address


def incoming(settings: IngestSettings) -> list[Path]:
    """Return what lies in the folder of uploads."""
    return sorted((settings.data_dir / "incoming").iterdir())


def part(settings: IngestSettings, address: str) -> Path:
    """Return the file of an upload."""
    return settings.storage.part_path(address.rpartition("/")[2])


def code(answer: Answer) -> str:
    """Return what a problem document calls the problem."""
    assert answer.headers["Content-Type"] == "application/problem+json; charset=utf-8"
    problem = json.loads(answer.body)
    assert problem["status"] == answer.status
    assert "Expected " in problem["detail"]
    return str(problem["code"])
