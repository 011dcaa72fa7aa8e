"""`corestream catch-mail`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from aiohttp import web

from corestream.console import ExitStatus, fail
from pipeline import logging
from pipeline.service import run_worker

SMTP_PORT = 1025
PAGE_PORT = 7607


def catch_mail(
    folder: Annotated[Path, typer.Option("--dir", help="Where mails are kept.")] = Path("data/mail"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    smtp_port: Annotated[int, typer.Option(help="Port that takes mails.")] = SMTP_PORT,
    page_port: Annotated[int, typer.Option(help="Port of the page that shows them.")] = PAGE_PORT,
) -> None:
    """Take mails, keep them in a folder, show them on a page; send none on.

    For trying. The mails hold links to results: let nobody else reach the page.
    """
    from corestream.mail import page, smtp  # noqa: PLC0415 - an optional package
    from corestream.mail.mailbox import Mailbox  # noqa: PLC0415

    async def work(stop: asyncio.Event) -> None:
        mailbox = Mailbox(folder)
        runner = web.AppRunner(page.build_page(mailbox, host), access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, page_port).start()
            server = await smtp.serve(mailbox, host, smtp_port)
            await stop.wait()
            server.close()
        finally:
            await runner.cleanup()

    logging.configure("mail-catcher", None)
    try:
        run_worker(work)
    except OSError as error:
        fail(
            f"Expected to listen on {host}:{smtp_port} and {host}:{page_port}, but {error.strerror}. "
            "Choose others with --host, --smtp-port, --page-port.",
            ExitStatus.USAGE,
        )
