"""The folder of caught mails: one `.eml` file each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from pipeline.clock import now
from pipeline.files import write_whole
from pipeline.ids import new_id

_NAME = re.compile(r"\d{8}T\d{9}-[0-9a-f]{32}")
"""When a mail came, to the millisecond, so that names sort by time; and what makes it unique."""
_CAME = "%Y%m%dT%H%M%S%f"


@dataclass(frozen=True)
class Mail:
    """One caught mail.

    Attributes:
        name: Of its file, without the suffix.
        message: As it was sent.
    """

    name: str
    message: EmailMessage

    @property
    def came_at(self) -> datetime:
        """When it was caught."""
        return datetime.strptime(self.name.partition("-")[0], _CAME).replace(tzinfo=UTC)

    @property
    def text(self) -> str:
        """The plain part, or nothing."""
        part = self.message.get_body(("plain",))
        return str(part.get_content()) if part else ""

    @property
    def html(self) -> str | None:
        """The HTML part, as the sender wrote it: not to be trusted."""
        part = self.message.get_body(("html",))
        return str(part.get_content()) if part else None

    def pictures(self) -> list[tuple[str, bytes]]:
        """Return the PNG pictures inside the HTML part, each under its Content-ID."""
        return [
            (str(part["Content-ID"]).strip("<>"), part.get_content())
            for part in self.message.walk()
            if part.get_content_type() == "image/png" and part["Content-ID"]
        ]


class Mailbox:
    """Keeps mails under a folder.

    Args:
        folder: Made at the first mail.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, content: bytes) -> Path:
        """Keep a mail; it is there whole or not at all.

        Returns:
            Its file.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stamp = now().strftime(_CAME)[:-3]
        path = self.folder / f"{stamp}-{new_id()}.eml"
        write_whole(path, content)
        return path

    def mails(self) -> list[Mail]:
        """Return all mails, the newest first."""
        names = sorted((path.stem for path in self.folder.glob("*.eml")), reverse=True)
        return [mail for name in names if (mail := self.get(name)) is not None]

    def get(self, name: str) -> Mail | None:
        """Return one mail, or None where there is none of that name."""
        if not _NAME.fullmatch(name):
            return None
        try:
            content = (self.folder / f"{name}.eml").read_bytes()
        except FileNotFoundError:
            return None
        return Mail(name, message_from_bytes(content, policy=policy.default))
