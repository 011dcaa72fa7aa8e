"""Resumable uploads over HTTP, against a real server and a real Redis."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from ingest import received
from ingest.app import build
from ingest.locks import held
from ingest.settings import IngestSettings
from ingest.uploads import writers
from ingest.uploads.store import LONGEST_SILENCE, UploadStore
from pipeline.clock import now
from pipeline.streams import connect
from tests.support.nifti_files import compressed, good
from tests.support.tus import Answer, checksum, create, patch, send, upload
from tests.support.waiting import PATIENCE_S, eventually

METADATA = "filename ZG9lX2phbmUubmlp,empty"


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


async def submit(
    http: ClientSession, url: str, *addresses: str, **members: str
) -> tuple[int, dict[str, Any]]:
    """Make a job of uploads."""
    headers = {"Idempotency-Key": key} if (key := members.pop("key", "")) else {}
    document = {"uploads": addresses, **members}
    async with http.post(url.replace("uploads", "jobs"), json=document, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


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

    async def has_come() -> bool:
        return part(settings, address).stat().st_size > 1_700_000

    await eventually(has_come)
    writer.transport.abort()
    offset = int((await send(http, "HEAD", address)).headers["Upload-Offset"])
    assert (await patch(http, address, offset, content[offset:])).status == 204
    assert part(settings, address).read_bytes() == content
    assert "Traceback" not in "".join(capfd.readouterr())


async def begin_patch(
    settings: IngestSettings, address: str, content: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Begin a request that announces a megabyte more than it sends, and fall silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", settings.ingest_port)
    path = address.removeprefix(settings.public_url)
    writer.write(
        f"PATCH {path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
        "Content-Type: application/offset+octet-stream\r\n"
        f"Content-Length: {len(content) + 1_000_000}\r\n\r\n".encode()
        + content
    )
    await writer.drain()
    return reader, writer


async def test_a_newcomer_evicts_a_stalled_request(
    http: ClientSession, url: str, settings: IngestSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its client is here again by another connection: it need not wait for the old one's time-out."""
    content = os.urandom(3_000_000)
    address = await create(http, url, len(content))
    _, writer = await begin_patch(settings, address, content[:2_000_000])

    async def has_come() -> bool:
        return part(settings, address).stat().st_size > 1_700_000

    await eventually(has_come)
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


async def test_uploads_become_one_job(http: ClientSession, url: str, settings: IngestSettings) -> None:
    """Several uploads, one job, one address; the uploads are taken, and the reply can be had again."""
    contents = [good(), compressed(good())]
    addresses = [await upload(http, url, content) for content in contents]
    status, reply = await submit(http, url, *addresses, email="a@example.org")
    assert status == 202
    record = settings.storage.read_job(reply["job_id"])
    assert record.email == "a@example.org"
    assert [scan.sha256 for scan in record.scans] == [hashlib.sha256(c).hexdigest() for c in contents]
    assert incoming(settings) == []
    assert (await send(http, "HEAD", addresses[0])).status == 404
    ids = [address.rpartition("/")[2] for address in addresses]
    assert await submit(http, url, *ids, email="a@example.org") == (202, reply)
    status, problem = await submit(http, url, *addresses, email="b@example.org")
    assert (status, problem["code"]) == (422, "idempotency-key-reused")
    client = connect(settings.redis_url)
    assert await client.xlen(settings.keys.scans) == 2
    await client.aclose()


async def test_a_key_names_a_submission_of_uploads(http: ClientSession, url: str) -> None:
    """As it does one by a form; with other uploads under the same key something is mixed up."""
    first, second = await upload(http, url, good()), await upload(http, url, good())
    status, reply = await submit(http, url, first, key="k")
    assert status == 202
    assert await submit(http, url, first, key="k") == (202, reply)
    status, problem = await submit(http, url, second, key="k")
    assert (status, problem["code"]) == (422, "idempotency-key-reused")
    assert (await send(http, "HEAD", second)).status == 200


async def test_the_refused_among_uploads_are_named_and_removed_and_the_others_stay(
    http: ClientSession, url: str, settings: IngestSettings
) -> None:
    """Nobody has to send a good scan again because of a bad one beside it."""
    files = (b"words", good(), good()[:-1])
    addresses = [await upload(http, url, content) for content in files]
    status, problem = await submit(http, url, *addresses)
    assert (status, problem["code"]) == (415, "not-nifti")
    assert problem["detail"].startswith("File 1 of 3: ")
    ids = [address.rpartition("/")[2] for address in addresses]
    told = [(e["file"], e["uploads"], e["status"], e["code"]) for e in problem["errors"]]
    assert told == [(1, [ids[0]], 415, "not-nifti"), (3, [ids[2]], 422, "scan-incomplete")]
    assert [path.stem for path in incoming(settings)] == [ids[1]] * 2
    assert (await submit(http, url, addresses[1]))[0] == 202
    assert incoming(settings) == []


@pytest.mark.parametrize(
    ("document", "status", "name"),
    [
        ("{}", 422, "uploads-invalid"),
        ('{"uploads": []}', 422, "uploads-invalid"),
        ("[1", 422, "uploads-invalid"),
        ('{"uploads": ["x"], "mail": "a"}', 422, "uploads-invalid"),
        ('{"uploads": ["../../etc/passwd"]}', 404, "upload-unknown"),
        (f'{{"uploads": ["{"0" * 32}"]}}', 404, "upload-unknown"),
        (f'{{"uploads": ["{"0" * 400}"]}}', 404, "upload-unknown"),
        ('{"uploads": ["a\\u0000"]}', 404, "upload-unknown"),
        (f'{{"uploads": ["{"0" * 32}", "{"0" * 32}"]}}', 409, "upload-incomplete"),
        (f'{{"uploads": ["{"0" * 32}"], "email": "jane"}}', 422, "email-invalid"),
    ],
)
async def test_what_names_no_uploads_is_refused(
    http: ClientSession, url: str, document: str, status: int, name: str
) -> None:
    """In words; a path among them reaches no disk."""
    jobs = url.replace("uploads", "jobs")
    async with http.post(jobs, data=document, headers={"Content-Type": "application/json"}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (status, name)


async def test_an_upload_that_is_not_complete_makes_no_job(http: ClientSession, url: str) -> None:
    """It can be completed, and then it does."""
    address = await create(http, url, len(good()))
    await patch(http, address, 0, good()[:1000])
    status, problem = await submit(http, url, address)
    assert (status, problem["code"]) == (409, "upload-incomplete")
    await patch(http, address, 1000, good()[1000:])
    assert (await submit(http, url, address))[0] == 202


async def test_no_name_of_a_file_leaves_the_folder_of_uploads(
    http: ClientSession, url: str, settings: IngestSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    """A client may send one with its upload: it is given back to that client, and goes with the upload."""
    address = await create(http, url, len(good()), Upload_Metadata=METADATA)
    await patch(http, address, 0, good())
    _, reply = await submit(http, url, address)
    job = settings.storage.job_dir(reply["job_id"])
    assert all(b"ZG9l" not in path.read_bytes() for path in job.rglob("*") if path.is_file())
    out, err = capfd.readouterr()
    assert "ZG9l" not in out + err
    assert "doe" not in out + err
    assert address.rpartition("/")[2] not in out + err


async def test_an_address_that_begins_too_much_is_told_to_wait(
    http: ClientSession, settings: IngestSettings
) -> None:
    """Uploads that are announced and submissions count alike; an upload that has begun goes on."""
    server = TestServer(
        build(settings.model_copy(update={"uploads_per_minute": 2})), port=settings.ingest_port
    )
    await server.start_server()
    url = f"{settings.public_url}/api/uploads"
    address = await create(http, url, 3)
    await create(http, url, 3)
    answer = await send(http, "POST", url, content=None, Upload_Length="3")
    assert (answer.status, code(answer)) == (429, "too-many-requests")
    assert int(answer.headers["Retry-After"]) == 30
    assert (await patch(http, address, 0, b"abc")).status == 204
    status, problem = await submit(http, url, address)
    assert (status, problem["code"]) == (429, "too-many-requests")
    await server.close()


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
