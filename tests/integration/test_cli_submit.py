"""`corestream submit` and `status` against a real ingest."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.storage import Storage
from tests.support.nifti_files import good
from tests.support.ports import free_ports
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import PATIENCE_S, eventually

ROOT = Path(__file__).parents[2]
KEY = "k" * 40


@dataclass(frozen=True)
class Intake:
    """A running ingest; no processor, so its jobs stay open."""

    url: str
    data_dir: Path


@pytest.fixture
async def intake(tmp_path: Path, redis_url: str) -> AsyncIterator[Intake]:
    """An ingest of the test's own."""
    running = Intake(f"http://127.0.0.1:{free_ports()}", tmp_path / "data")
    settings = {
        "CORESTREAM_REDIS_URL": redis_url,
        "CORESTREAM_DATA_DIR": str(running.data_dir),
        "CORESTREAM_INGEST_PORT": running.url.rpartition(":")[2],
        "CORESTREAM_PUBLIC_URL": running.url,
        "CORESTREAM_SECRET_KEY": KEY,
    }
    process = subprocess.Popen([sys.executable, "-m", "ingest"], cwd=ROOT, env=os.environ | settings)  # noqa: ASYNC220 - starts at once

    async def answers() -> bool:
        try:
            urllib.request.urlopen(f"{running.url}/readyz", timeout=5).close()  # noqa: ASYNC210, S310 - our own
        except (urllib.error.URLError, OSError):
            return False
        return True

    try:
        await eventually(answers)
        yield running
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A volume on the network's grid."""
    path = tmp_path / "scan.nii.gz"
    voxels = np.zeros((146, 182, 133), np.int16)
    voxels[40:100, 40:140, 30:100] = 40
    nib.Nifti1Image(voxels, np.diag([-1.0, 1, 1, 1])).to_filename(path)
    return path


def corestream(*arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "corestream", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


async def test_a_scan_is_accepted_and_its_state_can_be_asked_for(intake: Intake, scan: Path) -> None:
    """By the URL that was printed, and by the id where files and key are at hand."""
    submitted = corestream("submit", scan, "--server", intake.url, "--json")
    assert submitted.returncode == 0, submitted.stderr
    assert submitted.stderr == ""
    reply = json.loads(submitted.stdout)
    by_url = corestream("status", reply["status_url"], "--json")
    assert json.loads(by_url.stdout)["scans"][0]["state"] == "waiting"
    by_id = corestream(
        *("status", reply["job_id"], "--server", intake.url, "--data", intake.data_dir),
        CORESTREAM_SECRET_KEY=KEY,
    )
    assert by_id.returncode == 0, by_id.stderr
    assert "scan 1: waiting" in by_id.stdout


async def test_a_refused_file_is_told_in_the_servers_words(intake: Intake, tmp_path: Path) -> None:
    """Exit status 1: asked for properly, and refused; programs get the problem document."""
    text = tmp_path / "notes.nii"
    text.write_text("not a volume")
    refused = corestream("submit", text, "--server", intake.url)
    assert refused.returncode == 1
    assert "Expected" in refused.stderr
    problem = json.loads(corestream("submit", text, "--server", intake.url, "--json").stdout)
    assert problem["status"] in range(400, 500)
    assert problem["code"] in refused.stderr


async def test_a_forged_link_is_refused(intake: Intake) -> None:
    """The key of another installation opens nothing here."""
    refused = corestream("status", f"{intake.url}/api/jobs/{'0' * 32}?token=forged")
    assert refused.returncode == 1
    assert "link" in refused.stderr.lower()


async def test_without_a_server_the_user_hears_how_to_start_one(scan: Path) -> None:
    """Exit status 2 tells a script that trying again may help."""
    url = f"http://127.0.0.1:{free_ports()}"
    nobody = corestream("submit", scan, "--server", url, "--json")
    assert nobody.returncode == 2
    assert "corestream up" in json.loads(nobody.stdout)["detail"]


async def test_after_ctrl_c_the_same_command_goes_on_where_it_stopped(
    intake: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folder too; exit status 130 tells a script that nothing went wrong but its user's patience."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "scan.nii").write_bytes(good())
    (folder / ".hidden").write_bytes(b"not a scan")
    proxy = TcpProxy(int(intake.url.rpartition(":")[2]), lose_after_bytes=2 * 1024**2)
    async with proxy.running():
        command = ("submit", str(folder), "--server", f"http://127.0.0.1:{proxy.port}")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "corestream", *command), cwd=ROOT, stderr=asyncio.subprocess.PIPE
        )

        async def is_in_the_middle() -> bool:
            parts = (intake.data_dir / "incoming").glob("*.part")
            return proxy.lost and any(part.stat().st_size > 10**6 for part in parts)

        await eventually(is_in_the_middle)
        process.send_signal(signal.SIGINT)
        _, words = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert process.returncode == 130, words
        assert b"goes on where it stopped" in words
        (part,) = (intake.data_dir / "incoming").glob("*.part")
        again = await asyncio.to_thread(corestream, *command, "--json")
        assert again.returncode == 0, again.stderr
    job = Storage(intake.data_dir).read_job(json.loads(again.stdout)["job_id"])
    assert job.upload_ids == (part.stem,)
    assert job.scans[0].sha256 == hashlib.sha256(good()).hexdigest()
    assert list((tmp_path / "home/corestream/uploads").iterdir()) == []


async def test_ctrl_c_while_waiting_says_where_the_job_goes_on(intake: Intake, tmp_path: Path) -> None:
    """The same command would make another job: the one that was accepted has a page."""
    scan = tmp_path / "scan.nii"
    scan.write_bytes(good())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "corestream", "submit", str(scan), "--server", intake.url, "--wait"),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_S):
        async for line in process.stderr:
            if b"waiting" in line:
                break
        process.send_signal(signal.SIGINT)
        words = await process.stderr.read()
        assert await process.wait() == 130, words
    (job_id,) = Storage(intake.data_dir).job_ids()
    assert f"/jobs/{job_id}" in "".join(words.decode().split())
