"""Signed links: who holds one sees its job, until it expires, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlparse

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.clock import now
from pipeline.errors import LinkExpiredError, LinkInvalidError
from pipeline.ids import new_id
from pipeline.links import Links, Tokens

TOKENS = Tokens("k" * 32)
JOB = new_id()
LATER = now() + timedelta(hours=1)


def test_a_token_names_its_job() -> None:
    """What was issued for a job is read as that job."""
    assert TOKENS.read(TOKENS.issue(JOB, LATER)) == JOB


def test_every_service_issues_the_same_token() -> None:
    """A token depends on nothing but key, job and expiry, so services need not ask one another."""
    assert TOKENS.issue(JOB, LATER) == Tokens("k" * 32).issue(JOB, LATER)


def test_a_token_of_another_installation_is_not_valid_here() -> None:
    """Only our own key signs."""
    with pytest.raises(LinkInvalidError, match="Copy the whole link"):
        TOKENS.read(Tokens("j" * 32).issue(JOB, LATER))


@settings(deadline=None)
@given(position=st.integers(min_value=0), letter=st.sampled_from("aZ3-_."))
def test_a_changed_token_never_names_a_job(position: int, letter: str) -> None:
    """No single change of a letter gives a token that opens anything else."""
    token = TOKENS.issue(JOB, LATER)
    at = position % len(token)
    changed = token[:at] + letter + token[at + 1 :]
    try:
        assert (
            TOKENS.read(changed) == JOB
        )  # the letter was the same, or only unused bits of the last one changed
    except LinkInvalidError:
        assert changed != token


@settings(deadline=None)
@given(text=st.text(max_size=60))
@example(text="\udcff")  # as a header's byte comes that is no UTF-8
def test_text_that_is_no_token_is_refused_in_words(text: str) -> None:
    """Whatever stands in the address or the header, the answer is a refusal and never a crash."""
    with pytest.raises(LinkInvalidError):
        TOKENS.read(text)


def test_an_expired_token_is_told_from_a_wrong_one() -> None:
    """Who had the right link is told that its time is over."""
    with pytest.raises(LinkExpiredError, match="Submit the scan again"):
        TOKENS.read(TOKENS.issue(JOB, now() - timedelta(seconds=2)))


def test_every_address_of_a_job_carries_its_token() -> None:
    """Links work as they are, from any machine."""
    links = Links("https://ct.example", "https://view.example", JOB, "tok")
    scan = new_id()
    for url in (links.status, links.page, links.result, links.papaya(scan), links.file(scan, "summary.png")):
        assert "tok" in url
        assert urlparse(url).hostname in {"ct.example", "view.example"}
