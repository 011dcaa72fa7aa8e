"""The SMTP side of the mail catcher."""

from __future__ import annotations

import asyncio

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from corestream.mail.mailbox import Mailbox

log = structlog.get_logger()

_MAX_MAIL_BYTES = 32 * 1024 * 1024


class _Keeper:
    """What aiosmtpd calls with each mail; the name of the method is its convention."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        await asyncio.to_thread(self._mailbox.add, envelope.content)
        log.info("mail.caught", recipients=len(envelope.rcpt_tos), size_bytes=len(envelope.content))
        return "250 OK: kept, not sent on"


async def serve(mailbox: Mailbox, host: str, port: int) -> asyncio.Server:
    """Listen for mails.

    Args:
        mailbox: Keeps them.
        host: Address to listen on.
        port: TCP port.
    """
    loop = asyncio.get_running_loop()

    def connection() -> SMTP:
        return SMTP(
            _Keeper(mailbox),
            data_size_limit=_MAX_MAIL_BYTES,
            enable_SMTPUTF8=True,
            hostname="corestream.local",
            loop=loop,
        )

    return await loop.create_server(connection, host, port)
