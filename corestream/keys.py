"""`corestream keys`: who may submit where `API_KEYS` is on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from corestream.console import ExitStatus, err, fail, out, print_json, print_table
from corestream.installation import DEFAULT_DATA, DataOption
from ingest.api_keys import ApiKeys, KeyNameError

keys = typer.Typer(no_args_is_help=True, help="API keys: who may submit, where CORESTREAM_API_KEYS is on.")

NameArgument = Annotated[str, typer.Argument(help="Whose key it is, or what for; stands in the audit log.")]


@keys.command("add")
def add_key(name: NameArgument, data: DataOption = DEFAULT_DATA) -> None:
    """Make a key and print it, this once: only its SHA-256 is kept."""
    with _words_for_errors(data):
        key = ApiKeys(data).add(name)
    out.print(key, markup=False)
    err.print("Keep it now: it cannot be shown again.")


@keys.command("list")
def list_keys(
    data: DataOption = DEFAULT_DATA,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for programs, and nothing else.")
    ] = False,
) -> None:
    """List the keys by name, oldest first."""
    known = ApiKeys(data).all()
    if as_json:
        print_json([key.model_dump(mode="json", include={"name", "created_at"}) for key in known])
    elif not known:
        out.print("There are no keys.")
    else:
        table = Table("name", "made", box=None)
        for key in known:
            table.add_row(key.name, f"{key.created_at:%Y-%m-%d %H:%M} UTC")
        print_table(table)


@keys.command("revoke")
def revoke_key(name: NameArgument, data: DataOption = DEFAULT_DATA) -> None:
    """Revoke a key; the next request with it is refused."""
    with _words_for_errors(data):
        ApiKeys(data).revoke(name)
    err.print(f"Revoked {name}.", markup=False)


@contextmanager
def _words_for_errors(data: Path) -> Iterator[None]:
    try:
        yield
    except KeyNameError as error:
        fail(str(error))
    except OSError as error:
        fail(
            f"Expected the folder of an installation at {data}, but: {error.strerror}. Name it with --data.",
            ExitStatus.USAGE,
        )
