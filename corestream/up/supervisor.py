"""Child processes that are kept running, and stopped in order."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO, Self

import structlog

from corestream.up.tether import tethered
from pipeline.errors import ConfigurationError
from pipeline.service import CONFIGURATION_EXIT_STATUS

log = structlog.get_logger()

_BACKOFF_S = (0.5, 1, 2, 5, 10, 30)
"""Waits before a service is started again: at once for an accident, rarely for one that cannot live."""
_STEADY_S = 60
"""A service that lived this long is well: its next death counts as the first."""


@dataclass(frozen=True)
class Service:
    """One program to keep running.

    Attributes:
        name: In log lines.
        command: Its command line.
        stage: Services of a lower stage are stopped, and have ended, before those of a higher one are asked.
        grace_s: How long it may take to end after SIGTERM before it is killed.
        settings: Of this one alone, over the environment of this process: variables with their values.
    """

    name: str
    command: tuple[str, ...]
    stage: int
    grace_s: float = 10
    settings: Mapping[str, str] = field(default_factory=dict)


class Supervisor:
    """Runs services while it is entered as a context; stops them when it is left.

    Args:
        services: What to run, in the environment of this process.
        output: Where they write; None for where this process does.
    """

    def __init__(self, services: Sequence[Service], output: IO[bytes] | None = None) -> None:
        self._children = [_Child(service, output) for service in services]
        self._runs: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Start every service."""
        self._runs = [asyncio.create_task(child.keep_running()) for child in self._children]
        return self

    async def failed(self) -> None:
        """Wait until a service cannot go on; returns only by raising.

        Raises:
            ConfigurationError: A service refuses its settings; it has said why on standard error.
            OSError: A program could not be started.
        """
        ended, _ = await asyncio.wait(self._runs, return_when=asyncio.FIRST_EXCEPTION)
        for run in ended:
            run.result()

    def hurry(self) -> None:
        """Let nothing take its grace: what is stopping, or will be, is killed."""
        for child in self._children:
            child.hurry.set()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop every service, stage by stage."""
        for stage in sorted({child.service.stage for child in self._children}):
            await asyncio.gather(*(child.stop() for child in self._children if child.service.stage == stage))
        await asyncio.gather(*self._runs, return_exceptions=True)


class _Child:
    """One service and the process it is at the moment."""

    def __init__(self, service: Service, output: IO[bytes] | None) -> None:
        self.service = service
        self._output = output
        self.hurry = asyncio.Event()
        self._stopping = asyncio.Event()
        self._starting = asyncio.Lock()
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def keep_running(self) -> None:
        deaths = 0
        while not self._stopping.is_set():
            started_s = time.monotonic()
            status = await self._run()
            if self._stopping.is_set():
                return
            if status == CONFIGURATION_EXIT_STATUS:
                raise ConfigurationError(f"The {self.service.name} does not start with these settings.")
            deaths = 0 if time.monotonic() - started_s > _STEADY_S else deaths
            delay_s = _BACKOFF_S[min(deaths, len(_BACKOFF_S) - 1)]
            deaths += 1
            log.warning("up.died", child=self.service.name, status=status, started_again_in_s=delay_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)

    async def _run(self) -> int:
        async with self._starting:
            self._process = await asyncio.create_subprocess_exec(
                *tethered(self.service.command),
                env=os.environ | self.service.settings,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                # A terminal sends Ctrl-C to a whole session: Redis would end before the services.
                start_new_session=True,
            )
        log.info("up.started", child=self.service.name, pid=self._process.pid)
        return await self._process.wait()

    async def stop(self) -> None:
        self._stopping.set()
        async with self._starting:  # a process on its way gets its grace like any other
            self._signal(signal.SIGTERM)
        if self._process is None:
            return
        ended = asyncio.create_task(self._process.wait())
        hurried = asyncio.create_task(self.hurry.wait())
        await asyncio.wait(
            (ended, hurried), timeout=self.service.grace_s, return_when=asyncio.FIRST_COMPLETED
        )
        hurried.cancel()
        if not ended.done():
            log.warning("up.killed", child=self.service.name, grace_s=self.service.grace_s)
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await ended

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)
