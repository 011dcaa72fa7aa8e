"""`corestream ingest`, `processor`, `notifier`, `viewer`: one service, the same as `python -m NAME`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

import typer

SERVICES = {
    "ingest": "Take uploads, answer for jobs: the page and the HTTP interface.",
    "processor": "Detect: take scans from the stream, publish their results.",
    "notifier": "Announce finished jobs by e-mail.",
    "viewer": "Serve result pages, Papaya and files behind signed links.",
}


def add_to(app: typer.Typer) -> None:
    """Add a command for each service."""
    for name, help_text in SERVICES.items():
        app.command(
            name, help=f"{help_text} Settings: CORESTREAM_*, docs/operations.md.", rich_help_panel="Services"
        )(_become(name))


def service_command(name: str) -> tuple[str, ...]:
    """Return the command line that runs a service in this installation."""
    return (sys.executable, "-m", name)


def _become(name: str) -> Callable[[], NoReturn]:
    def run() -> NoReturn:
        # The same process, not a child: signals and the exit status are the service's own.
        os.execv(sys.executable, service_command(name))  # noqa: S606 - becoming the service is the purpose

    return run
