"""`corestream up`, started as a user starts it."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.ports import free_ports
from tests.support.processes import children, descendants, processes
from tests.support.waiting import NETWORK_PATIENCE_S

ROOT = Path(__file__).parents[2]
SERVICES = {"redis", "catch-mail", "ingest", "viewer", "processor", "notifier"}


@dataclass(frozen=True)
class Up:
    """A running `corestream up`, with all that it brings itself."""

    process: subprocess.Popen[bytes]
    port: int
    data_dir: Path
    drop_dir: Path
    log: Path

    @property
    def url(self) -> str:
        """Of the upload page."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running_up(folder: Path) -> Iterator[Up]:
    """Run one until the block ends, from the moment it says that it is ready; then SIGTERM."""
    port, data_dir, drop_dir, log = free_ports(6), folder / "data", folder / "drop", folder / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command(data_dir, port), "--drop", str(drop_dir)],
            env=clean_environment(),
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: "Ctrl-C stops" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield Up(process, port, data_dir, drop_dir, log)
    finally:
        process.terminate()
        process.wait(NETWORK_PATIENCE_S)


def command(data: Path, port: int) -> list[str]:
    """Return the command line."""
    return [sys.executable, "-m", "corestream", "up", "--data", str(data), "--port", str(port)]


def clean_environment() -> dict[str, str]:
    """Return the environment without settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CORESTREAM_")}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One installation for the tests that leave it running."""
    with running_up(tmp_path_factory.mktemp("up")) as running:
        yield running


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for a condition; a test that never sees it fails."""
    deadline_s = time.monotonic() + NETWORK_PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"did not come true within {NETWORK_PATIENCE_S} s"
        time.sleep(0.05)


def services(pid: int) -> dict[str, int]:
    """Return the services of an `up` by name."""
    found = {}
    for child in children(pid):  # not theirs: what a service has just begun still looks like it
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes().decode().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        for name in SERVICES:
            if f"-m {name} " in command or (name in {"redis", "catch-mail"} and name in command):
                found[name] = child
    return found


def all_services(pid: int) -> dict[str, int]:
    """Wait until every service of an `up` runs; return them by name."""
    found: dict[str, int] = {}

    def complete() -> bool:
        found.clear()
        found.update(services(pid))
        return found.keys() == SERVICES

    eventually(complete)
    return found


def page(url: str) -> str:
    """Return a page's text."""
    with urllib.request.urlopen(url, timeout=NETWORK_PATIENCE_S) as answer:  # noqa: S310 - an address of our own
        return str(answer.read().decode())


def test_it_serves_the_upload_page_and_says_where_everything_is(installation: Up) -> None:
    """One command, and a user can begin."""
    assert "<form" in page(f"{installation.url}/")
    viewer, mails = (f"http://127.0.0.1:{installation.port + offset}" for offset in (1, 2))
    assert "No mail yet" in page(f"{mails}/")
    said = installation.log.read_text()
    for expected in (
        installation.url,
        viewer,
        mails,
        str(installation.data_dir),
        str(installation.drop_dir),
        "redis-cli -s",
    ):
        assert expected in said


def test_what_it_keeps_is_private(installation: Up) -> None:
    """Other users of the machine see neither scans nor the key that opens them, nor reach its Redis."""
    for name, mode in ((".", 0o700), ("secret.key", 0o600), ("redis", 0o700)):
        assert stat.S_IMODE((installation.data_dir / name).stat().st_mode) == mode
    assert stat.S_ISSOCK((installation.data_dir / "redis" / "redis.sock").stat().st_mode)


def test_its_redis_keeps_what_it_is_told(installation: Up) -> None:
    """Neither a restart nor a full memory may cost an event."""
    socket_path = installation.data_dir / "redis" / "redis.sock"
    with socket.socket(socket.AF_UNIX) as redis:
        redis.connect(str(socket_path))
        redis.sendall(b"CONFIG GET appendonly\r\nCONFIG GET maxmemory-policy\r\nCONFIG GET appendfsync\r\n")
        answer = b""
        while answer.count(b"\r\n") < 15:
            answer += redis.recv(4096)
    assert answer.split(b"\r\n")[4::5][:3] == [b"yes", b"noeviction", b"everysec"]


def test_what_is_put_into_its_drop_folder_is_submitted(installation: Up) -> None:
    """The option reaches ingest: what is no scan comes back with the reason, and stands in the audit log."""
    (installation.drop_dir / "notes.nii").write_bytes(b"words")
    refused = installation.drop_dir / "refused"
    eventually((refused / "notes.nii").exists)
    assert "(not-nifti)" in (refused / "notes.nii.txt").read_text()
    lines = (installation.data_dir / "audit" / "audit.jsonl").read_text().splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["not-nifti"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_killed_service_comes_back(installation: Up, name: str) -> None:
    """The out-of-memory killer takes any of them; the others go on meanwhile."""
    before = all_services(installation.process.pid)
    os.kill(before[name], signal.SIGKILL)
    eventually(lambda: services(installation.process.pid).get(name, before[name]) != before[name])
    after = services(installation.process.pid)
    assert {other: pid for other, pid in after.items() if other != name} == {
        other: pid for other, pid in before.items() if other != name
    }


def test_a_second_one_in_the_same_folder_is_refused_in_words(installation: Up) -> None:
    """Two would spoil one append-only file; the first goes on."""
    second = up(installation.data_dir, free_ports(3))
    assert second.returncode == 2
    assert "another `corestream up`" in second.stderr
    assert "<form" in page(f"{installation.url}/")


def test_ports_that_are_taken_are_named_before_anything_starts(tmp_path: Path) -> None:
    """Half an installation is worse than none."""
    first = free_ports(3)
    with socket.create_server(("127.0.0.1", first + 2)):
        refused = up(tmp_path / "data", first)
    assert refused.returncode == 2
    assert f"127.0.0.1:{first + 2} for the page of caught mails" in refused.stderr
    assert "--port" in refused.stderr
    assert "up.started" not in refused.stderr


def test_a_wrong_setting_is_named_before_anything_starts(tmp_path: Path) -> None:
    """The message names the variable and what it holds."""
    refused = up(tmp_path / "data", free_ports(3), CORESTREAM_LEASE_MS="soon")
    assert refused.returncode == 2
    assert "CORESTREAM_LEASE_MS is 'soon'" in refused.stderr
    assert "up.started" not in refused.stderr


def test_sigterm_ends_everything_in_order(tmp_path: Path) -> None:
    """Services drain, Redis goes last, the exit status says that all is well."""
    with running_up(tmp_path) as running:
        started = descendants(running.process.pid)
    assert len(started) >= len(SERVICES)
    assert running.process.returncode == 0
    eventually(lambda: not started & processes().keys())  # what they started ends just after them
    log = (running.data_dir / "redis" / "redis.log").read_text()
    assert "bye bye" in log


def test_sigkill_leaves_nothing_running(tmp_path: Path) -> None:
    """What outlived it would hold its ports and its files against the next one."""
    with running_up(tmp_path) as running:
        all_services(running.process.pid)
        started = descendants(running.process.pid)
        running.process.kill()
        running.process.wait()
        eventually(lambda: not started & processes().keys())


def up(data: Path, port: int, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a `corestream up` that is expected to end by itself."""
    return subprocess.run(
        command(data, port),
        env=clean_environment() | settings,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=NETWORK_PATIENCE_S,
        check=False,
    )
