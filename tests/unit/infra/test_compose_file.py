"""infra/docker-compose.yml, .env.example, redis.conf: what they name is what the code names."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from corestream.mail.command import PAGE_PORT, SMTP_PORT, catch_mail
from notifier.settings import SmtpServer
from pipeline.settings import INGEST_PORT, PREFIX, VIEWER_PORT
from processor.settings import ProcessorSettings
from tests.support.services import SETTINGS

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "infra/docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OWN = sorted(set(SERVICES) - {"redis"})
FIXED = {"data_dir", "host", "ingest_port", "viewer_port", "log_format", "grace_s"}
"""The same in every container: set by the Dockerfile, or bound to `ports` and `stop_grace_period`."""
DEFAULT = re.compile(r"\$\{(?P<name>\w+):-(?P<value>[^}]*)\}")
"""Compose's way to write a variable with a default."""


def fields(service: str) -> set[str]:
    """Return the names of a service's settings."""
    return set(SETTINGS[service].model_fields)


def variables(service: str) -> dict[str, str | None]:
    """Return a container's settings, without their prefix, as the file writes them."""
    return {
        name.removeprefix(PREFIX).lower(): value
        for name, value in SERVICES[service].get("environment", {}).items()
    }


def interpolated(value: str) -> str:
    """Return a value as it is where no variable is set."""
    return DEFAULT.sub(lambda found: found["value"], value)


def test_the_services_are_redis_ours_and_a_mail_catcher() -> None:
    """Whoever adds a service adds it here, and with it to every rule below."""
    assert sorted(SERVICES) == ["ingest", "mail-catcher", "notifier", "processor", "redis", "viewer"]


@pytest.mark.parametrize("service", OWN)
def test_an_image_is_built_for_its_service_and_carries_the_version(service: str) -> None:
    """`SERVICE` selects the stage of the Dockerfile; the tag is the version, so that one can go back."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert SERVICES[service]["build"]["args"]["SERVICE"] == service
    assert (ROOT / "infra" / SERVICES[service]["build"]["context"]).resolve() == ROOT
    assert (ROOT / SERVICES[service]["build"]["dockerfile"]).is_file()
    assert SERVICES[service]["image"] == f"corestream-{service}:{version}"


def test_the_image_of_redis_is_pinned_to_a_release() -> None:
    """Never `latest`, and a full name, which no engine has to guess at."""
    assert re.fullmatch(r"docker\.io/library/redis:7\.\d+-\w+", SERVICES["redis"]["image"])


@pytest.mark.parametrize("service", sorted(SETTINGS))
def test_every_setting_of_a_service_can_be_set_and_no_other_is_named(service: str) -> None:
    """A misspelt variable would be ignored in silence."""
    assert set(variables(service)) == fields(service) - FIXED


def test_the_key_is_required_with_a_sentence() -> None:
    """Without a key nothing starts, and who starts it is told what to do."""
    for service in SETTINGS:
        value = variables(service)["secret_key"]
        assert value is not None
        assert value.startswith("${CORESTREAM_SECRET_KEY:?")
        assert "token_hex" in value


def test_addresses_inside_lead_to_services_of_the_file() -> None:
    """Redis and the mail catcher are found by name and port."""
    notifier = variables("notifier")
    smtp = SmtpServer.parse(interpolated(notifier["smtp_url"] or ""))
    assert smtp.host in SERVICES
    assert smtp.port == SMTP_PORT == inspect.signature(catch_mail).parameters["smtp_port"].default
    for service in SETTINGS:
        assert variables(service)["redis_url"] == "redis://redis:6379/0"


@pytest.mark.parametrize(
    ("service", "port", "published"),
    [
        ("ingest", INGEST_PORT, "${PUBLISH_ADDRESS:-127.0.0.1}"),
        ("viewer", VIEWER_PORT, "${PUBLISH_ADDRESS:-127.0.0.1}"),
        ("mail-catcher", PAGE_PORT, "127.0.0.1"),
    ],
)
def test_ports_are_the_ones_in_the_code_and_stay_on_this_machine(
    service: str, port: int, published: str
) -> None:
    """Who wants them elsewhere says so; caught mails hold links and are never published elsewhere."""
    assert SERVICES[service]["ports"] == [f"{published}:{port}:{port}"]


def test_nothing_else_is_published() -> None:
    """Redis asks for no password: it must not be reached from outside."""
    assert {name for name, service in SERVICES.items() if "ports" in service} == {
        "ingest",
        "viewer",
        "mail-catcher",
    }


def test_what_reads_uploads_and_what_keeps_the_queue_cannot_reach_the_world() -> None:
    """No patient data leaves the house by way of a parser's hole."""
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    for service in ("processor", "redis"):
        assert SERVICES[service]["networks"] == ["inside"]


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_a_container_may_do_nothing_but_its_work(service: str) -> None:
    """Read-only root, no capability, no new privilege, bounded memory and log."""
    settings = SERVICES[service]
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in settings["security_opt"]
    assert [mount.split(":")[0] for mount in settings["tmpfs"]] == ["/tmp"]  # noqa: S108 - the container's
    assert re.fullmatch(r"\d+[mg]", settings["mem_limit"])
    assert settings["logging"]["options"].keys() == {"max-size", "max-file"}
    assert settings["restart"] == "unless-stopped"


def test_a_stop_leaves_more_time_than_a_service_takes_to_drain() -> None:
    """A container killed in its grace would cost a delivery."""
    grace_s = {
        name: int(service["stop_grace_period"].removesuffix("s")) for name, service in SERVICES.items()
    }
    assert grace_s["processor"] > ProcessorSettings.model_fields["grace_s"].default
    assert all(grace_s[name] > 30 for name in ("ingest", "viewer", "notifier"))


def test_what_must_survive_lies_in_named_volumes() -> None:
    """Data, the time ledger, models, mails and Redis's append-only file; the viewer cannot change a scan."""
    mounts = {mount for service in SERVICES.values() for mount in service["volumes"]}
    named = {mount.split(":")[0] for mount in mounts if not mount.startswith("./")}
    assert named == set(COMPOSE["volumes"]) == {"data", "ledger", "audit", "models", "redis", "mail"}
    for service in ("ingest", "processor", "notifier"):
        assert {"data:/data", "ledger:/data/ledger"} <= set(SERVICES[service]["volumes"])
    assert SERVICES["viewer"]["volumes"] == ["data:/data:ro", "ledger:/data/ledger", "audit:/data/audit"]


def test_processors_can_be_multiplied() -> None:
    """`--scale processor=2` needs a service without a name or a port of its own."""
    assert not {"container_name", "ports", "hostname"} & set(SERVICES["processor"])


def test_the_example_names_variables_that_the_file_takes() -> None:
    """.env.example and the compose file cannot drift apart."""
    example = set(re.findall(r"^#?(\w+)=", (ROOT / "infra/.env.example").read_text(), re.MULTILINE))
    taken = {f"{PREFIX}{name}".upper() for service in SETTINGS for name in variables(service)}
    assert f"{PREFIX}SECRET_KEY" in example
    assert example <= taken | {"PUBLISH_ADDRESS"}


def test_redis_keeps_everything_until_it_is_done() -> None:
    """An eviction policy other than noeviction would throw away the queue; no append-only file would, too."""
    lines = (ROOT / "infra/redis.conf").read_text().splitlines()
    settings = dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["maxmemory-policy"] == "noeviction"
    assert "./redis.conf:/etc/corestream/redis.conf:ro" in SERVICES["redis"]["volumes"]
    assert SERVICES["redis"]["command"] == ["redis-server", "/etc/corestream/redis.conf"]
    assert f"redis:{settings['dir']}" in SERVICES["redis"]["volumes"]
