"""`corestream dead`: what was given up, and what becomes of it."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from corestream.console import ExitStatus, err, fail, out, print_json, print_table
from corestream.installation import DEFAULT_DATA, DataOption, Installation, on_installation
from pipeline.letters import letter_document
from pipeline.retry import retry_each
from pipeline.streams import DeadLetter

dead = typer.Typer(no_args_is_help=True, help="Dead letters: scans and mails that were given up, and why.")

_ID = re.compile(r"[0-9]+-[0-9]+")
IdArgument = Annotated[str, typer.Argument(help="As `corestream dead list` shows it.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs, and nothing else.")]


@dead.command("list")
def list_letters(
    data: DataOption = DEFAULT_DATA,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    *,
    as_json: JsonOption = False,
) -> None:
    """List what was given up, newest first."""
    letters = on_installation(data, lambda found: found.dead.list(limit))
    if as_json:
        print_json([letter_document(letter) for letter in letters])
    elif not letters:
        out.print("Nothing was given up.")
    else:
        print_table(_table(letters))


@dead.command("show")
def show_letter(dead_id: IdArgument, data: DataOption = DEFAULT_DATA, *, as_json: JsonOption = False) -> None:
    """Show one dead letter: the entry as it was, why it was given up, and its earlier deaths."""
    letter = on_installation(data, lambda found: found.dead.show(_checked(dead_id)))
    if letter is None:
        fail(_none_of(dead_id))
    document = letter_document(letter)
    if as_json:
        print_json(document)
        return
    for name in ("dead_id", "origin", "entry_id", "deliveries", "error", "failed_at"):
        _print_fact(name, document[name])
    out.print("\nthe entry")
    for name, value in document["fields"].items():
        _print_fact(name, value)
    for number, death in enumerate(document["history"], start=1):
        out.print(f"\nearlier death {number}")
        for name, value in death.items():
            _print_fact(name, value)


@dead.command("retry")
def retry_letters(
    dead_id: Annotated[str | None, typer.Argument(help="As `corestream dead list` shows it.")] = None,
    data: DataOption = DEFAULT_DATA,
    *,
    every: Annotated[bool, typer.Option("--all", help="Retry all of them, oldest first.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put what was given up back in line, with a fresh count; its job is open again, and mailed again.

    Exit status: 0 all are back, 1 at least one is not, and it is said why.
    """
    if (dead_id is None) != every:
        fail("Expected the id of a dead letter or --all, one of the two.", ExitStatus.USAGE)
    chosen = None if dead_id is None else _checked(dead_id)
    outcomes = on_installation(data, lambda found: _retry(found, chosen))
    if as_json:
        print_json(outcomes)
    else:
        for outcome in outcomes:
            if outcome["error"]:
                err.print(f"{outcome['dead_id']}: {outcome['error']}", style="red", markup=False)
            else:
                out.print(f"{outcome['dead_id']} is back in line as {outcome['entry_id']}.")
        if not outcomes:
            out.print("Nothing was given up.")
    if any(outcome["error"] for outcome in outcomes):
        raise typer.Exit(ExitStatus.FAILED)


@dead.command("drop")
def drop_letter(dead_id: IdArgument, data: DataOption = DEFAULT_DATA) -> None:
    """Delete a dead letter for good. Its job stays as it is: the scan failed, and its submitter knows."""
    if not on_installation(data, lambda found: found.dead.drop(_checked(dead_id))):
        fail(_none_of(dead_id))
    out.print(f"{dead_id} is deleted.")


async def _retry(found: Installation, dead_id: str | None) -> list[dict[str, str | None]]:
    ids = [dead_id] if dead_id else [letter.dead_id for letter in reversed(await found.dead.list(None))]
    outcomes = await retry_each(ids, dead=found.dead, jobs=found.jobs, storage=found.storage)
    return [asdict(outcome) for outcome in outcomes]


def _table(letters: list[DeadLetter]) -> Table:
    table = Table("id", "given up at", "what", "job", "scan", "starts", "why", box=None, pad_edge=False)
    for letter in map(letter_document, letters):
        fields = letter["fields"]
        names = (fields.get(name, "") for name in ("type", "job_id", "scan_id"))
        row = (letter["dead_id"], letter["failed_at"], *names, str(letter["deliveries"]), letter["error"])
        table.add_row(*map(escape, row))
    return table


def _print_fact(name: str, value: object) -> None:
    out.print(f"  [dim]{escape(name):<11}[/] {escape(str(value))}")


def _checked(dead_id: str) -> str:
    if not _ID.fullmatch(dead_id):
        fail(
            f"Expected the id of a dead letter, like 1795380003864-0, received {dead_id!r}.", ExitStatus.USAGE
        )
    return dead_id


def _none_of(dead_id: str) -> str:
    return f"Expected the id of a dead letter, received {dead_id}: there is none of that id."
