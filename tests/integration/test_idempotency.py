"""A submission that is sent again under its key is the same submission; a full queue is closed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, FormData
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from redis.asyncio import Redis

from corestream import api
from ingest import idempotency
from ingest.app import build
from ingest.locks import HeldError, held
from ingest.settings import IngestSettings
from pipeline.clock import now
from pipeline.files import write_whole
from pipeline.ids import new_id
from pipeline.streams import connect
from tests.support.nifti_files import compressed, good
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import PATIENCE_S, eventually

ROOT = Path(__file__).parents[2]
KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"
Reply = tuple[int, dict[str, Any], dict[str, str]]


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> IngestSettings:
    """Of a service that has its own Redis and folder."""
    return IngestSettings(
        secret_key=SecretStr("s" * 64), redis_url=redis_url, data_dir=tmp_path / "data", max_waiting_scans=3
    )


@pytest.fixture
async def server(settings: IngestSettings) -> AsyncIterator[TestServer]:
    """The upload service; nobody processes what it takes."""
    server = TestServer(build(settings))
    await server.start_server()
    yield server
    await server.close()


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    """A client."""
    async with ClientSession() as session:
        yield session


@pytest.fixture
async def client(settings: IngestSettings) -> AsyncIterator[Redis]:
    """A look into Redis."""
    client = connect(settings.redis_url)
    yield client
    await client.aclose()


async def submit(
    server: TestServer,
    http: ClientSession,
    *contents: bytes,
    email: str = "",
    key: str | None = f'"{KEY}"',
) -> Reply:
    """Submit files; returns status, document and headers."""
    form = FormData({"email": email}, default_to_multipart=True)
    for content in contents:
        form.add_field("file", content, filename="scan.nii.gz", content_type="application/gzip")
    headers = {"Idempotency-Key": key} if key is not None else {}
    async with http.post(server.make_url("/api/jobs"), data=form, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None), dict(answer.headers)


def kept(settings: IngestSettings) -> list[str]:
    """Return what lies in the folders of jobs and uploads."""
    return sorted(p.name for top in ("incoming", "jobs") for p in (settings.data_dir / top).iterdir())


async def test_the_same_submission_again_is_the_same_job(
    server: TestServer, http: ClientSession, settings: IngestSettings, client: Redis
) -> None:
    """The same reply word for word, one job on disk, one event; with or without the quotes of the draft."""
    files = (compressed(good()), good())
    first = await submit(server, http, *files, email="a@example.org")
    again = await submit(server, http, *files, email="a@example.org", key=KEY)
    assert first[0] == again[0] == 202
    assert first[1] == again[1]
    assert kept(settings) == [first[1]["job_id"]]
    assert await client.xlen(settings.keys.scans) == 2


async def test_other_keys_and_none_make_jobs_of_their_own(
    server: TestServer, http: ClientSession, settings: IngestSettings
) -> None:
    """Without a key every submission is a new one, as it ever was."""
    replies = [await submit(server, http, good(), key=key) for key in (KEY, f"{KEY}x", None)]
    assert [status for status, *_ in replies] == [202] * 3
    assert len({reply["job_id"] for _, reply, _ in replies}) == len(kept(settings)) == 3


@pytest.mark.parametrize("other", ["file", "address", "order"])
async def test_a_key_with_another_payload_is_refused(
    server: TestServer, http: ClientSession, settings: IngestSettings, other: str
) -> None:
    """The sender has mixed something up: neither silently dropped nor silently another job."""
    files = (good(), compressed(good()))
    _, first, _ = await submit(server, http, *files, email="a@example.org")
    sent, email = {
        "file": ((good(), good()), "a@example.org"),
        "address": (files, "b@example.org"),
        "order": (files[::-1], "a@example.org"),
    }[other]
    status, problem, _ = await submit(server, http, *sent, email=email)
    assert (status, problem["code"]) == (422, "idempotency-key-reused")
    assert kept(settings) == [first["job_id"]]


@pytest.mark.parametrize("key", ["", '""', "a" * 256, '"a', "a b", "ä"])
async def test_a_key_that_is_none_is_refused(
    server: TestServer, http: ClientSession, settings: IngestSettings, key: str
) -> None:
    """Better than to accept it and not to keep its promise."""
    status, problem, _ = await submit(server, http, good(), key=key)
    assert (status, problem["code"]) == (400, "idempotency-key-invalid")
    assert kept(settings) == []


async def test_while_the_first_is_under_way_the_second_is_told_to_wait(
    server: TestServer, http: ClientSession, settings: IngestSettings
) -> None:
    """A conflict, not a second job; when the first breaks off its key is free at once."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        b"POST /api/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\nExpect: 100-continue\r\n"
        b"Idempotency-Key: " + KEY.encode() + b"\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    )
    await writer.drain()

    async def has_begun() -> bool:
        return any(name.endswith(".lock") for name in kept(settings))

    async def has_ended() -> bool:
        return not kept(settings)

    await eventually(has_begun)
    status, problem, headers = await submit(server, http, good())
    assert (status, problem["code"]) == (409, "submission-under-way")
    assert int(headers["Retry-After"]) > 0
    writer.transport.abort()
    await eventually(has_ended)
    status, _, _ = await submit(server, http, good())
    assert status == 202


async def test_ten_at_once_make_one_job(
    server: TestServer, http: ClientSession, settings: IngestSettings, client: Redis
) -> None:
    """Whoever does not win is told to wait, or is given the winner's reply."""
    replies = await asyncio.gather(*(submit(server, http, good()) for _ in range(10)))
    assert {status for status, *_ in replies} <= {202, 409}
    (job_id,) = {reply["job_id"] for status, reply, _ in replies if status == 202}
    assert kept(settings) == [job_id]
    assert await client.xlen(settings.keys.scans) == 1


async def test_what_died_before_it_was_accepted_is_not_in_the_way(
    server: TestServer, http: ClientSession, settings: IngestSettings
) -> None:
    """Volumes in place, no record: the crash left no job, and its sender's retry makes it."""
    job_id = idempotency.job_id(KEY, "s" * 64)
    dead_scan = settings.storage.scan_path(job_id, new_id())
    dead_scan.parent.mkdir(parents=True)
    dead_scan.write_bytes(b"voxels")
    status, reply, _ = await submit(server, http, good())
    assert (status, reply["job_id"]) == (202, job_id)
    assert not dead_scan.exists()


async def test_what_died_before_it_stood_in_line_is_put_there_by_its_retry(
    server: TestServer, http: ClientSession, settings: IngestSettings, client: Redis
) -> None:
    """Record on disk, nothing in Redis, no reply: the retry does not wait for the sweep."""
    _, first, _ = await submit(server, http, good())
    await client.flushall()
    _, again, _ = await submit(server, http, good())
    assert first == again
    assert await client.xlen(settings.keys.scans) == 1


async def test_after_its_job_has_expired_a_key_makes_a_new_one(
    server: TestServer, http: ClientSession, settings: IngestSettings, client: Redis
) -> None:
    """With new scans, and nothing in Redis of the old; even before a sweep has come by."""
    _, first, _ = await submit(server, http, good())
    record = settings.storage.read_job(first["job_id"])
    over = record.model_copy(update={"expires_at": now() - timedelta(seconds=1)})
    write_whole(settings.storage.job_dir(record.job_id) / "job.json", over.model_dump_json().encode())
    status, second, _ = await submit(server, http, good(), email="a@example.org")
    assert (status, second["job_id"]) == (202, first["job_id"])
    assert second["scans"] != first["scans"]
    state = await client.hgetall(settings.keys.job(record.job_id))
    assert (state["remaining"], state["mail"]) == ("1", "pending")
    assert [str(name) for name in state if str(name).endswith(":state")] == [
        f"{second['scans'][0]['scan_id']}:state"
    ]


async def test_too_many_waiting_scans_close_the_door_before_the_body_is_read(
    server: TestServer, http: ClientSession, settings: IngestSettings
) -> None:
    """503 with a time to come back; a retry of what stands in line already is answered all the same."""
    first = await submit(server, http, good(), good())
    assert (await submit(server, http, good(), key=None))[0] == 202
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        b"POST /api/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"Retry-After: 120" in answer
    writer.close()
    status, problem, _ = await submit(server, http, good(), key=None)
    assert (status, problem["code"]) == (503, "queue-full")
    assert "fewer than 3 scans" in problem["detail"]
    assert (await submit(server, http, good(), good()))[:2] == first[:2]
    assert len(kept(settings)) == 2


async def test_the_command_sends_again_when_the_connection_breaks(
    server: TestServer, settings: IngestSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reply lost on the way, it is asked for again: still one job, and no byte sent twice."""
    monkeypatch.setattr(api, "_RESEND_AFTER_S", 0.1)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes(compressed(good()))
    read: list[int] = []

    proxy = TcpProxy(server.port or 0)
    proxy.break_at = b"HTTP/1.1 202"
    async with proxy.running(), api.session() as http:
        reply = await api.submit(http, f"http://127.0.0.1:{proxy.port}", [scan], None, read.append)
    assert proxy.breaks == 1
    assert kept(settings) == [reply["job_id"]]
    assert sum(read) == scan.stat().st_size


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    """Held by one at a time, in whatever process; a SIGKILL frees it, and no file stays in the end."""
    path = tmp_path / "lock"
    hold = (
        "import sys, pathlib, ingest.locks\n"
        "with ingest.locks.held(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(HeldError), held(path):
            pass
        holder.kill()
        holder.wait()
    with held(path), pytest.raises(HeldError), held(path):
        pass
    assert not path.exists()
