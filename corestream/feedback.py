"""`corestream feedback`: what readers said of results, as a table beside the hashes of their scans."""

from __future__ import annotations

import csv
import sys

import typer

from corestream.installation import DEFAULT_DATA, DataOption
from pipeline.feedback import Feedback, FeedbackFolder
from pipeline.storage import Storage

feedback = typer.Typer(help="What readers said of results: agree, disagree, unsure.", no_args_is_help=True)


@feedback.callback()
def _group() -> None:
    """Keep `export` a command of its own; a group of one would swallow its name."""


@feedback.command()
def export(data: DataOption = DEFAULT_DATA) -> None:
    """Print a row a judged scan as CSV, oldest first: SHA-256 of the scan as uploaded, verdict, note, result.

    Scans that were deleted at the end of their retention time are among them; those that were deleted on
    request are not. Needs the files, not Redis.
    """
    table = csv.DictWriter(sys.stdout, tuple(Feedback.model_fields), lineterminator="\n")
    table.writeheader()
    for given in sorted(FeedbackFolder(Storage(data).feedback).all(), key=lambda given: given.at):
        table.writerow(given.model_dump(mode="json") | {"note": _inert(given.note)})


def _inert(text: str) -> str:
    """Return what somebody typed so that no spreadsheet takes it for a formula (CWE-1236)."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
