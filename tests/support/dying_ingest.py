"""Ingest that kills itself at one step of an acceptance: `python -m tests.support.dying_ingest [STEP]`.

Without a step it is ingest as it is, but for a sweep five times a second.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import ingest.intake
import pipeline.storage
from ingest.app import build
from ingest.settings import IngestSettings
from pipeline import logging
from pipeline.jobs import Jobs
from pipeline.settings import load
from pipeline.storage import Storage
from pipeline.web.app import run

SWEEP_EVERY_S = 0.2


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _before(owner: object, name: str) -> None:
    setattr(owner, name, lambda *_args, **_keywords: _die())


def _after(owner: type, name: str) -> None:
    done = getattr(owner, name)

    @functools.wraps(done)
    def do_and_die(*args: Any, **keywords: Any) -> None:  # noqa: ANN401 - whatever the step takes
        done(*args, **keywords)
        _die()

    setattr(owner, name, do_and_die)


def _after_queueing() -> None:
    enqueue = Jobs.enqueue

    async def do_and_die(self: Jobs, *args: Any) -> int:  # noqa: ANN401 - whatever the step takes
        queued = await enqueue(self, *args)
        _die()
        return queued

    setattr(Jobs, "enqueue", do_and_die)  # noqa: B010 - mypy forbids the assignment to a method


STEPS: dict[str, Callable[[], None]] = {
    "received": lambda: _before(ingest.intake, "admit"),
    "checked": lambda: _before(Storage, "accept"),
    "moved": lambda: _before(pipeline.storage, "write_whole"),
    "recorded": lambda: _after(Storage, "accept"),
    "in line": _after_queueing,
}
"""What has been done when it dies. Up to `moved` the job does not exist, from `recorded` on it does."""


def main(step: str | None = None) -> None:
    """Run the upload service from the environment until it dies or is told to stop."""
    settings = load(IngestSettings)
    logging.configure("ingest", settings.log_format)
    if step:
        STEPS[step]()
    run(build(settings, sweep_every_s=SWEEP_EVERY_S), host=settings.host, port=settings.ingest_port)


if __name__ == "__main__":
    main(*sys.argv[1:])
