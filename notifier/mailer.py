"""Handing mails to an SMTP server, and what its refusals mean."""

from __future__ import annotations

import re
from contextlib import suppress
from email.message import EmailMessage

import aiosmtplib

from notifier.settings import SmtpServer
from pipeline.streams import PermanentError, TransientError

TIMEOUT_S = 20.0
"""For each answer of the server; RFC 5321 allows minutes, which no server that is well needs."""

_FIRST_FINAL_CODE = 500
_ADDRESS = re.compile(r"<?[^\s<>]+@[^\s<>]+>?")


class Mailer:
    """Sends mails, each over a connection of its own.

    Args:
        server: Where they are handed in.
        timeout_s: For each answer of the server.
    """

    def __init__(self, server: SmtpServer, timeout_s: float = TIMEOUT_S) -> None:
        self._server = server
        self._timeout_s = timeout_s

    async def send(self, message: EmailMessage) -> None:
        """Return once the server has taken a mail.

        Raises:
            PermanentError: It refuses this mail or its recipient for good.
            TransientError: It is away, busy, or refuses this installation, which its operator can mend.
        """
        client = self._client()
        try:
            await client.connect()
            await client.send_message(message)
        except (aiosmtplib.SMTPException, OSError) as error:
            raise self._typed(error) from error
        else:
            with suppress(aiosmtplib.SMTPException, OSError):  # the mail is theirs, whatever comes now
                await client.quit()
        finally:
            client.close()

    def _client(self) -> aiosmtplib.SMTP:
        server = self._server
        return aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.username,
            password=server.password,
            use_tls=server.tls,
            start_tls=True if server.starttls_required else None,
            # STARTTLS that was not asked for is better than nothing even from a server with a home-made
            # certificate, unless a password would follow.
            validate_certs=server.tls or server.starttls_required or server.username is not None,
            timeout=self._timeout_s,
        )

    def _typed(self, error: Exception) -> PermanentError | TransientError:
        if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
            error = error.recipients[0]
        said = f"{self._server.host}:{self._server.port}: {_without_addresses(error)}"
        match error:
            case aiosmtplib.SMTPRecipientRefused(code=code) | aiosmtplib.SMTPDataError(code=code):
                final = code >= _FIRST_FINAL_CODE
            case _:
                final = False
        if final:
            return PermanentError(f"The mail server refuses this mail. {said}")
        return TransientError(f"The mail server did not take the mail now. {said}")


def _without_addresses(error: Exception) -> str:
    """Say an error in one line for logs and dead letters, where no address belongs."""
    text = error.message if isinstance(error, aiosmtplib.SMTPException) else str(error)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        text = f"{error.code} {text}"
    return _ADDRESS.sub("(address)", " ".join(str(text).split())) or type(error).__name__
