"""Settings of the notifier."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field, SecretStr, field_validator

from pipeline.settings import WorkerSettings

_SMTP_PORT, _SMTPS_PORT = 25, 465
_EXPECTED = (
    "Expected smtp://[user:password@]host[:port][?starttls=required] or smtps://[user:password@]host[:port]"
)


@dataclass(frozen=True)
class SmtpServer:
    """Where mails are handed in.

    Attributes:
        host: Name or address.
        port: TCP port.
        username: For AUTH, or None for none.
        password: The same; never shown.
        tls: Whether the connection is TLS from its first byte.
        starttls_required: Whether a server without STARTTLS is refused. Else it is used where offered.
    """

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    starttls_required: bool = False

    @classmethod
    def parse(cls, url: str) -> SmtpServer:
        """Read an address like `smtp://user:password@host:587?starttls=required`.

        Raises:
            ValueError: It is none; the message does not repeat it, for it may hold a password.
        """
        parts = urlsplit(url)
        options = parse_qsl(parts.query, keep_blank_values=True)
        tls = parts.scheme == "smtps"
        known = [("starttls", "required")] if not tls else []
        if parts.scheme not in {"smtp", "smtps"} or not parts.hostname or parts.path not in {"", "/"}:
            raise ValueError(_EXPECTED)
        if parts.fragment:  # a password with a bare #, the first half of which would be taken for the port
            raise ValueError(_EXPECTED)
        if any(option not in known for option in options) or (parts.username is None) != (
            parts.password is None
        ):
            raise ValueError(_EXPECTED)
        return cls(
            host=parts.hostname,
            port=parts.port or (_SMTPS_PORT if tls else _SMTP_PORT),
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            tls=tls,
            starttls_required=bool(options),
        )


class NotifierSettings(WorkerSettings):
    """What the notifier needs beside what the services share."""

    smtp_url: SecretStr = Field(
        description="Set it to the mail server, like smtp://user:password@mail.example:587?starttls=required"
    )
    """`smtp://user:password@host:port`, `smtps://…`, `smtp://…?starttls=required`."""
    mail_from: str = "corestream@localhost"
    """The sender; most mail servers want one of their own domain."""
    mail_preview: bool = False
    """Whether mails carry the summary pictures. They are health data, and mail is often read by others."""

    @property
    def smtp_server(self) -> SmtpServer:
        """The server that `smtp_url` names."""
        return SmtpServer.parse(self.smtp_url.get_secret_value())

    @field_validator("smtp_url")
    @classmethod
    def _is_smtp_url(cls, value: SecretStr) -> SecretStr:
        SmtpServer.parse(value.get_secret_value())
        return value

    @field_validator("mail_from")
    @classmethod
    def _is_one_address(cls, value: str) -> str:
        message = EmailMessage(policy=SMTP)
        message["From"] = value
        addresses = message["From"].addresses
        if message["From"].defects or len(addresses) != 1 or not addresses[0].domain:
            raise ValueError("Expected one e-mail address, like corestream@hospital.example")
        return value
