"""The mailer against real SMTP servers: what a refusal means, and when a line is safe enough."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from email.message import EmailMessage
from pathlib import Path

import pytest

from notifier.mailer import Mailer
from notifier.settings import SmtpServer as Server
from pipeline.streams import TransientError
from tests.support.smtp_server import running_smtp


def mail(to: str = "reader@hospital.example") -> EmailMessage:
    """Return a mail."""
    message = EmailMessage()
    message["From"] = "corestream@hospital.example"
    message["To"] = to
    message["Subject"] = "corestream: your scan is ready"
    message.set_content("Open it.")
    return message


@pytest.fixture
def home_made(tmp_path: Path) -> ssl.SSLContext:
    """A server's side of TLS with a certificate that nobody has signed."""
    openssl = shutil.which("openssl")
    if openssl is None:
        message = "Expected openssl on PATH: apt install openssl"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "2"]
    subprocess.run(
        [openssl, "req", *options, "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def test_a_refused_sender_is_the_operators_to_mend() -> None:
    """It would hit every mail alike: they wait until the setting is right, and are not given up."""
    async with running_smtp() as server:
        server.sender_reply = "553 5.7.1 Sender not allowed"
        with pytest.raises(TransientError, match=r"553 5\.7\.1 Sender not allowed"):
            await Mailer(Server.parse(server.url)).send(mail())


async def test_an_address_beyond_ascii_is_reached() -> None:
    """Where the server can (RFC 6531)."""
    async with running_smtp() as server:
        await Mailer(Server.parse(server.url)).send(mail("jörg@hospital.example"))
        assert server.mails[0]["To"] == "jörg@hospital.example"


async def test_encryption_that_is_offered_is_used(home_made: ssl.SSLContext) -> None:
    """Even with a home-made certificate: better than clear text."""
    async with running_smtp(home_made) as server:
        await Mailer(Server.parse(server.url)).send(mail())
        assert server.encrypted == 1


async def test_a_password_is_shown_to_no_server_that_cannot_prove_its_name(home_made: ssl.SSLContext) -> None:
    """Nor is a mail, where encryption is required."""
    async with running_smtp(home_made) as server:
        for url in (
            f"smtp://user:password@127.0.0.1:{server.port}",
            f"smtp://127.0.0.1:{server.port}?starttls=required",
        ):
            with pytest.raises(TransientError, match="certificate"):
                await Mailer(Server.parse(url)).send(mail())
        assert server.mails == []


async def test_required_encryption_that_is_not_offered_sends_nothing() -> None:
    """A line whose encryption somebody has cut out must not carry the mail."""
    async with running_smtp() as server:
        with pytest.raises(TransientError, match=r"(?i)starttls"):
            await Mailer(Server.parse(f"{server.url}?starttls=required")).send(mail())
        assert server.mails == []
