"""Child processes under `corestream up`: kept running, stopped in order, never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from corestream.up.supervisor import Service, Supervisor
from pipeline.errors import ConfigurationError
from tests.support.processes import processes
from tests.support.waiting import PATIENCE_S, eventually

ROOT = Path(__file__).parents[2]


def script(text: str) -> tuple[str, ...]:
    """Return the command line of a shell script."""
    return ("/bin/sh", "-c", text)


async def pid_in(path: Path) -> int:
    """Wait until a service has written its process id, and return it."""

    async def written() -> bool:
        return _read(path).endswith("\n")

    await eventually(written)
    return int(_read(path))


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def ended(pid: int) -> None:
    """Wait until a process is gone."""

    async def gone() -> bool:
        return pid not in processes()

    await eventually(gone)


async def test_a_service_that_dies_is_started_again(tmp_path: Path) -> None:
    """Whoever kills a service sees a new one, not a hole."""
    service = Service("s", script(f"echo $$ > {tmp_path}/pid; exec sleep 600"), stage=0)
    async with Supervisor([service]):
        first = await pid_in(tmp_path / "pid")
        (tmp_path / "pid").unlink()
        os.kill(first, signal.SIGKILL)
        second = await pid_in(tmp_path / "pid")
        assert second != first
    assert second not in processes()


async def test_services_end_stage_by_stage(tmp_path: Path) -> None:
    """Redis must be there until the last service has finished what it was at."""
    log = tmp_path / "log"
    slow = f"trap 'sleep 0.5; echo service >> {log}; exit' TERM; echo $$ > {tmp_path}/pid; sleep 600 & wait"
    fast = f"trap 'echo redis >> {log}; exit' TERM; echo $$ > {tmp_path}/pid2; sleep 600 & wait"
    async with Supervisor([Service("redis", script(fast), stage=1), Service("s", script(slow), stage=0)]):
        await pid_in(tmp_path / "pid")
        await pid_in(tmp_path / "pid2")
    assert log.read_text().split() == ["service", "redis"]


async def test_a_service_that_lived_a_while_is_started_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only deaths in a row delay the next start: an accident a week is no service that cannot live."""
    monkeypatch.setattr("corestream.up.supervisor._BACKOFF_S", (0, 600))
    monkeypatch.setattr("corestream.up.supervisor._STEADY_S", 0.2)

    async def thrice() -> bool:
        return len(_read(tmp_path / "starts").splitlines()) >= 3

    async with Supervisor([Service("s", script(f"echo >> {tmp_path}/starts; sleep 0.5"), stage=0)]):
        await eventually(thrice)


async def test_a_service_that_overruns_its_grace_is_killed_with_its_children(tmp_path: Path) -> None:
    """A service that ignores SIGTERM must not keep `up` from ending."""
    stubborn = f"trap '' TERM; sleep 600 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/pid; wait"
    async with Supervisor([Service("s", script(stubborn), stage=0, grace_s=0.3)]):
        pid = await pid_in(tmp_path / "pid")
    await ended(pid)
    await ended(await pid_in(tmp_path / "child"))


async def test_a_service_that_is_being_started_when_the_end_comes_has_its_grace_too() -> None:
    """A stop in the first moment leaves nothing behind, and waits no longer than for any other."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which the service inherits
    try:
        async with asyncio.timeout(PATIENCE_S):
            async with Supervisor([Service("s", script("exec sleep 600"), stage=0, grace_s=0.3)]):
                await asyncio.sleep(0)  # the supervisor's task runs so far that its process is on its way
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_second_signal_does_not_wait_for_the_grace(tmp_path: Path) -> None:
    """Who presses Ctrl-C twice wants it to end."""
    stubborn = f"trap '' TERM; echo $$ > {tmp_path}/pid; sleep 600 & wait"
    async with Supervisor([Service("s", script(stubborn), stage=0, grace_s=600)]) as supervisor:
        pid = await pid_in(tmp_path / "pid")
        supervisor.hurry()
        started_s = time.monotonic()
    assert time.monotonic() - started_s < PATIENCE_S
    await ended(pid)


async def test_a_service_that_refuses_its_settings_is_not_tried_again() -> None:
    """Exit status 2 says that trying again cannot help; the words name the service."""
    async with Supervisor([Service("viewer", script("exit 2"), stage=0)]) as supervisor:
        with pytest.raises(ConfigurationError, match="viewer"):
            await asyncio.wait_for(supervisor.failed(), PATIENCE_S)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a child follow its parent")
async def test_services_do_not_outlive_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    """SIGKILL of `up` leaves nothing behind that would hold its ports and its files."""
    program = (
        "import asyncio, sys\n"
        "from corestream.up.supervisor import Service, Supervisor\n"
        "async def main():\n"
        "    async with Supervisor([Service('s', ('/bin/sh', '-c', sys.argv[1]), stage=0)]):\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    service = f"trap '' TERM; echo $$ > {tmp_path}/pid; exec sleep 600"
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, service), cwd=ROOT, stderr=subprocess.DEVNULL
    )
    try:
        pid = await pid_in(tmp_path / "pid")
    finally:
        parent.kill()
        await parent.wait()
    await ended(pid)
