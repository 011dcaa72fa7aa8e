"""Submissions over HTTP, against a real server and a real Redis."""

from __future__ import annotations

import asyncio
import hashlib
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import pytest
from aiohttp import ClientSession, FormData
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from yarl import URL

from ingest import received
from ingest.app import build
from ingest.settings import IngestSettings
from pipeline.events import ScanUploaded, parse_event
from pipeline.jobs import Jobs
from pipeline.streams import connect
from tests.support.dicom_files import archive_of, as_bytes, on_grid, series, zipped
from tests.support.nifti_files import compressed, good, nifti
from tests.support.redis_server import RedisServer
from tests.support.waiting import PATIENCE_S, eventually

Serve = Callable[..., Awaitable[TestServer]]


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> IngestSettings:
    """Of a service that has its own Redis and folder."""
    return IngestSettings(secret_key=SecretStr("s" * 64), redis_url=redis_url, data_dir=tmp_path / "data")


@pytest.fixture
async def serve(settings: IngestSettings) -> AsyncIterator[Serve]:
    """Start servers; the keywords are settings that differ."""
    servers: list[TestServer] = []

    async def start(**changed: Any) -> TestServer:  # noqa: ANN401 - any setting
        server = TestServer(build(settings.model_copy(update=changed)))
        await server.start_server()
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.close()


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    """A client."""
    async with ClientSession() as session:
        yield session


def form(*files: bytes, **fields: str) -> FormData:
    """Return a form as a browser sends it."""
    data = FormData()
    for content in files:
        data.add_field("file", content, filename="doe_jane.nii.gz", content_type="application/gzip")
    for name, value in fields.items():
        data.add_field(name, value)
    return data


async def test_who_asks_before_sending_is_told_to_go_on(serve: Serve) -> None:
    """As curl does before a large file; it is told once the door is open."""
    server = await serve()
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.nii"\r\n\r\n'
        + good()
        + b"\r\n--b--\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        f"POST /api/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode()
    )
    asked = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    assert asked == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    assert answer.startswith(b"HTTP/1.1 202")
    writer.close()


def kept_files(settings: IngestSettings) -> list[Path]:
    """Return all that a submission has left on disk."""
    return [p for top in ("incoming", "jobs") for p in (settings.data_dir / top).rglob("*")]


async def queued(settings: IngestSettings) -> list[ScanUploaded]:
    """Return the events in the stream of scans."""
    client = connect(settings.redis_url)
    try:
        entries = await client.xrange(settings.keys.scans)
    finally:
        await client.aclose()
    events = [parse_event(cast("dict[str, str]", fields)) for _, fields in entries or ()]
    return [event for event in events if isinstance(event, ScanUploaded)]


async def test_an_accepted_submission_is_on_disk_and_in_line_before_the_reply(
    serve: Serve, http: ClientSession, settings: IngestSettings
) -> None:
    """The file first, then one step for job and event, then the reply: nothing can be promised and lost."""
    server = await serve()
    sent = [compressed(good()), nifti(text=b"Doe^Jane")]
    async with http.post(server.make_url("/api/jobs"), data=form(*sent, email="a@example.org")) as answer:
        assert answer.status == 202
        reply = await answer.json()
        assert answer.headers["Location"] == reply["status_url"]
    assert [scan["removed"] for scan in reply["scans"]] == [
        [],
        ["descrip", "aux_file", "db_name", "intent_name", "extensions"],
    ]
    record = settings.storage.read_job(reply["job_id"])
    assert record.email == "a@example.org"
    assert [scan.sha256 for scan in record.scans] == [hashlib.sha256(content).hexdigest() for content in sent]
    assert [scan.size_bytes for scan in record.scans] == [len(content) for content in sent]
    events = await queued(settings)
    assert [event.scan_id for event in events] == [scan["scan_id"] for scan in reply["scans"]]
    for event in events:
        scan = settings.data_dir / event.path
        assert scan == settings.storage.scan_path(record.job_id, event.scan_id)
        assert stat.S_IMODE(scan.parent.stat().st_mode) == 0o700
    client = connect(settings.redis_url)
    state = await Jobs(client, settings.keys).read(record.job_id)
    await client.aclose()
    assert state is not None
    assert (state.state, state.mail) == ("open", "pending")
    assert list((settings.data_dir / "incoming").iterdir()) == []


async def test_a_users_file_name_is_nowhere(
    serve: Serve, http: ClientSession, settings: IngestSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file name may be a patient's name: it reaches neither disk nor reply nor Redis nor log."""
    server = await serve()
    async with http.post(server.make_url("/api/jobs"), data=form(compressed(good()))) as answer:
        assert answer.status == 202
        assert "doe" not in await answer.text()
    assert all("doe" not in str(path) for path in kept_files(settings))
    assert all(b"doe_jane" not in path.read_bytes() for path in kept_files(settings) if path.is_file())
    assert all("doe" not in str(event) for event in await queued(settings))
    out, err = capfd.readouterr()
    assert "doe" not in out + err


async def test_loose_dicom_files_are_one_scan(
    serve: Serve, http: ClientSession, settings: IngestSettings
) -> None:
    """A folder of slices beside a NIfTI scan are two scans; of the slices' tags nothing stays on disk."""
    server = await serve()
    slices = [as_bytes(image) for image in on_grid()]
    async with http.post(server.make_url("/api/jobs"), data=form(*slices[::-1], good())) as answer:
        assert answer.status == 202, await answer.text()
        reply = await answer.json()
    assert [scan["removed"] for scan in reply["scans"]] == [[], ["DICOM tags"]]
    record = settings.storage.read_job(reply["job_id"])
    assert record.scans[1].size_bytes == sum(map(len, slices))
    kept = nib.Nifti1Image.from_filename(settings.storage.scan_path(record.job_id, record.scans[1].scan_id))
    assert kept.shape == (146, 182, 133)
    assert kept.affine.tolist() == [[-1, 0, 0, 72], [0, 1, 0, -106.5], [0, 0, 1, -51.5], [0, 0, 0, 1]]
    assert all(b"Doe" not in path.read_bytes() for path in kept_files(settings) if path.is_file())
    assert list((settings.data_dir / "incoming").iterdir()) == []


async def test_a_dicom_archive_is_one_scan(
    serve: Serve, http: ClientSession, settings: IngestSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    """As it comes from a PACS."""
    server = await serve()
    async with http.post(server.make_url("/api/jobs"), data=form(archive_of(on_grid()))) as answer:
        assert answer.status == 202, await answer.text()
        assert [scan["removed"] for scan in (await answer.json())["scans"]] == [["DICOM tags"]]
    assert len(await queued(settings)) == 1
    assert list((settings.data_dir / "incoming").iterdir()) == []
    assert "Doe" not in "".join(capfd.readouterr())


async def test_a_browser_is_led_to_its_jobs_page(serve: Serve, http: ClientSession) -> None:
    """A form without script works: the reply is a page, and the way there stays on the form's own origin."""
    server = await serve()
    async with http.post(
        server.make_url("/api/jobs"),
        data=form(compressed(good()), email=""),
        headers={"Accept": "text/html,application/xhtml+xml"},
        allow_redirects=False,
    ) as answer:
        assert answer.status == 303
        location = answer.headers["Location"]
        assert location.startswith("../jobs/")
    async with http.get(server.make_url("/api/jobs").join(URL(location))) as page:
        assert page.status == 200
        assert "place 1 in line" in await page.text()
        assert "Content-Security-Policy" in page.headers


async def test_a_form_with_a_chosen_file_is_accepted_by_curl(
    serve: Serve, settings: IngestSettings, tmp_path: Path
) -> None:
    """The command of the README; curl asks for permission before it sends a large body."""
    server = await serve()
    (tmp_path / "scan.nii").write_bytes(good())
    curl = await asyncio.create_subprocess_exec(
        *("curl", "--silent", "--show-error", "--fail-with-body", "-F", f"file=@{tmp_path / 'scan.nii'}"),
        *("-F", "email=a@example.org", str(server.make_url("/api/jobs"))),
        stdout=asyncio.subprocess.PIPE,
    )
    reply, _ = await curl.communicate()
    assert curl.returncode == 0, reply
    assert len(await queued(settings)) == 1


EMPTY_PART = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n\r\n'
REFUSED: dict[str, tuple[Callable[[], FormData | bytes], dict[str, int], int, str]] = {
    "an address without a file": (
        lambda: FormData({"email": "a"}, default_to_multipart=True),
        {},
        422,
        "email-invalid",
    ),
    "a DICOM scan beside a bad one": (lambda: form(archive_of(on_grid()), b""), {}, 415, "not-nifti"),
    "a single DICOM slice": (lambda: form(as_bytes(series()[0])), {}, 422, "dicom-single-slice"),
    "an archive of text": (lambda: form(zipped({"a.txt": b"words"})), {}, 422, "dicom-none"),
    "loose slices that are too large together": (
        lambda: form(*map(as_bytes, series())),
        {"max_upload_bytes": 12_000},
        413,
        "upload-too-large",
    ),
    "more scans than one beside loose slices": (
        lambda: form(*map(as_bytes, series()), good()),
        {"max_files_per_job": 1},
        422,
        "too-many-files",
    ),
    "more parts without a file than files are accepted": (
        lambda: b"".join([EMPTY_PART] * 6) + b"--b--\r\n",
        {},
        422,
        "too-many-files",
    ),
    "no file": (lambda: FormData({"email": ""}, default_to_multipart=True), {}, 422, "no-file"),
    "a file of the wrong kind": (lambda: form(b"\x89PNG\r\n\x1a\n" + bytes(400)), {}, 415, "not-nifti"),
    "an empty file": (lambda: form(b""), {}, 415, "not-nifti"),
    "a good scan beside a bad one": (lambda: form(good(), good()[:-1]), {}, 422, "scan-incomplete"),
    "an address that is only a name": (lambda: form(good(), email="jane"), {}, 422, "email-invalid"),
    "an address with a second header": (
        lambda: form(good(), email="a@example.org\r\nBcc: b@example.org"),
        {},
        422,
        "email-invalid",
    ),
    "an endless address": (lambda: form(good(), email="a" * 5000), {}, 422, "email-invalid"),
    "a part of another name": (lambda: form(good(), scan="x"), {}, 422, "part-unknown"),
    "too many files": (lambda: form(good(), good()), {"max_files_per_job": 1}, 422, "too-many-files"),
    "a scan that is too large": (lambda: form(good()), {"max_upload_bytes": 2**22}, 413, "upload-too-large"),
    "a scan that inflates too far": (
        lambda: form(compressed(good())),
        {"max_upload_bytes": 2**22},
        413,
        "inflated-too-large",
    ),
    "a full disk": (lambda: form(good()), {"min_free_bytes": 2**60}, 507, "disk-full"),
}


@pytest.mark.parametrize(("build_form", "limits", "status", "code"), REFUSED.values(), ids=REFUSED.keys())
async def test_of_a_refused_submission_nothing_is_left(
    serve: Serve,
    http: ClientSession,
    settings: IngestSettings,
    build_form: Callable[[], FormData | bytes],
    limits: dict[str, int],
    status: int,
    code: str,
) -> None:
    """A refusal is a problem document; neither disk nor stream know of the submission afterwards."""
    server = await serve(**limits)
    data = build_form()
    headers = {"Content-Type": "multipart/form-data; boundary=b"} if isinstance(data, bytes) else {}
    async with http.post(server.make_url("/api/jobs"), data=data, headers=headers) as answer:
        assert answer.content_type == "application/problem+json"
        problem = await answer.json()
    assert (answer.status, problem["status"], problem["code"]) == (status, status, code)
    assert problem["title"]
    assert "Expected " in problem["detail"]
    assert kept_files(settings) == []
    assert await queued(settings) == []


async def test_a_form_sent_without_a_file_is_refused_on_a_page(serve: Serve, http: ClientSession) -> None:
    """A browser sends an empty part without a name for a file field that nobody touched."""
    server = await serve()
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename=""\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n\r\n--b--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Accept": "text/html"}
    async with http.post(server.make_url("/api/jobs"), data=body, headers=headers) as answer:
        assert answer.status == 422
        assert "No file chosen" in await answer.text()


async def test_the_refused_one_of_several_files_is_named_by_its_place(
    serve: Serve, http: ClientSession
) -> None:
    """Its name would do, but names are not repeated."""
    server = await serve()
    async with http.post(server.make_url("/api/jobs"), data=form(good(), b"words")) as answer:
        assert (await answer.json())["detail"].startswith("File 2 of 2: ")


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("text/plain", b"scan", 415, "not-a-form"),
        ("multipart/form-data", b"--b--", 400, "form-malformed"),
        ("multipart/form-data; boundary=b", b"", 400, "form-malformed"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nvoxels',
            400,
            "form-malformed",
        ),
    ],
    ids=["a text", "no boundary", "no body", "a body without its end"],
)
async def test_what_is_no_whole_form_is_refused(
    serve: Serve,
    http: ClientSession,
    settings: IngestSettings,
    content_type: str,
    body: bytes,
    status: int,
    code: str,
) -> None:
    """A program that sends something else is told what to send."""
    server = await serve()
    url = server.make_url("/api/jobs")
    async with http.post(url, data=body, headers={"Content-Type": content_type}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (status, code)
    assert kept_files(settings) == []


async def test_of_an_upload_that_breaks_off_nothing_is_left(
    serve: Serve, settings: IngestSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    """A lost connection is no fault of the service: no file stays, and no traceback is logged."""
    server = await serve()
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        b"POST /api/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + good()[:3_000_000]
    )
    await writer.drain()

    async def has_begun() -> bool:
        return any(path.suffix == ".part" and path.stat().st_size for path in kept_files(settings))

    async def is_gone() -> bool:
        return not kept_files(settings)

    await eventually(has_begun)
    writer.transport.abort()
    await eventually(is_gone)
    await server.close()
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("content_type", "begun"),
    [
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", EMPTY_PART + b"--b\r\n"),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="email"\r\n\r\na@'),
        ("application/json", b'{"uploads": ["'),
    ],
    ids=["before a form", "between its parts", "within the address", "within a document"],
)
async def test_a_sender_that_falls_silent_is_shown_out(
    serve: Serve,
    settings: IngestSettings,
    monkeypatch: pytest.MonkeyPatch,
    content_type: str,
    begun: bytes,
) -> None:
    """Wherever it does: nobody holds a connection and files for ever."""
    monkeypatch.setattr(received, "_LONGEST_PAUSE_S", 0.3)
    server = await serve()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        "POST /api/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n"
        f"Content-Type: {content_type}\r\n\r\n".encode()
        + begun
    )
    answer = await asyncio.wait_for(reader.readuntil(b"upload-stalled"), 5)
    assert answer.startswith(b"HTTP/1.1 408")
    assert kept_files(settings) == []
    writer.close()


async def test_while_redis_is_away_a_submission_is_refused_before_it_is_read(
    serve: Serve, http: ClientSession, settings: IngestSettings, redis_server: RedisServer
) -> None:
    """Its sender still has the file and is told at once; whoever asks for readiness sees why."""
    server = await serve()
    redis_server.kill()
    async with http.post(server.make_url("/api/jobs"), data=form(good())) as answer:
        assert (answer.status, (await answer.json())["code"]) == (503, "queue-away")
        assert int(answer.headers["Retry-After"]) > 0
    assert kept_files(settings) == []
    async with http.get(server.make_url("/readyz")) as answer:
        assert answer.status == 503
        assert (await answer.json())["checks"]["redis"] != "ok"
    async with http.get(server.make_url("/healthz")) as answer:
        assert answer.status == 200


async def test_a_full_disk_closes_the_door_before_the_body_is_read(serve: Serve) -> None:
    """507 with a time to come back, as soon as the headers say how much would come."""
    server = await serve(min_free_bytes=2**60)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        b"POST /api/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    assert answer.startswith(b"HTTP/1.1 507")
    assert b"Retry-After: 600" in answer
    writer.close()


async def test_a_hospitals_own_mail_domain_is_an_address(
    serve: Serve, http: ClientSession, settings: IngestSettings
) -> None:
    """Names that no public server knows are common inside a hospital."""
    server = await serve()
    for address in ("jane@mail.hospital.local", "jane@intranet"):
        async with http.post(
            server.make_url("/api/jobs"), data=form(compressed(good()), email=address)
        ) as answer:
            assert answer.status == 202
            reply = await answer.json()
        assert settings.storage.read_job(reply["job_id"]).email == address
