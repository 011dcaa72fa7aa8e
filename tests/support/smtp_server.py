"""A real SMTP server for a test, which takes mails, refuses them, keeps its client waiting, or is away."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import cast

from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.support.ports import free_ports

_ACCEPTED = "250 OK"


class SmtpServer:
    """A server on a free port of 127.0.0.1.

    Args:
        tls: If given, STARTTLS is offered.

    Attributes:
        port: Its port, also while it is away.
        mails: What it has taken.
        tries: How often a mail was offered to it.
        encrypted: How many of these came over TLS.
        sender_reply: Its answer to MAIL.
        recipient_reply: Its answer to RCPT.
        mail_reply: Its answer to a mail's content.
        released: While cleared, a mail's content is not answered.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.port = free_ports()
        self.mails: list[EmailMessage] = []
        self.encrypted = 0
        self.tries = 0
        self.sender_reply = _ACCEPTED
        self.recipient_reply = _ACCEPTED
        self.mail_reply = _ACCEPTED
        self.released = asyncio.Event()
        self.released.set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Address for CORESTREAM_SMTP_URL."""
        return f"smtp://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Be there."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, hostname="test.local", loop=loop, enable_SMTPUTF8=True, tls_context=self._tls),
            "127.0.0.1",
            self.port,
        )

    async def stop(self) -> None:
        """Be away: connections are refused."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def handle_MAIL(  # noqa: N802 (aiosmtpd's convention)
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Answer to a sender."""
        if self.sender_reply == _ACCEPTED:
            envelope.mail_from = address
        else:
            self.tries += 1
        return self.sender_reply

    async def handle_RCPT(  # noqa: N802 (the same)
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Answer to a recipient."""
        self.tries += 1
        if self.recipient_reply == _ACCEPTED:
            envelope.rcpt_tos.append(address)
        return self.recipient_reply

    async def handle_DATA(  # noqa: N802 (the same)
        self, _server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Answer to a mail's content."""
        await self.released.wait()
        if self.mail_reply == _ACCEPTED:
            content = cast("bytes", envelope.content)
            self.encrypted += session.ssl is not None
            self.mails.append(message_from_bytes(content, policy=default))
        return self.mail_reply


@asynccontextmanager
async def running_smtp(tls: ssl.SSLContext | None = None) -> AsyncIterator[SmtpServer]:
    """Run a server until the block ends; with `tls` it offers STARTTLS."""
    server = SmtpServer(tls)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
