"""Where mails are handed in is read from one address; what is wrong with it is said without its password."""

from __future__ import annotations

import pytest

from notifier.settings import NotifierSettings, SmtpServer
from pipeline.errors import ConfigurationError
from pipeline.settings import load


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORESTREAM_SECRET_KEY", "s" * 64)
    monkeypatch.setenv("CORESTREAM_SMTP_URL", "smtp://mail.example")


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://mail.example", SmtpServer("mail.example", 25)),
        ("smtps://mail.example", SmtpServer("mail.example", 465, tls=True)),
        (
            "smtp://me%40x:p%2Fw@mail.example:587?starttls=required",
            SmtpServer("mail.example", 587, "me@x", "p/w", starttls_required=True),
        ),
    ],
)
def test_every_form_of_the_address_is_understood(url: str, server: SmtpServer) -> None:
    """Ports have their defaults, and users and passwords may hold any character, percent-encoded."""
    assert SmtpServer.parse(url) == server


@pytest.mark.parametrize(
    "url",
    [
        "mail.example",
        "http://mail.example",
        "smtp://",
        "smtp://mail.example/box",
        "smtp://hunter2@mail.example",
        "smtp://mail.example?starttls=maybe",
        "smtps://mail.example?starttls=required",
        "smtp://user:hunter2@mail.example:port",
        "smtp://user:hunter2#hunter2@mail.example",
        "smtp://user:25#hunter2@mail.example",
    ],
)
def test_a_wrong_address_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """It may hold a password."""
    monkeypatch.setenv("CORESTREAM_SMTP_URL", url)
    with pytest.raises(ConfigurationError, match="CORESTREAM_SMTP_URL") as caught:
        load(NotifierSettings)
    assert "hunter2" not in str(caught.value)


def test_without_a_mail_server_the_notifier_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take results from the stream and tell nobody."""
    monkeypatch.delenv("CORESTREAM_SMTP_URL")
    with pytest.raises(ConfigurationError, match=r"CORESTREAM_SMTP_URL is not set.*smtp://user:password@"):
        load(NotifierSettings)


@pytest.mark.parametrize("sender", ["corestream", "a@b.example, c@d.example", "a@b@c", ""])
def test_a_sender_is_one_address(monkeypatch: pytest.MonkeyPatch, sender: str) -> None:
    """A mail from nobody is refused by every server, one by one; better to say so once, at the start."""
    monkeypatch.setenv("CORESTREAM_MAIL_FROM", sender)
    with pytest.raises(ConfigurationError, match="CORESTREAM_MAIL_FROM"):
        load(NotifierSettings)


def test_a_sender_may_have_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """People recognise mails by it."""
    monkeypatch.setenv("CORESTREAM_MAIL_FROM", "Stroke research <stroke@hospital.example>")
    assert load(NotifierSettings).mail_from == "Stroke research <stroke@hospital.example>"
