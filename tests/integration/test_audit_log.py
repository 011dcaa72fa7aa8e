"""The audit log: a line for each submission, view, download and deletion, refused ones too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, FormData
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from ingest.app import build
from ingest.settings import IngestSettings
from tests.support.nifti_files import compressed, good
from tests.support.results import accepted_job, publish_result
from tests.support.viewing import running_viewer
from tests.support.waiting import eventually


def lines(data: Path) -> list[dict[str, Any]]:
    """Return what the log holds."""
    path = data / "audit" / "audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def told(data: Path) -> list[tuple[str, str]]:
    """Return what was done and how it ended."""
    return [(line["action"], line["outcome"]) for line in lines(data)]


def form(content: bytes) -> FormData:
    """Return one scan with an address."""
    data = FormData({"email": "jane.doe@example.org"}, default_to_multipart=True)
    data.add_field("file", content, filename="doe_jane.nii.gz")
    return data


async def test_ingest_writes_what_was_done_and_what_was_refused(tmp_path: Path, redis_url: str) -> None:
    """With time, job, keyed hash of the address and outcome; without mail address, file name, token, IP."""
    settings = IngestSettings(secret_key=SecretStr("s" * 64), redis_url=redis_url, data_dir=tmp_path)
    async with TestServer(build(settings)) as server, ClientSession() as http:
        async with http.post(server.make_url("/api/jobs"), data=form(compressed(good()))) as answer:
            assert answer.status == 202
            reply = await answer.json()
        async with http.post(server.make_url("/api/jobs"), data=form(b"")) as answer:
            assert answer.status == 415
        job, token = reply["job_id"], reply["status_url"].partition("token=")[2]
        url = server.make_url(f"/api/jobs/{job}")
        for _ in range(3):
            assert (await http.get(url, params={"token": token})).status == 200
        assert (await http.get(url, params={"token": "wrong"})).status == 403
        assert (await http.get(url)).status == 401
        assert (await http.delete(url, params={"token": token})).status == 200
    assert told(tmp_path) == [
        ("submit", "ok"),
        ("submit", "not-nifti"),
        ("view", "ok"),
        ("view", "link-invalid"),
        ("view", "token-missing"),
        ("delete", "ok"),
    ]
    written = lines(tmp_path)
    assert [line.get("job_id") for line in written] == [job, None, job, None, None, job]
    assert len({line["address"] for line in written}) == 1
    assert all(line["at"].endswith("Z") for line in written)
    content = (tmp_path / "audit" / "audit.jsonl").read_text()
    for secret in ("jane", "doe", token, "127.0.0.1"):
        assert secret not in content
    assert (tmp_path / "audit" / "audit.jsonl").stat().st_mode & 0o077 == 0


async def test_a_job_that_expires_is_a_deletion(tmp_path: Path, redis_url: str) -> None:
    """The clock deletes too."""
    settings = IngestSettings(
        secret_key=SecretStr("s" * 64), redis_url=redis_url, data_dir=tmp_path, retention_hours=0.0005
    )
    async with TestServer(build(settings, sweep_every_s=0.1)) as server, ClientSession() as http:
        async with http.post(server.make_url("/api/jobs"), data=form(compressed(good()))) as answer:
            assert answer.status == 202

        async def is_told() -> bool:
            return told(tmp_path)[1:] == [("delete", "expired")]

        await eventually(is_told)


async def test_the_viewer_writes_views_and_downloads(tmp_path: Path) -> None:
    """A file that is read in pieces is one download; a link that opens nothing is told of too."""
    async with running_viewer(tmp_path) as viewer, ClientSession() as http:
        job = accepted_job(viewer.storage)
        publish_result(viewer.storage, job, job.scans[0].scan_id)
        assert (await http.get(viewer.result(job))).status == 200
        assert (await http.get(viewer.papaya(job))).status == 200
        for name in ("report.json", "saliency.nii.gz", "saliency.nii.gz"):
            assert (await http.get(viewer.file(job, name), headers={"Range": "bytes=0-9"})).status == 206
        assert (await http.get(viewer.file(job, "scan.nii.gz"))).status == 404
        assert (await http.get(f"{viewer.origin}/r/wrong")).status == 403
    assert told(tmp_path) == [
        ("view", "ok"),
        ("view", "ok"),
        ("download", "ok"),
        ("download", "ok"),
        ("download", "not-found"),
        ("view", "link-invalid"),
    ]
    assert {line.get("job_id") for line in lines(tmp_path)} == {job.job_id, None}


async def test_links_that_are_tried_at_random_are_one_line(tmp_path: Path) -> None:
    """Nobody fills the disk by asking."""
    async with running_viewer(tmp_path) as viewer, ClientSession() as http:
        for number in range(3):
            assert (await http.get(f"{viewer.origin}/r/guess-{number}")).status == 403
    assert told(tmp_path) == [("view", "link-invalid")]


async def test_readers_behind_a_proxy_are_told_apart(tmp_path: Path) -> None:
    """The log tells of each of them, under another hash, as far as the proxy is trusted."""
    async with running_viewer(tmp_path) as viewer, ClientSession() as http:
        job = accepted_job(viewer.storage)
        for reader in ("10.0.0.1", "10.0.0.2", "10.0.0.1"):
            answer = await http.get(viewer.result(job), headers={"X-Forwarded-For": reader})
            assert answer.status == 200
    assert [line["address"] for line in lines(tmp_path)] == [
        viewer.settings.audit.address_hash(reader) for reader in ("10.0.0.1", "10.0.0.2")
    ]
