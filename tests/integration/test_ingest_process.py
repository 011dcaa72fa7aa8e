"""Ingest as a process of its own: how it starts, how it refuses to, and what it weighs."""

from __future__ import annotations

import os
import random
import re
import resource
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientTimeout, FormData

from tests.support.bad_scans import REFUSALS
from tests.support.dicom_files import archive_of, as_bytes, series, zipped
from tests.support.nifti_files import compressed, good, nifti, voxels
from tests.support.ports import free_ports
from tests.support.tus import upload
from tests.support.waiting import PATIENCE_S

MIB = 1024**2
LARGE_BYTES = 200 * MIB
FEW_FILES = 200


def environment(**settings: str) -> dict[str, str]:
    """Return this process's environment with none of the project's variables but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CORESTREAM_")}
    return kept | {f"CORESTREAM_{name}": value for name, value in settings.items()}


@pytest.fixture
def few_files() -> Iterator[None]:
    """Let this process, and those it starts, have few files open unless they ask for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW_FILES, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def service(tmp_path: Path, redis_url: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`python -m ingest` on a free port: the process and its address."""
    port = free_ports()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ingest"],
            env=environment(
                SECRET_KEY="s" * 64,
                REDIS_URL=redis_url,
                DATA_DIR=str(tmp_path / "data"),
                INGEST_PORT=str(port),
                PUBLIC_URL=f"http://127.0.0.1:{port}",
            ),
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + PATIENCE_S
    while not is_ready(url):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield process, url
    process.terminate()
    assert process.wait(PATIENCE_S) == 0


def is_ready(url: str) -> bool:
    """Ask for readiness."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:  # noqa: S310 - our own server
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def peak_bytes(process: subprocess.Popen[bytes]) -> int:
    """Return the most memory a process has ever held (Linux: VmHWM)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
async def test_large_uploads_leave_memory_flat(
    service: tuple[subprocess.Popen[bytes], str], tmp_path: Path
) -> None:
    """200 MB accepted, 200 MB refused and a gzip of 600 MB cost less than 16 MB over a small upload."""
    process, url = service
    uploads: dict[str, tuple[bytes, int]] = {
        "small": (good(), 202),
        "accepted": (good() + bytes(LARGE_BYTES), 202),
        "refused": (nifti(voxels((9, 9, 9, 2))) + bytes(LARGE_BYTES), 422),
        "bomb": (compressed(good() + bytes(3 * LARGE_BYTES)), 413),
    }
    peaks = {}
    async with ClientSession() as http:
        for name, (content, status) in uploads.items():
            path = tmp_path / name
            path.write_bytes(content)
            with path.open("rb") as file:
                form = FormData()
                form.add_field("file", file, filename="scan")
                async with http.post(f"{url}/api/jobs", data=form) as answer:
                    assert answer.status == status, await answer.text()
            peaks[name] = peak_bytes(process)
    assert max(peaks.values()) - peaks["small"] < 16 * MIB, peaks
    assert peaks["bomb"] < 120 * MIB, peaks


async def submit(http: ClientSession, url: str, content: bytes) -> tuple[int, dict[str, str]]:
    """Send one file and return the answer."""
    form = FormData()
    form.add_field("file", content, filename="scan")
    async with http.post(f"{url}/api/jobs", data=form, timeout=ClientTimeout(60)) as answer:
        assert answer.content_type == ("application/json" if answer.ok else "application/problem+json")
        return answer.status, await answer.json()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
async def test_no_bad_file_costs_more_than_its_refusal(
    service: tuple[subprocess.Popen[bytes], str], tmp_path: Path
) -> None:
    """Each is a problem document; no file stays, no traceback is logged, memory grows by less than 200 MB."""
    process, url = service
    idle = peak_bytes(process)
    zeros = bytes(600 * MIB)
    bombs = {
        "a gzip bomb": (compressed(good()[:352] + zeros), 413, "inflated-too-large"),
        "a ZIP bomb": (zipped({"CT/1": bytes(128) + b"DICM" + zeros[: 400 * MIB]}), 413, "archive-too-large"),
    }
    refused = {name: (build(), status, code) for name, (build, status, code, _) in REFUSALS.items()}
    async with ClientSession() as http:
        for name, (content, status, code) in (refused | bombs).items():
            answered, problem = await submit(http, url, content)
            assert (answered, problem["code"]) == (status, code), name
            assert problem["detail"].startswith("Expected "), name
    assert [path for top in ("incoming", "jobs") for path in (tmp_path / "data" / top).iterdir()] == []
    assert peak_bytes(process) - idle < 200 * MIB
    assert "Traceback" not in (tmp_path / "log").read_text()


async def test_damaged_files_are_answered(
    service: tuple[subprocess.Popen[bytes], str], tmp_path: Path
) -> None:
    """Bytes of real files change on their way: never a 500, never a hang.

    `CORESTREAM_FUZZ_EXAMPLES=5000` sends that many.
    """
    _, url = service
    chance = random.Random(20)  # noqa: S311 - not for secrets
    files = [nifti(voxels((12, 10, 8))), compressed(nifti(voxels((40, 30, 20)))), archive_of(series(3))]
    statuses: Counter[int] = Counter()
    async with ClientSession() as http:
        for number in range(int(os.environ.get("CORESTREAM_FUZZ_EXAMPLES", "60"))):
            # The process that reads DICOM takes a second to start.
            content = bytearray(files[2 if number % 20 == 0 else number % 2])
            for _ in range(chance.randint(1, 12)):
                reach = chance.choice([400, len(content)])
                content[chance.randrange(min(reach, len(content)))] ^= chance.randrange(1, 256)
            status, _ = await submit(http, url, bytes(content))
            statuses[status] += 1
    assert set(statuses) <= {202, 413, 415, 422}, statuses
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.usefixtures("few_files")
async def test_a_series_has_more_slices_than_a_shell_lets_files_be_open(
    service: tuple[subprocess.Popen[bytes], str],
) -> None:
    """Its uploads are all held while the job is made, and thin slices are more than 1,024."""
    _, url = service
    async with ClientSession() as http:
        addresses = [
            await upload(http, f"{url}/api/uploads", as_bytes(image)) for image in series(FEW_FILES + 50)
        ]
        async with http.post(f"{url}/api/jobs", json={"uploads": addresses}) as answer:
            assert answer.status == 202, await answer.text()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "CORESTREAM_SECRET_KEY is not set"),
        ({"SECRET_KEY": "s" * 64, "MAX_UPLOAD_BYTES": "much"}, "CORESTREAM_MAX_UPLOAD_BYTES is 'much'"),
        ({"SECRET_KEY": "s" * 64, "DATA_DIR": "/dev/null/data"}, "CORESTREAM_DATA_DIR is '/dev/null/data'"),
    ],
    ids=["no key", "a wrong number", "a folder that cannot be"],
)
def test_wrong_settings_end_the_start_in_words(settings: dict[str, str], words: str) -> None:
    """Whoever starts it reads which variable is wrong, not a traceback."""
    ended = subprocess.run(
        [sys.executable, "-m", "ingest"],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
