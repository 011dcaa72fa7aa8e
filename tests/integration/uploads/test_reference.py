"""This service answers requests as the reference server of tus does (npm's @tus/server).

Where they may differ stands in EXPECTED, each with its reason.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from ingest.app import build
from ingest.settings import IngestSettings
from tests.support.node import line, running_node
from tests.support.tus import checksum

COMPARED = ("Tus-Resumable", "Upload-Offset", "Upload-Length", "Upload-Defer-Length", "Upload-Metadata")
CHUNK = {"Content-Type": "application/offset+octet-stream"}
V = {"Tus-Resumable": "1.0.0"}


@dataclass(frozen=True)
class Step:
    """One request: `at` is the collection, or the upload that the last step in NEW made."""

    method: str
    at: str
    headers: Mapping[str, str]
    body: bytes | None = None


STEPS: dict[str, Step] = {
    "options": Step("OPTIONS", "collection", {}),
    "create without a version": Step("POST", "collection", {"Upload-Length": "9"}),
    "create without a length": Step("POST", "collection", V),
    "create with two lengths": Step(
        "POST", "collection", V | {"Upload-Length": "9", "Upload-Defer-Length": "1"}
    ),
    "create with a length in words": Step("POST", "collection", V | {"Upload-Length": "nine"}),
    "create beyond the limit": Step("POST", "collection", V | {"Upload-Length": str(2**40)}),
    "create with bytes": Step("POST", "collection", V | CHUNK | {"Upload-Length": "9"}, b"abc"),
    "create with a deferred length": Step("POST", "collection", V | {"Upload-Defer-Length": "1"}),
    "create": Step("POST", "collection", V | {"Upload-Length": "9", "Upload-Metadata": "name ZG9l,flag"}),
    "head": Step("HEAD", "upload", V),
    "head without a version": Step("HEAD", "upload", {}),
    "patch without a version": Step("PATCH", "upload", CHUNK | {"Upload-Offset": "0"}, b"abc"),
    "patch without a type": Step("PATCH", "upload", V | {"Upload-Offset": "0"}, b"abc"),
    "patch without an offset": Step("PATCH", "upload", V | CHUNK, b"abc"),
    "patch too far on": Step("PATCH", "upload", V | CHUNK | {"Upload-Offset": "3"}, b"abc"),
    "patch": Step("PATCH", "upload", V | CHUNK | {"Upload-Offset": "0"}, b"abc"),
    "patch again": Step("PATCH", "upload", V | CHUNK | {"Upload-Offset": "0"}, b"abc"),
    "patch with another length": Step(
        "PATCH", "upload", V | CHUNK | {"Upload-Offset": "3", "Upload-Length": "5"}, b"de"
    ),
    "patch with too much": Step("PATCH", "upload", V | CHUNK | {"Upload-Offset": "3"}, b"defghijkl"),
    "patch on": Step("PATCH", "upload", V | CHUNK | {"Upload-Offset": "3"}, b"def"),
    "head on the way": Step("HEAD", "upload", V),
    "patch to the end": Step("PATCH", "upload", V | CHUNK | {"Upload-Offset": "6"}, b"ghi"),
    "head at the end": Step("HEAD", "upload", V),
    "patch nothing at the end": Step("PATCH", "upload", V | CHUNK | {"Upload-Offset": "9"}, b""),
    "delete": Step("DELETE", "upload", V),
    "head of nothing": Step("HEAD", "upload", V),
    "patch of nothing": Step("PATCH", "upload", V | CHUNK | {"Upload-Offset": "9"}, b"abc"),
    "delete of nothing": Step("DELETE", "upload", V),
    "create a second": Step("POST", "collection", V | {"Upload-Length": "9"}),
    "patch with damaged bytes": Step(
        "PATCH", "upload", V | CHUNK | {"Upload-Offset": "0"} | checksum(b"xyz"), b"abc"
    ),
    "create a third": Step("POST", "collection", V | {"Upload-Length": "9"}),
    "patch by another method": Step(
        "POST",
        "upload",
        V | CHUNK | {"Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"},
        b"def",
    ),
}
NEW = {"create", "create a second", "create a third"}
EXPECTED: dict[str, str] = {
    "create with a deferred length": "we tell where a new upload stands",
    "create": "the same",
    "create a second": "the same",
    "create a third": "the same",
    "patch without a type": "the protocol asks for 415, the reference gives 400",
    "patch without an offset": "a malformed request: 400 here, 403 there",
    "patch too far on": "we tell where the upload stands",
    "patch again": "the same",
    "patch with damaged bytes": "the reference has no checksums",
    "patch by another method": "the reference knows no X-HTTP-Method-Override",
}


Answer = tuple[int, dict[str, str]]


@pytest.fixture
async def ours(tmp_path: Path, redis_url: str, unused_tcp_port: int) -> AsyncIterator[str]:
    """This service."""
    origin = f"http://127.0.0.1:{unused_tcp_port}"
    settings = IngestSettings(
        secret_key=SecretStr("s" * 64), redis_url=redis_url, data_dir=tmp_path / "data", public_url=origin
    )
    server = TestServer(build(settings), port=unused_tcp_port)
    await server.start_server()
    yield f"{origin}/api/uploads"
    await server.close()


@pytest.fixture
async def theirs(tmp_path: Path) -> AsyncIterator[str]:
    """The reference server."""
    folder = tmp_path / "reference"
    folder.mkdir()
    async with running_node("tus_reference.mjs", folder) as process:
        yield f"http://127.0.0.1:{await line(process)}/api/uploads"


async def answers(url: str) -> dict[str, Answer]:
    """Go through the steps."""
    said: dict[str, Answer] = {}
    upload = ""
    async with ClientSession() as http:
        for name, step in STEPS.items():
            at = url if step.at == "collection" else upload
            async with http.request(step.method, at, headers=step.headers, data=step.body) as answer:
                if name in NEW:
                    upload = answer.headers["Location"]
                    assert re.fullmatch(rf"{re.escape(url)}/[0-9a-f]{{32}}", upload)
                said[name] = (
                    answer.status,
                    {h: answer.headers[h] for h in COMPARED if h in answer.headers},
                )
    return said


async def test_this_service_answers_as_the_reference_does(ours: str, theirs: str) -> None:
    """Every difference is one that is expected, and every one that is expected is there."""
    here, there = await answers(ours), await answers(theirs)
    differences = {name: f"{here[name]} for {there[name]}" for name in STEPS if here[name] != there[name]}
    assert differences.keys() == EXPECTED.keys(), differences
