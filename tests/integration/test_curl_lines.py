"""The lines for curl do what the pages that show them say."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from ingest.app import build
from ingest.settings import IngestSettings
from tests.support.nifti_files import compressed, good

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["README.md", "docs/uploads.md"])
async def test_three_lines_of_curl_upload_a_scan_and_make_a_job(
    page: str, tmp_path: Path, redis_url: str, unused_tcp_port: int
) -> None:
    """As they stand there, but for the port."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    settings = IngestSettings(
        secret_key=SecretStr("s" * 64), redis_url=redis_url, data_dir=tmp_path / "data", public_url=url
    )
    lines = [line.strip() for line in (ROOT / page).read_text(encoding="utf-8").splitlines()]
    begin = next(number for number, line in enumerate(lines) if line.startswith("url=$(curl"))
    script = "\n".join(lines[begin : begin + 3]).replace("http://127.0.0.1:7605", url)
    (tmp_path / "scan.nii.gz").write_bytes(compressed(good()))
    server = TestServer(build(settings), port=unused_tcp_port)
    await server.start_server()
    try:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", script), cwd=tmp_path, stdout=subprocess.PIPE
        )
        said, _ = await process.communicate()
    finally:
        await server.close()
    record = settings.storage.read_job(json.loads(said)["job_id"])
    assert record.email == "you@hospital.example"
    assert len(record.scans) == 1
