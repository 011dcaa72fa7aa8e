"""The interface is what its description says, held against a real ingest process by schemathesis."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, FormData
from pydantic import SecretStr

from ingest.app import build
from ingest.settings import IngestSettings
from pipeline.web.openapi import operations
from tests.support.nifti_files import compressed, good
from tests.support.ports import free_ports
from tests.support.waiting import PATIENCE_S, eventually

ADMIN_TOKEN = "admin-token-of-the-test"  # noqa: S105 - opens nothing but this test's own service
PAGES = ("/jobs/", "/monitor")
UNDESCRIBED = {"/", "/openapi.json", "/api/docs"}
"""A page and the description itself."""


HOOKS = """
import schemathesis

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
"""
"""How schemathesis writes the body of tus."""


@pytest.fixture
def service(tmp_path: Path, redis_url: str) -> Iterator[str]:
    """`python -m ingest` on a free port: its address."""
    port = free_ports()
    own = {name: value for name, value in os.environ.items() if not name.startswith("CORESTREAM_")}
    settings = {
        "SECRET_KEY": "s" * 64,
        "REDIS_URL": redis_url,
        "DATA_DIR": str(tmp_path / "data"),
        "INGEST_PORT": str(port),
        "ADMIN_TOKEN": ADMIN_TOKEN,
        "MIN_FREE_BYTES": "0",
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ingest"],
            env=own | {f"CORESTREAM_{name}": value for name, value in settings.items()},
            stdout=log,
            stderr=log,
        )
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    assert process.wait(30) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


async def ready(http: ClientSession, url: str) -> None:
    """Wait until the service answers."""

    async def answers() -> bool:
        try:
            async with http.get(f"{url}/readyz") as answer:
                return answer.status == 200
        except OSError:
            return False

    await eventually(answers)


def config(job_id: str, token: str) -> str:
    """Return what schemathesis cannot guess: a job that exists, and who may ask for it."""
    return f"""
hooks = "hooks.py"

[checks]
# tus asks for 412, and who may not see a job, or comes too late, learns nothing of the rest of a request.
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 409, 410, 412, 413, 415, 422, 429]
missing_required_header.expected-statuses = [400, 401, 403, 404, 409, 410, 412, 413, 415, 422, 429]

[parameters]
"path.job_id" = "{job_id}"

[[operations]]
include-path-regex = "^/api/jobs/"
parameters = {{ "query.token" = "{token}" }}

[[operations]]
include-path-regex = "^/api/(dead|monitor)"
headers = {{ Authorization = "Bearer {ADMIN_TOKEN}" }}
"""


async def test_every_answer_is_one_that_the_description_tells_of(service: str, tmp_path: Path) -> None:
    """Generated requests, right ones and wrong ones: no 500, no status, body or type that is not described.

    That what fits the schema is accepted is not asked for: no schema can say what a NIfTI volume is.
    """
    async with ClientSession() as http:
        await ready(http, service)
        form = FormData()
        form.add_field("file", compressed(good()), filename="scan.nii.gz")
        async with http.post(f"{service}/api/jobs", data=form) as answer:
            assert answer.status == 202
            reply = await answer.json()
    settings = tmp_path / "schemathesis.toml"
    (tmp_path / "hooks.py").write_text(HOOKS)
    settings.write_text(config(reply["job_id"], reply["status_url"].partition("token=")[2]))
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings)),
        *("run", f"{service}/openapi.json", "--checks", "all"),
        *(
            "--exclude-checks",
            "positive_data_acceptance,allow_header_conformance",
        ),  # /api/dead/{id} fits /retry too
        *("--exclude-path", "/api/jobs/{job_id}/events"),  # it does not end while the job waits
        *("--max-examples", os.environ.get("CORESTREAM_FUZZ_EXAMPLES", "15"), "--seed", "1"),
        *("--request-timeout", f"{PATIENCE_S:.0f}", "--suppress-health-check", "too_slow"),
        *("--continue-on-failure", "--no-color", "--warnings", "off"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await run.communicate()
    assert run.returncode == 0, output.decode()


async def test_every_route_for_programs_is_described(tmp_path: Path) -> None:
    """A new handler under /api is described, or this fails; pages need no description."""
    app = build(IngestSettings(secret_key=SecretStr("s" * 64), data_dir=tmp_path))
    silent = [
        f"{method} {path}"
        for path, method, operation, _ in operations(app)
        if operation is None and path not in UNDESCRIBED and not path.startswith(PAGES)
    ]
    assert silent == []


async def test_the_page_shows_every_operation_from_our_own_origin(service: str) -> None:
    """Readable without script, and nothing is loaded from elsewhere."""
    async with ClientSession() as http:
        await ready(http, service)
        async with http.get(f"{service}/openapi.json") as answer:
            document = await answer.json()
        async with http.get(f"{service}/api/docs") as answer:
            assert answer.status == 200
            page = await answer.text()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f"<code>{method.upper()} {path}</code>" in page
            assert operation["summary"] in page
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
