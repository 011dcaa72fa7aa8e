"""Real processes that are started again when they die, as a supervisor does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Mapping
from pathlib import Path

from corestream.up.tether import tethered

RESTART_AFTER_S = 0.1


class Program:
    """One program: killed, paused, and started again at once whenever it ends.

    Args:
        name: Of the program and of its log.
        command: Its command line.
        environment: The whole of it.
        folder: For its log.

    Attributes:
        command: What is run at the next start.
        deaths: How often it ended.
    """

    def __init__(
        self, name: str, command: tuple[str, ...], environment: Mapping[str, str], folder: Path
    ) -> None:
        self.name = name
        self.command = command
        self.deaths = 0
        self.log = folder / f"{name}.log"
        self._environment = environment
        self._process: Process | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """Its process, or None while it is down."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def keep_running(self) -> None:
        """Run it until `stop`."""
        with self.log.open("ab") as log:
            while not self._stopping:
                self._process = await asyncio.create_subprocess_exec(
                    *tethered(self.command),
                    env=dict(self._environment),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                await self._process.wait()
                self.deaths += 1
                await asyncio.sleep(RESTART_AFTER_S)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL; its supervisor starts it again."""
        self.signal(signal.SIGKILL)

    def stop(self) -> None:
        """End it for good."""
        self._stopping = True
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)

    def said_since(self, offset: int, text: bytes) -> bool:
        """Return whether its log has `text` behind an offset."""
        with self.log.open("rb") as log:
            log.seek(offset)
            return text in log.read()

    def log_bytes(self) -> int:
        """Return how long its log is."""
        return self.log.stat().st_size if self.log.exists() else 0
