"""Caught mails: kept whole, shown harmlessly."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path

import pytest

from corestream.mail.mailbox import Mailbox
from corestream.mail.page import with_links


def letter(subject: str, text: str, html: str | None = None) -> bytes:
    """Return a mail as it comes over SMTP."""
    message = EmailMessage()
    message["Subject"], message["To"] = subject, "researcher@example.org"
    message.set_content(text)
    if html is not None:
        message.add_alternative(html, subtype="html")
    return message.as_bytes()


def test_mails_are_listed_newest_first(tmp_path: Path) -> None:
    """The mail one waits for is on top."""
    mailbox = Mailbox(tmp_path / "mail")
    for subject in ("first", "second"):
        mailbox.add(letter(subject, "text"))
    assert {mail.message["Subject"] for mail in mailbox.mails()} == {"first", "second"}
    names = [mail.name for mail in mailbox.mails()]
    assert names == sorted(names, reverse=True)


def test_text_and_html_are_read_apart(tmp_path: Path) -> None:
    """A mail without HTML has none, rather than an empty frame."""
    mailbox = Mailbox(tmp_path)
    mailbox.add(letter("both", "Grüße", "<p>hi</p>"))
    (mail,) = mailbox.mails()
    assert (mail.text.strip(), (mail.html or "").strip()) == ("Grüße", "<p>hi</p>")
    assert Mailbox(tmp_path / "none").mails() == []


@pytest.mark.parametrize("name", ["../secret", "..", "", "secret", "20261122T000000000-" + "0" * 31 + "/"])
def test_a_name_never_leaves_the_folder(tmp_path: Path, name: str) -> None:
    """Names come from the address bar."""
    (tmp_path / "secret.eml").write_bytes(letter("secret", "text"))
    (tmp_path / "mail").mkdir()
    assert Mailbox(tmp_path / "mail").get(name) is None
    assert Mailbox(tmp_path).get(name) is None


def test_addresses_in_a_text_can_be_clicked_and_nothing_else_is_markup() -> None:
    """A mail's text may hold anything."""
    html = with_links('<b> see http://h:1/r/a.b-c?x=1&y="2. Done')
    assert html == (
        '&lt;b&gt; see <a href="http://h:1/r/a.b-c?x=1&amp;y=" rel="noreferrer">'
        "http://h:1/r/a.b-c?x=1&amp;y=</a>&#34;2. Done"
    )
