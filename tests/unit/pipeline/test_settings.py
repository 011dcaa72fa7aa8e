"""Settings come from the environment; a wrong one is named together with what it holds."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pipeline.errors import ConfigurationError
from pipeline.settings import PipelineSettings, load


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORESTREAM_SECRET_KEY", "s" * 64)


def test_a_key_alone_is_enough() -> None:
    """Everything else has a default that suits one machine."""
    settings = load(PipelineSettings)
    assert settings.keys.scans == "corestream:scans"
    assert settings.public_url == "http://127.0.0.1:7605"
    assert settings.viewer_url == "http://127.0.0.1:7606"


def test_without_a_key_a_service_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links signed with a default key would open everything to everybody."""
    monkeypatch.delenv("CORESTREAM_SECRET_KEY")
    with pytest.raises(ConfigurationError, match=r"CORESTREAM_SECRET_KEY is not set.*random characters"):
        load(PipelineSettings)


def test_a_short_key_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that can be guessed is none; and a log is no place for one."""
    monkeypatch.setenv("CORESTREAM_SECRET_KEY", "hunter2")
    with pytest.raises(ConfigurationError, match="CORESTREAM_SECRET_KEY") as caught:
        load(PipelineSettings)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CORESTREAM_LEASE_MS", "soon"),
        ("CORESTREAM_MAX_DELIVERIES", "0"),
        ("CORESTREAM_REDIS_URL", "localhost:6379"),
        ("CORESTREAM_PUBLIC_URL", "ct.example"),
        ("CORESTREAM_VIEWER_URL", "https://ct.example/below/a/path"),
        ("CORESTREAM_LOG_FORMAT", "xml"),
        ("CORESTREAM_RETENTION_HOURS", "-1"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """The operator reads which variable is wrong and what it holds."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        load(PipelineSettings)
    assert variable in str(caught.value)
    assert value in str(caught.value)


def test_links_do_not_outlive_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that works and leads to nothing would look like a loss."""
    monkeypatch.setenv("CORESTREAM_RETENTION_HOURS", "2")
    monkeypatch.setenv("CORESTREAM_LINK_TTL_HOURS", "48")
    assert load(PipelineSettings).link_ttl == timedelta(hours=2)


def test_a_wrong_address_is_shown_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with it can be seen, and a log stays a place without passwords."""
    monkeypatch.setenv("CORESTREAM_REDIS_URL", "redis//user:hunter2@cache.example")
    with pytest.raises(ConfigurationError, match=r"CORESTREAM_REDIS_URL is .*@cache\.example") as caught:
        load(PipelineSettings)
    assert "hunter2" not in str(caught.value)
