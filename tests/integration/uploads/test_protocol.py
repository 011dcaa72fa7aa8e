"""tus as the upload service speaks it, over HTTP, against a real server and a real Redis."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from ingest import received
from ingest.app import build
from ingest.locks import held
from ingest.settings import IngestSettings
from ingest.uploads import writers
from ingest.uploads.store import LONGEST_SILENCE, UploadStore
from pipeline.clock import now
from tests.support.tus import checksum, code, create, incoming, part, patch, send
from tests.support.waiting import PATIENCE_S, eventually

METADATA = "filename ZG9lX2phbmUubmlp,empty"


async def test_a_server_says_what_it_can(http: ClientSession, url: str) -> None:
    """Without being asked for a version."""
    async with http.options(url) as answer:
        assert answer.status == 204
        assert answer.headers["Tus-Version"] == answer.headers["Tus-Resumable"] == "1.0.0"
        assert answer.headers["Tus-Max-Size"] == str(500 * 1024**2)
        assert answer.headers["Tus-Checksum-Algorithm"] == "sha1,sha256"
        assert set(answer.headers["Tus-Extension"].split(",")) == {
            *("creation", "creation-with-upload", "creation-defer-length"),
            *("expiration", "checksum", "termination"),
        }


async def test_an_upload_in_pieces_is_the_file(
    http: ClientSession, url: str, settings: IngestSettings
) -> None:
    """Every reply says how far it is and how long it stays."""
    content = os.urandom(700_000)
    address = await create(http, url, len(content), Upload_Metadata=METADATA)
    assert address.startswith(f"{url}/")
    for start in range(0, len(content), 300_000):
        answer = await patch(http, address, start, content[start : start + 300_000])
        assert answer.status == 204
        assert answer.headers["Upload-Offset"] == str(min(start + 300_000, len(content)))
    answer = await send(http, "HEAD", address)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Upload-Length"] == answer.headers["Upload-Offset"] == "700000"
    assert answer.headers["Upload-Metadata"] == METADATA
    assert abs(parsedate_to_datetime(answer.headers["Upload-Expires"]) - LONGEST_SILENCE - now()).seconds < 60
    assert part(settings, address).read_bytes() == content


async def test_creation_may_bring_bytes_and_leave_the_length_for_later(http: ClientSession, url: str) -> None:
    """creation-with-upload and creation-defer-length."""
    answer = await send(http, "POST", url, content=b"abc", Upload_Defer_Length="1")
    assert (answer.status, answer.headers["Upload-Offset"]) == (201, "3")
    address = answer.headers["Location"]
    head = await send(http, "HEAD", address)
    assert head.headers["Upload-Defer-Length"] == "1"
    assert "Upload-Length" not in head.headers
    assert (await patch(http, address, 3, b"def", Upload_Length="6")).status == 204
    assert (await send(http, "HEAD", address)).headers["Upload-Length"] == "6"
    changed = await patch(http, address, 6, b"", Upload_Length="7")
    assert (changed.status, code(changed)) == (400, "upload-header-invalid")


REFUSED: dict[str, tuple[str, dict[str, str], bytes | None, int, str]] = {
    "no version": ("POST", {"Tus-Resumable": "", "Upload-Length": "5"}, None, 412, "tus-version"),
    "another version": ("POST", {"Tus-Resumable": "0.2.2", "Upload-Length": "5"}, None, 412, "tus-version"),
    "no length": ("POST", {}, None, 400, "upload-header-invalid"),
    "two lengths": (
        "POST",
        {"Upload-Length": "5", "Upload-Defer-Length": "1"},
        None,
        400,
        "upload-header-invalid",
    ),
    "a length later than 1": ("POST", {"Upload-Defer-Length": "2"}, None, 400, "upload-header-invalid"),
    "a negative length": ("POST", {"Upload-Length": "-1"}, None, 400, "upload-header-invalid"),
    "a length in words": ("POST", {"Upload-Length": "five"}, None, 400, "upload-header-invalid"),
    "a length beyond the limit": ("POST", {"Upload-Length": str(2**40)}, None, 413, "upload-too-large"),
    "metadata that are no base64": (
        "POST",
        {"Upload-Length": "5", "Upload-Metadata": "name doe"},
        None,
        400,
        "upload-header-invalid",
    ),
    "metadata with a key twice": (
        "POST",
        {"Upload-Length": "5", "Upload-Metadata": "a YQ==,a YQ=="},
        None,
        400,
        "upload-header-invalid",
    ),
    "a creation with something else": (
        "POST",
        {"Upload-Length": "5", "Content-Type": "text/plain"},
        b"12345",
        415,
        "not-a-chunk",
    ),
    "a creation with too much": ("POST", {"Upload-Length": "4"}, b"12345", 413, "upload-beyond-length"),
    "a creation with damaged bytes": (
        "POST",
        {"Upload-Length": "5", **checksum(b"other")},
        b"12345",
        460,
        "upload-checksum",
    ),
    "a method that is none": ("GET", {}, None, 405, "method-not-allowed"),
}


@pytest.mark.parametrize(("method", "headers", "content", "status", "name"), REFUSED.values(), ids=REFUSED)
async def test_of_a_refused_creation_nothing_is_left(
    http: ClientSession,
    url: str,
    settings: IngestSettings,
    method: str,
    headers: dict[str, str],
    content: bytes | None,
    status: int,
    name: str,
) -> None:
    """The same problem documents as everywhere, with the version of tus."""
    answer = await send(http, method, url, content=content, **headers)
    assert answer.status == status
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    if status != 405:
        assert code(answer) == name
    assert incoming(settings) == []


@pytest.mark.parametrize(
    ("headers", "content", "status", "name"),
    [
        ({"Upload-Offset": "2"}, b"cd", 409, "upload-offset"),
        ({"Upload-Offset": "4"}, b"cd", 409, "upload-offset"),
        ({}, b"cd", 400, "upload-header-invalid"),
        ({"Upload-Offset": "3", "Content-Type": "text/plain"}, b"cd", 415, "not-a-chunk"),
        ({"Upload-Offset": "3"}, b"defgh", 413, "upload-beyond-length"),
        ({"Upload-Offset": "3", "Upload-Checksum": "md5 YWJj"}, b"de", 400, "upload-header-invalid"),
        ({"Upload-Offset": "3", "Upload-Checksum": "sha1 ###"}, b"de", 400, "upload-header-invalid"),
        ({"Upload-Offset": "3", **checksum(b"xx", "sha256")}, b"de", 460, "upload-checksum"),
        ({"Upload-Offset": "3", "Upload-Length": "9"}, b"de", 400, "upload-header-invalid"),
    ],
    ids=[
        *("too early", "too late", "no offset", "another type", "too much", "an unknown checksum"),
        *("a checksum that is none", "damaged bytes", "another length"),
    ],
)
async def test_a_refused_piece_changes_nothing(
    http: ClientSession,
    url: str,
    settings: IngestSettings,
    headers: dict[str, str],
    content: bytes,
    status: int,
    name: str,
) -> None:
    """The upload goes on where it stood."""
    address = await create(http, url, 7)
    await patch(http, address, 0, b"abc")
    answer = await send(http, "PATCH", address, content=content, **headers)
    assert (answer.status, code(answer)) == (status, name)
    assert part(settings, address).read_bytes() == b"abc"
    assert (await patch(http, address, 3, b"defg", **checksum(b"defg", "sha256"))).status == 204
    assert part(settings, address).read_bytes() == b"abcdefg"
    assert len(incoming(settings)) == 2


async def test_more_than_announced_in_an_endless_request_is_taken_back(
    http: ClientSession, url: str, settings: IngestSettings
) -> None:
    """Its length is not known before it is over: what came is cut back to where the request began."""

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield bytes(100_000)

    address = await create(http, url, 1_000_000)
    await patch(http, address, 0, b"abc")
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "3",
        "Content-Type": "application/offset+octet-stream",
    }
    async with http.patch(address, data=endless(), headers=headers) as answer:
        assert answer.status == 413
    assert part(settings, address).read_bytes() == b"abc"


async def test_where_a_method_does_not_pass_post_may_stand_for_it(http: ClientSession, url: str) -> None:
    """Some hospitals' proxies let neither PATCH nor DELETE through."""
    address = await create(http, url, 3)
    answer = await send(
        http, "POST", address, content=b"abc", Upload_Offset="0", X_HTTP_Method_Override="PATCH"
    )
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, "3")


async def test_an_upload_can_be_removed(http: ClientSession, url: str, settings: IngestSettings) -> None:
    """termination: nothing stays, and its address leads nowhere."""
    address = await create(http, url, 3)
    assert (await send(http, "DELETE", address)).status == 204
    assert incoming(settings) == []
    for method in ("HEAD", "DELETE"):
        assert (await send(http, method, address)).status == 404
    assert code(await patch(http, address, 0, b"abc")) == "upload-unknown"
    assert (await send(http, "HEAD", f"{url}/..%2F..%2Fetc")).status == 404


async def test_after_a_day_of_silence_an_upload_is_gone(
    http: ClientSession, url: str, settings: IngestSettings
) -> None:
    """410 until the sweep has come by, then 404, and nothing on the disk; a younger one stays."""
    young, old = await create(http, url, 3), await create(http, url, 3)
    ago = time.time() - LONGEST_SILENCE.total_seconds() - 1
    store = UploadStore(settings.storage, LONGEST_SILENCE)
    os.utime(part(settings, old), (ago, ago))
    assert (await send(http, "HEAD", old)).status in {404, 410}

    async def is_gone() -> bool:
        return not part(settings, old).exists()

    await eventually(is_gone)
    assert (await send(http, "HEAD", old)).status == 404
    assert (await send(http, "HEAD", young)).status == 200
    assert len(incoming(settings)) == 2
    assert store.remove_expired() == 0


async def test_what_came_before_a_cut_is_kept(
    http: ClientSession, url: str, settings: IngestSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    """A connection that is gone costs its last bytes at most; that is no fault, and logs no traceback."""
    content = os.urandom(3_000_000)
    address = await create(http, url, len(content))
    _, writer = await begin_patch(settings, address, content[:2_000_000])
    writer.transport.abort()
    offset = int((await send(http, "HEAD", address)).headers["Upload-Offset"])
    assert (await patch(http, address, offset, content[offset:])).status == 204
    assert part(settings, address).read_bytes() == content
    assert "Traceback" not in "".join(capfd.readouterr())


async def begin_patch(
    settings: IngestSettings, address: str, content: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Begin a request that announces a megabyte more than it sends, and fall silent once it has come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", settings.ingest_port)
    path = address.removeprefix(settings.public_url)
    writer.write(
        f"PATCH {path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
        "Content-Type: application/offset+octet-stream\r\n"
        f"Content-Length: {len(content) + 1_000_000}\r\n\r\n".encode()
        + content
    )
    await writer.drain()

    async def has_come() -> bool:
        return (
            part(settings, address).stat().st_size > len(content) - 300_000
        )  # the rest waits for a whole chunk

    await eventually(has_come)
    return reader, writer


async def test_a_newcomer_evicts_a_stalled_request(
    http: ClientSession, url: str, settings: IngestSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its client is here again by another connection: it need not wait for the old one's time-out."""
    content = os.urandom(3_000_000)
    address = await create(http, url, len(content))
    _, writer = await begin_patch(settings, address, content[:2_000_000])
    began = time.monotonic()
    offset = int((await send(http, "HEAD", address)).headers["Upload-Offset"])
    assert (await patch(http, address, offset, content[offset:])).status == 204
    assert time.monotonic() - began < received._LONGEST_PAUSE_S / 2
    assert part(settings, address).read_bytes() == content
    writer.close()
    assert "Traceback" not in "".join(capfd.readouterr())


async def test_who_does_not_let_go_of_an_upload_is_told(
    http: ClientSession, url: str, settings: IngestSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process on the same folder cannot be evicted: the newcomer is told to come again."""
    monkeypatch.setattr(writers, "_PATIENCE_S", 0.1)
    address = await create(http, url, 3)
    with held(settings.storage.lock_path(address.rpartition("/")[2])):
        answer = await patch(http, address, 0, b"abc")
    assert (answer.status, code(answer)) == (423, "upload-busy")
    assert int(answer.headers["Retry-After"]) > 0
    assert (await patch(http, address, 0, b"abc")).status == 204


async def test_a_browsers_upload_stays_on_the_origin_of_its_page(
    http: ClientSession, url: str, settings: IngestSettings
) -> None:
    """PUBLIC_URL says 127.0.0.1, the reader typed localhost, and the page may talk to its own origin only."""
    host = f"localhost:{settings.ingest_port}"
    same = await send(http, "POST", url, Upload_Length="3", Host=host, Origin=f"http://{host}")
    assert same.headers["Location"].startswith(f"http://{host}/api/uploads/")
    other = await send(http, "POST", url, Upload_Length="3", Host=host, Origin="https://elsewhere.example")
    assert other.headers["Location"].startswith(f"{url}/")


async def test_who_does_not_say_what_they_want_is_shown_out(settings: IngestSettings) -> None:
    """A connection whose headers never end is closed; `run` gives it HEADER_TIMEOUT_S."""
    server = TestServer(build(settings), port=settings.ingest_port)
    await server.start_server(keepalive_timeout=0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", settings.ingest_port)
    writer.write(b"POST /api/jobs HTTP/1.1\r\nHost: x\r\n")
    assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
    writer.close()
    await server.close()


async def test_a_sender_that_falls_silent_is_cut_off_and_may_go_on(
    http: ClientSession, url: str, settings: IngestSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dead connections are not kept for ever; what they brought is."""
    monkeypatch.setattr(received, "_LONGEST_PAUSE_S", 1.0)
    address = await create(http, url, 2_000_000)
    reader, writer = await begin_patch(settings, address, bytes(1_000_000))
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    assert answer.startswith(b"HTTP/1.1 408")
    assert (await patch(http, address, 1_000_000, bytes(1_000_000))).status == 204
    writer.close()
