"""The forms of pages: whatever anybody sends in their place is answered in words, and is no fault here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.system import ADMIN, System, running_system

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
NO_FORM: dict[str, tuple[str, bytes]] = {
    "an unknown charset": (f"{URLENCODED}; charset=none", b"token=x"),
    "bytes that are no text": (URLENCODED, b"token=\xff"),
    "no boundary": ("multipart/form-data", b"token=x"),
    "another boundary": (MULTIPART, b"--c--"),
    "a form that is cut off": (MULTIPART, b'--b\r\nContent-Disposition: form-data; name="token"\r\n\r\nx'),
    "an unknown encoding": (
        MULTIPART,
        (
            b'--b\r\nContent-Disposition: form-data; name="token"\r\n'
            b"Content-Transfer-Encoding: none\r\n\r\nx\r\n--b--\r\n"
        ),
    ),
}


@pytest.fixture
async def system(tmp_path: Path, redis_url: str) -> AsyncIterator[System]:
    """An installation with an administrator."""
    async with running_system(tmp_path, redis_url, admin_token=ADMIN) as running:
        yield running


async def test_what_is_no_form_is_refused(system: System, capfd: pytest.CaptureFixture[str]) -> None:
    """The login, which is open to everybody, and the feedback, which needs a link, say the same."""
    submitted = await system.submit()
    await system.until_idle()
    judge = f"/api/jobs/{submitted['job_id']}/scans/{submitted['scans'][0]['scan_id']}/feedback"
    token = submitted["status_url"].partition("?")[2]
    for name, (content_type, body) in NO_FORM.items():
        headers = {"Content-Type": content_type, "Sec-Fetch-Site": "same-origin"}
        for url in ("/monitor/login", f"{judge}?{token}"):
            async with system.http.post(url, data=body, headers=headers) as answer:
                assert (answer.status, (await answer.json())["code"]) == (400, "form-malformed"), name
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("headers", "body", "words"),
    [
        ({"Origin": "http://["}, b"token=x", "other-site"),
        ({"Origin": "null"}, b"token=x", "other-site"),
        (
            {"Sec-Fetch-Site": "same-origin", "Content-Type": f"{URLENCODED}; charset=utf-7"},
            b"token=+2AA-",
            "Wrong token",
        ),
    ],
    ids=["an origin that is none", "no origin", "half of a character"],
)
async def test_nobody_logs_in_by_what_breaks(
    system: System, headers: dict[str, str], body: bytes, words: str
) -> None:
    """It is no token, or from elsewhere."""
    sent = {"Content-Type": URLENCODED, "Accept": "application/json"} | headers
    async with system.http.post("/monitor/login", data=body, headers=sent) as answer:
        assert answer.status == 403
        assert words in await answer.text()
