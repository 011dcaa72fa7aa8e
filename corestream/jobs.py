"""`corestream jobs`: every job that an installation keeps, and how it stands."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer
from rich.table import Table

from corestream.console import out, print_json, print_table
from corestream.installation import DEFAULT_DATA, DataOption, Installation, on_installation
from pipeline.clock import to_text
from pipeline.errors import JobNotFoundError
from pipeline.storage import JobRecord, Storage


def jobs(
    data: DataOption = DEFAULT_DATA,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for programs, and nothing else.")
    ] = False,
) -> None:
    """List the jobs of an installation, newest first. Needs its files and its Redis, not its services."""
    documents = on_installation(data, _documents)
    if as_json:
        print_json(documents)
    elif not documents:
        out.print(f"No jobs under {data}.")
    else:
        print_table(_table(documents))


async def _documents(found: Installation) -> list[dict[str, Any]]:
    documents = []
    for record in _records(found.storage):
        known = await found.jobs.read(record.job_id)
        documents.append(
            {
                "job_id": record.job_id,
                "created_at": to_text(record.created_at),
                "expires_at": to_text(record.expires_at),
                # The sweep tells Redis, within a minute, of a job that it does not know.
                "state": known.state if known else "open",
                "mail": known.mail if known else None,
                "scans": {scan_id: scan.state for scan_id, scan in known.scans.items()} if known else {},
            }
        )
    return documents


def _records(storage: Storage) -> list[JobRecord]:
    records = []
    for job_id in storage.job_ids():
        try:
            records.append(storage.read_job(job_id))
        except JobNotFoundError:  # deleted since it was listed, or damaged, which the sweep says
            continue
    return sorted(records, key=lambda record: record.created_at, reverse=True)


def _table(documents: list[dict[str, Any]]) -> Table:
    table = Table("job", "submitted", "state", "scans", "mail", box=None, pad_edge=False)
    for document in documents:
        counts = Counter(document["scans"].values())
        scans = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        facts = (document["job_id"], document["created_at"], document["state"])
        table.add_row(*facts, scans or "not in line yet", document["mail"] or "")
    return table
