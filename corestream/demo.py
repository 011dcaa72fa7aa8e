"""`make demo`: the whole way of a sample scan on this machine, then the pages to look at it."""

from __future__ import annotations

import asyncio
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from corestream import api
from corestream.console import ExitStatus, err, out
from corestream.job_text import fact_line, job_text
from corestream.mail.mailbox import Mail, Mailbox
from corestream.submit import wait_for_job
from corestream.up.command import say_addresses, words_for_errors
from corestream.up.plan import Plan, prepared
from corestream.up.ports import free_ports
from corestream.up.run import run
from pipeline import logging
from pipeline.settings import INGEST_PORT, PREFIX

_EMAIL = "researcher@example.org"
_FOLDER = Path(".local/demo")
_KEPT_SETTINGS = frozenset(f"{PREFIX}{name}" for name in ("MODEL", "MODEL_DIR", "LOG_FORMAT"))
_MAIL_TIMEOUT_S = 60
_POLL_S = 0.2
_PORTS = 3
"""Upload page, viewer, caught mails: in a row."""


def demo(
    *, once: Annotated[bool, typer.Option("--once", help="Stop after the result and its mail.")] = False
) -> None:
    """Start the pipeline, submit a synthetic scan, print where its result is, serve until Ctrl-C."""
    from processor.synthetic.samples import write_samples  # noqa: PLC0415 - takes a second

    for name in [name for name in os.environ if name.startswith(PREFIX) and name not in _KEPT_SETTINGS]:
        del os.environ[name]  # a demo uses no real Redis, mail server or data
    logging.configure("demo", None)
    port = free_ports(_PORTS, first=INGEST_PORT)
    folder = _FOLDER / str(port)
    shutil.rmtree(folder, ignore_errors=True)  # of the last demo; its ports are free, so it has ended
    with words_for_errors():
        with err.status("making a synthetic scan"):
            scan = write_samples(folder / "samples", count=1)[0]
        with prepared(folder / "data", host="127.0.0.1", port=port, workers=1) as plan:
            log = folder / "services.log"
            err.print(f"The services start; their log is {log}")
            with log.open("wb") as output:
                worked = asyncio.run(run(plan, partial(_show, plan, scan, once=once), output))
    if once and not worked:
        raise typer.Exit(ExitStatus.FAILED)


async def _show(plan: Plan, scan: Path, *, once: bool) -> bool:
    """Submit the scan, follow it, print the links; with `once` return whether result and mail came."""
    say_addresses(plan)
    out.print(f"\nSubmitting {scan} …", style="bold")
    async with api.session() as http:
        reply = await api.submit(http, plan.upload_url, [scan], _EMAIL)
        job = await wait_for_job(http, reply["status_url"])
    mail = await _wait_for_mail(Mailbox(plan.data_dir / "mail"), job["result_url"])
    out.print(job_text(job))
    if mail is not None:
        out.print(fact_line("mail", f"{plan.mail_url}/mails/{mail.name}"))
    else:
        out.print(f"The mail did not arrive within {_MAIL_TIMEOUT_S} s.", style="red")
    if not once:
        out.print("\nServing until Ctrl-C.", style="dim")
        await asyncio.Event().wait()
    return mail is not None and all(scan["state"] == "done" for scan in job["scans"])


async def _wait_for_mail(mailbox: Mailbox, link: str) -> Mail | None:
    """Return the mail that brings a link, or None if it does not come."""
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + _MAIL_TIMEOUT_S
    while loop.time() < give_up_s:
        for mail in mailbox.mails():
            if link in mail.text:
                return mail
        await asyncio.sleep(_POLL_S)
    return None


if __name__ == "__main__":
    typer.run(demo)
