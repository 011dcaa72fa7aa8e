"""What a mail says, and what it must not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from html import unescape

import pytest

from notifier.messages import Outcome, result_mail
from pipeline.errors import Failure
from pipeline.links import Links
from pipeline.storage import JobRecord, ScanRecord
from tests.support.results import DEMO, WARNING, report

SENDER = "corestream <corestream@hospital.example>"
LINK = "https://viewer.example/r/token"
REFUSED = Outcome(
    failure=Failure(
        code="not-a-head", title="No <head> found", detail="Expected a head, received a knee. Send a head."
    )
)
READY = Outcome(report("a" * 32, "b" * 32))
NOTHING_FOUND = Outcome(report("a" * 32, "c" * 32, positive=False))
NUMBER = (
    "The network's estimate: 23.5 ml. Typical error ± 10.5 ml, as RMSE on scans outside its training. "
    "Volume of the planted territory, as the synthetic training data state it."
)
NO_REGION = "No region stands out. This does not exclude a stroke."
CREATED = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)


def job(scans: int) -> JobRecord:
    """Return a submission of some scans."""
    return JobRecord(
        job_id="a" * 32,
        created_at=CREATED,
        links_expire_at=CREATED + timedelta(hours=24),
        expires_at=CREATED + timedelta(hours=24),
        email="reader@hospital.example",
        scans=tuple(ScanRecord(scan_id=f"{n:032x}", sha256="ab" * 32, size_bytes=1) for n in range(scans)),
    )


def mail(outcomes: list[Outcome], *, retries: int = 0) -> EmailMessage:
    """Return the mail of a job that ended so, after so many retries by hand."""
    links = Links("https://ingest.example", "https://viewer.example", "a" * 32, "token")
    return result_mail(job(len(outcomes)), links, outcomes, SENDER, retries=retries)


def bodies(message: EmailMessage) -> tuple[str, str]:
    """Return what text and HTML say to a reader."""
    text, html = (message.get_body((kind,)) for kind in ("plain", "html"))
    assert text is not None
    assert html is not None
    return text.get_content(), unescape(html.get_content())


@pytest.mark.parametrize(
    ("outcomes", "subject"),
    [
        ([READY], "corestream: your scan is ready"),
        ([NOTHING_FOUND], "corestream: your scan is ready"),
        ([READY, NOTHING_FOUND], "corestream: your 2 scans are ready"),
        ([READY, REFUSED], "corestream: 1 of your 2 scans is ready"),
        ([READY, READY, REFUSED], "corestream: 2 of your 3 scans are ready"),
        ([REFUSED], "corestream: your scan could not be processed"),
        ([REFUSED, REFUSED], "corestream: none of your 2 scans could be processed"),
    ],
)
def test_the_subject_says_how_the_job_ended(outcomes: list[Outcome], subject: str) -> None:
    """And nothing of the patient or of a finding: subjects are shown on locked screens."""
    assert mail(outcomes)["Subject"] == subject


def test_text_and_html_carry_link_expiry_and_research_use() -> None:
    """Whichever part a mail program shows, it is enough."""
    for body in bodies(mail([READY])):
        assert LINK in body
        assert "23 November 2026, 18:00 UTC" in body
        assert "Research use only. Not for diagnosis." in body


def test_a_number_stands_with_its_error_its_unit_and_what_limits_it() -> None:
    """In the words of the pages; a number alone would invite trust that it has not earned."""
    for body in bodies(mail([READY])):
        assert NUMBER in body
        assert body.count(WARNING) == 1
        assert body.count(DEMO) == 1
        assert NO_REGION not in body
        assert "Scan 1" not in body


def test_no_finding_never_reads_as_no_stroke() -> None:
    """Where nothing stands out the mail says so, and what that does not mean, below that scan's number."""
    for body in bodies(mail([READY, NOTHING_FOUND, REFUSED])):
        assert body.count(NUMBER) == 2
        assert body.count(NO_REGION) == 1
        places = [body.index(text) for text in ("Scan 1 of 3", "Scan 2 of 3", NO_REGION, "Scan 3 of 3")]
        assert places == sorted(places)
        assert body.count(DEMO) == 1


def test_a_failure_is_told_with_its_number_and_what_to_do() -> None:
    """A failure is a result."""
    message = mail([READY, REFUSED])
    text, _ = bodies(message)
    assert (
        "Scan 2 of 2 has no result: No <head> found.\nExpected a head, received a knee. Send a head." in text
    )
    html = message.get_body(("html",))
    assert html is not None
    assert "Scan 2 of 2 has no result: No &lt;head&gt; found." in html.get_content()


def test_a_mail_in_which_no_scan_has_a_result_holds_no_number() -> None:
    """And names no model, for none was asked."""
    for body in bodies(mail([REFUSED])):
        assert "The scan has no result: No <head> found." in body
        assert "estimate" not in body
        assert DEMO not in body


def test_machines_are_told_that_a_machine_writes() -> None:
    """So that no out-of-office answer comes back."""
    message = mail([READY])
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Auto-Response-Suppress"] == "All"


def test_every_try_has_the_same_message_id_on_the_senders_domain() -> None:
    """A repeat after a crash can be recognised as one."""
    first, second = mail([READY])["Message-ID"], mail([READY])["Message-ID"]
    assert first == second
    assert first.startswith("<result.")
    assert first.endswith("@hospital.example>")


def test_the_mail_after_a_retry_is_another_mail_and_says_so() -> None:
    """A mail program that hides repeats must not hide the good news."""
    first, second = mail([REFUSED]), mail([READY], retries=1)
    assert first["Message-ID"] != second["Message-ID"]
    assert mail([READY], retries=1)["Message-ID"] == second["Message-ID"]
    for before, after in zip(bodies(first), bodies(second), strict=True):
        assert "replaces the mail of before" in after
        assert "replaces the mail of before" not in before


def test_a_mail_carries_pictures_only_where_it_is_given_some() -> None:
    """They are health data; the text part says the same with and without them."""
    plain = mail([READY, REFUSED, READY])
    shown = mail([replace(READY, picture=b"\x89PNG one"), REFUSED, replace(READY, picture=b"\x89PNG two")])
    assert not any(part.get_content_maintype() == "image" for part in plain.walk())
    pictures = [part for part in shown.walk() if part.get_content_type() == "image/png"]
    assert [part.get_content() for part in pictures] == [b"\x89PNG one", b"\x89PNG two"]
    html = shown.get_body(("html",))
    assert html is not None
    for part in pictures:
        assert f"cid:{part['Content-ID'].strip('<>')}" in html.get_content()
        assert part.get_filename() is None
    texts = [m.get_body(("plain",)) for m in (plain, shown)]
    assert texts[0] is not None
    assert texts[1] is not None
    assert texts[0].get_content() == texts[1].get_content()
