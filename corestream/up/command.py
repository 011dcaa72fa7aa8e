"""`corestream up`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from corestream.console import ExitStatus, fail, out
from corestream.up.plan import Plan, prepared
from corestream.up.run import run
from pipeline import logging
from pipeline.errors import CorestreamError
from pipeline.report import RESEARCH_USE_ONLY
from pipeline.settings import INGEST_PORT

LAST_PORT = 65_533
"""The viewer and the page of caught mails take the two after it."""


def up(
    data: Annotated[
        Path, typer.Option(envvar="CORESTREAM_DATA_DIR", file_okay=False, help="Where everything is kept.")
    ] = Path("data"),
    host: Annotated[str, typer.Option(help="Address that the pages are served at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=1, max=LAST_PORT, help="Of the upload page; the viewer takes the next.")
    ] = INGEST_PORT,
    workers: Annotated[int, typer.Option(min=1, help="Processors; each needs 2 GB and two cores.")] = 1,
    drop: Annotated[
        Path | None, typer.Option(file_okay=False, help="Submit what is put into this folder.")
    ] = None,
) -> None:
    """Run everything on this machine: services, Redis and, where no mail server is set, a mail catcher.

    Ctrl-C stops: what runs is finished first, or handed back and done at the next start.
    """
    logging.configure("up", None)
    with (
        words_for_errors(),
        prepared(data, host=host, port=port, workers=workers, drop=drop) as plan,
    ):
        asyncio.run(run(plan, lambda: _serve(plan)))


async def _serve(plan: Plan) -> None:
    say_addresses(plan)
    out.print("Ctrl-C stops everything.\n", style="dim")
    await asyncio.Event().wait()


def say_addresses(plan: Plan) -> None:
    """Print where everything is."""
    redis = f"redis-cli -s {plan.redis_url.removeprefix('unix://')}" if plan.owns_redis else "as configured"
    mails = f"{plan.mail_url}  (caught here, none is sent on)" if plan.mail_url else "sent as configured"
    facts = {
        "upload page": plan.upload_url,
        "viewer": f"{plan.viewer_url}  (opens with a job's link)",
        "mails": mails,
        "monitor": f"{plan.upload_url}/monitor  (token: {plan.admin_token})",
        "data": str(plan.data_dir),
        "redis": redis,
    }
    if plan.drop_dir is not None:
        facts["drop folder"] = str(plan.drop_dir)
    out.print("\n[bold green]corestream is running[/]")
    for name, value in facts.items():
        out.print(f"  [dim]{name:<12}[/] {escape(value)}")
    out.print(f"\n  [bold]{RESEARCH_USE_ONLY}[/]")


@contextmanager
def words_for_errors() -> Iterator[None]:
    """Turn what keeps an installation from running into words and exit status 2."""
    try:
        yield
    except (CorestreamError, OSError) as error:
        fail(str(error), ExitStatus.USAGE)
