"""API keys: where they are asked for nobody submits without one, and nothing that opens is kept."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, FormData
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from ingest.api_keys import ApiKeys
from ingest.app import build
from ingest.settings import IngestSettings
from tests.support.nifti_files import compressed, good
from tests.support.waiting import PATIENCE_S


@pytest.fixture
def keys(tmp_path: Path) -> ApiKeys:
    """An installation without a key."""
    (tmp_path / "data").mkdir()
    return ApiKeys(tmp_path / "data")


@pytest.fixture
async def server(keys: ApiKeys, redis_url: str) -> AsyncIterator[TestServer]:
    """An upload service that asks for keys."""
    settings = IngestSettings(
        secret_key=SecretStr("s" * 64), redis_url=redis_url, data_dir=keys.data_dir, api_keys=True
    )
    server = TestServer(build(settings))
    await server.start_server()
    yield server
    await server.close()


def form() -> FormData:
    """Return one scan."""
    data = FormData()
    data.add_field("file", compressed(good()), filename="scan.nii.gz")
    return data


def test_bytes_that_are_no_text_are_no_key(keys: ApiKeys) -> None:
    """As a header brings them: they are nobody's, and break nothing."""
    keys.add("clinic")
    assert keys.name_of("\udcff") is None


async def test_nobody_submits_without_a_key(server: TestServer, keys: ApiKeys) -> None:
    """No key, another's key, a revoked key: 401, and a browser is told to ask for one."""
    key = keys.add("clinic")
    revoked = keys.add("gone")
    keys.revoke("gone")
    sent: dict[str, tuple[dict[str, str], str]] = {
        "none": ({}, "api-key-missing"),
        "another": ({"X-API-Key": key[:-1]}, "api-key-invalid"),
        "revoked": ({"X-API-Key": revoked}, "api-key-invalid"),
        "the name": ({"X-API-Key": "clinic"}, "api-key-invalid"),
        "a job's way": ({"Authorization": f"Bearer {key}"}, "api-key-missing"),
    }
    async with ClientSession() as http:
        for name, (headers, code) in sent.items():
            for method, path in (("POST", "/api/jobs"), ("GET", "/")):
                async with http.request(method, server.make_url(path), headers=headers) as answer:
                    assert (answer.status, (await answer.json())["code"]) == (401, code), name
                    assert answer.headers["WWW-Authenticate"].startswith("Basic ")


async def test_no_method_leads_past_the_key(server: TestServer) -> None:
    """What speaks tus may be asked by anybody; a request that is to be read as another is that other."""
    announce = {"Tus-Resumable": "1.0.0", "Upload-Length": "3"}
    async with ClientSession() as http:
        url = server.make_url("/api/uploads")
        async with http.options(url) as answer:
            assert answer.status == 204
        async with http.options(url, headers=announce | {"X-HTTP-Method-Override": "POST"}) as answer:
            assert (answer.status, (await answer.json())["code"]) == (401, "api-key-missing")


async def test_whoever_has_a_key_submits_and_the_link_needs_none(server: TestServer, keys: ApiKeys) -> None:
    """By header or as the password that a browser asks for; the job's link works for whom it is mailed to."""
    key = keys.add("clinic")
    async with ClientSession() as http:
        for headers in (
            {"X-API-Key": key},
            {"Authorization": "Basic " + base64.b64encode(f":{key}".encode()).decode()},
        ):
            async with http.post(server.make_url("/api/jobs"), data=form(), headers=headers) as answer:
                assert answer.status == 202
                reply = await answer.json()
        status = reply["status_url"].split("/api/")[1]
        async with http.get(
            server.make_url(f"/api/{status.split('?')[0]}"), params={"token": status.split("token=")[1]}
        ) as answer:
            assert answer.status == 200
        async with http.get(server.make_url("/healthz")) as answer:
            assert answer.status == 200


def command(data: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `corestream` as an operator does."""
    return subprocess.run(
        [sys.executable, "-m", "corestream", *arguments],
        env=os.environ | {"CORESTREAM_DATA_DIR": str(data)} | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )


def test_an_operator_adds_lists_and_revokes(keys: ApiKeys) -> None:
    """A key is shown once and kept as a hash; `corestream submit` sends it; a name stands for one key."""
    key = command(keys.data_dir, "keys", "add", "clinic").stdout.strip()
    assert keys.name_of(key) == "clinic"
    kept = next(path for path in keys.data_dir.iterdir() if path.name == "api-keys.json")
    assert key not in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0
    again = command(keys.data_dir, "keys", "add", "clinic")
    assert (again.returncode, "there is a key 'clinic'" in again.stderr) == (1, True)
    assert command(keys.data_dir, "keys", "add", "two words").returncode == 1
    nowhere = command(keys.data_dir / "nowhere", "keys", "add", "clinic")
    assert (nowhere.returncode, "--data" in nowhere.stderr) == (2, True)
    listed = json.loads(command(keys.data_dir, "keys", "list", "--json").stdout)
    assert [entry["name"] for entry in listed] == ["clinic"]
    assert key not in command(keys.data_dir, "keys", "list").stdout
    assert command(keys.data_dir, "keys", "revoke", "clinic").returncode == 0
    assert command(keys.data_dir, "keys", "revoke", "clinic").returncode == 1
    assert keys.all() == ()


async def test_the_command_line_sends_the_environments_key(
    server: TestServer, keys: ApiKeys, tmp_path: Path
) -> None:
    """A script sets one variable."""
    key = keys.add("script")
    scan = tmp_path / "scan.nii"
    scan.write_bytes(good())
    arguments = ("submit", str(scan), "--server", str(server.make_url("")).rstrip("/"), "--json")
    refused = await asyncio.to_thread(command, keys.data_dir, *arguments)
    assert refused.returncode == 1, refused.stderr
    done = await asyncio.to_thread(command, keys.data_dir, *arguments, CORESTREAM_API_KEY=key)
    assert done.returncode == 0, done.stderr
