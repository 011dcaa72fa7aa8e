"""A mail server that keeps a record of what it took, and misbehaves on demand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes
from typing import Literal, cast

from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.support.smtp_server import SmtpServer

Mode = Literal["well", "busy", "refusing", "silent", "deadly"]
"""`busy`: 451 to every mail. `refusing`: 554. `silent`: takes the mail and never says so. `deadly`: says so,
and the sender is killed as it does."""


@dataclass(frozen=True)
class Taken:
    """A mail that the server took.

    Attributes:
        message_id: Its Message-ID.
        at: When, seconds since the epoch.
        said: Whether its sender was told.
    """

    message_id: str
    at: float
    said: bool


class ChaosSmtp(SmtpServer):
    """The server; see `Mode`.

    Attributes:
        mode: How it behaves.
        taken: Every mail it took, oldest first.
        refused: Message-IDs of the mails it refused for good.
        kill_sender: Called in the mode `deadly`, once; then the mode is `well` again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mode: Mode = "well"
        self.taken: list[Taken] = []
        self.refused: set[str] = set()
        self.kill_sender: Callable[[], None] = lambda: None
        self._talking = asyncio.Event()
        self._talking.set()

    def be(self, mode: Mode) -> None:
        """Behave so from now on; whoever waits for an answer of the silent server is cut off."""
        self.mode = mode
        if mode == "silent":
            self._talking.clear()
        else:
            self._talking.set()

    async def handle_DATA(  # noqa: N802 (aiosmtpd's convention)
        self, server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Answer to a mail's content."""
        message = message_from_bytes(cast("bytes", envelope.content))
        name = str(message["Message-ID"])
        self.tries += 1
        if self.mode == "busy":
            return "451 Try again later"
        if self.mode == "refusing":
            self.refused.add(name)
            return "554 Not wanted here"
        self.taken.append(Taken(name, time.time(), said=self.mode != "silent"))
        if self.mode == "silent":
            await self._talking.wait()
            server.transport.abort()
        elif self.mode == "deadly":
            self.mode = "well"
            self.kill_sender()
        return "250 OK"
