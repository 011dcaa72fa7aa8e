"""`corestream ledger`: how long scans took, from the upload to the opened link."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.table import Table

from corestream.console import out, print_table
from corestream.installation import DEFAULT_DATA, DataOption
from pipeline.ledger import SPANS, LedgerReader, ScanTimes, write_csv
from pipeline.storage import Storage


def ledger(
    data: DataOption = DEFAULT_DATA,
    *,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print a row a scan with every moment (RFC 3339, UTC) as CSV.")
    ] = False,
) -> None:
    """Show when what happened to each scan, deleted ones included. Needs the files, not Redis.

    Identifiers, instants and sizes alone: no name, no address, nothing of the patient.
    """
    reader = LedgerReader(Storage(data).ledger)
    reader.refresh()
    scans = reader.scans()
    if as_csv:
        write_csv(scans, sys.stdout)
    elif not scans:
        out.print(f"No scan is on record under {data}.")
    else:
        print_table(_table(scans))


def _table(scans: list[ScanTimes]) -> Table:
    table = Table("scan", "outcome", "starts", *(f"{name} s" for name in SPANS), box=None, pad_edge=False)
    for scan in scans:
        spans = (scan.seconds(name) for name in SPANS)
        outcome = scan.code or scan.outcome
        table.add_row(
            scan.scan_id, outcome, str(scan.deliveries), *("" if s is None else f"{s:.3f}" for s in spans)
        )
    for column in table.columns[2:]:
        column.justify = "right"
    return table
