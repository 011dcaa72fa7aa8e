"""From resumable uploads to jobs, over HTTP, against a real server and a real Redis."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from ingest.app import build
from ingest.settings import IngestSettings
from pipeline.streams import connect
from tests.support.nifti_files import compressed, good
from tests.support.tus import code, create, incoming, patch, send, upload

METADATA = "filename ZG9lX2phbmUubmlp,empty"


async def submit(
    http: ClientSession, url: str, *addresses: str, **members: str
) -> tuple[int, dict[str, Any]]:
    """Make a job of uploads."""
    headers = {"Idempotency-Key": key} if (key := members.pop("key", "")) else {}
    document = {"uploads": addresses, **members}
    async with http.post(url.replace("uploads", "jobs"), json=document, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


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
