"""How commands speak: results on standard output, everything else on standard error, exit statuses."""

from __future__ import annotations

import json
from enum import IntEnum
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

out = Console(highlight=False, soft_wrap=True)
"""What a command was asked for."""
err = Console(stderr=True, highlight=False, soft_wrap=True)
"""Progress, warnings, errors."""
_WIDEST_CHARACTERS = 10_000


class ExitStatus(IntEnum):
    """What a script learns from a command."""

    DONE = 0
    FAILED = 1
    """It was asked for properly, and refused or not achieved."""
    USAGE = 2
    """Wrong arguments or settings, or no server."""
    INTERRUPTED = 130
    """By Ctrl-C, as shells have it."""


def print_table(table: Table) -> None:
    """Print a table; what is copied from it must be whole, however narrow the terminal is."""
    Console(highlight=False, width=_WIDEST_CHARACTERS).print(table, soft_wrap=True)


def print_json(document: Any) -> None:  # noqa: ANN401 - whatever JSON can say
    """Print a document for programs: one, whole, without colour."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def fail(message: str, status: ExitStatus = ExitStatus.FAILED) -> NoReturn:
    """End the command with words on standard error."""
    err.print(message, style="red", markup=False)
    raise typer.Exit(status)
