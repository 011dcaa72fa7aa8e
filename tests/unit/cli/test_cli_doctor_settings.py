"""`corestream doctor` looks at the settings as every service would, and changes none."""

from __future__ import annotations

import os

import pytest

from corestream.doctor import examine


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CORESTREAM_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CORESTREAM_MAX_UPLOAD_BYTES", "many"),
        ("CORESTREAM_SCAN_TIMEOUT_S", "-1"),
        ("CORESTREAM_MAIL_FROM", "nobody"),
        ("CORESTREAM_VIEWER_PORT", "http"),
    ],
)
def test_a_wrong_setting_of_any_service_is_found(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """Ingest, processor, notifier, viewer: each would refuse to start."""
    monkeypatch.setenv(variable, value)
    (finding,) = examine()
    assert (finding.name, finding.state) == ("settings", "missing")
    assert variable in finding.text


def test_what_up_provides_may_be_missing_or_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """`corestream up` takes an empty variable for one that is not set."""
    for name in ("SECRET_KEY", "ADMIN_TOKEN", "REDIS_URL", "SMTP_URL", "PUBLIC_URL", "VIEWER_URL"):
        monkeypatch.setenv(f"CORESTREAM_{name}", "")
    before = dict(os.environ)
    findings = {finding.name: finding for finding in examine()}
    assert findings["settings"].state == "ok"
    assert "started by `corestream up`" in findings["Redis"].text
    assert "caught by `corestream up`" in findings["mail"].text
    assert dict(os.environ) == before
