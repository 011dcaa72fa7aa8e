"""infra/Dockerfile and what it builds from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from infra.locked_requirements import normalised, requirements, subset
from pipeline.settings import INGEST_PORT, VIEWER_PORT

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = (ROOT / "infra/Dockerfile").read_text()
LOCK = (ROOT / "requirements.lock").read_text()
STAGES = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM )", DOCKERFILE, re.DOTALL | re.MULTILINE))
SERVICES = {"ingest", "processor", "notifier", "viewer", "mail-catcher"}


def test_base_images_are_pinned_to_a_release_of_language_and_system() -> None:
    """A full name, a minor version, a Debian release: never `latest`."""
    images = re.findall(r"^ARG (?:PYTHON|NODE)_IMAGE=(.+)$", DOCKERFILE, re.MULTILINE)
    assert len(images) == 2
    for image in images:
        assert re.fullmatch(r"docker\.io/library/\w+:\d+(\.\d+)?-(slim-bookworm|bookworm-slim)", image)


def test_there_is_a_stage_for_every_service_of_the_compose_file() -> None:
    """`FROM ${SERVICE}` selects it."""
    compose = yaml.safe_load((ROOT / "infra/docker-compose.yml").read_text())
    assert {name for name, service in compose["services"].items() if "build" in service} == SERVICES
    assert set(STAGES) >= SERVICES
    assert DOCKERFILE.rstrip().endswith("FROM ${SERVICE}")


@pytest.mark.parametrize(
    ("service", "check"),
    [
        ("ingest", ["server", str(INGEST_PORT)]),
        ("viewer", ["server", str(VIEWER_PORT)]),
        ("mail-catcher", ["server", "7607"]),
        ("processor", ["worker"]),
        ("notifier", ["worker"]),
    ],
)
def test_every_image_checks_its_own_health(service: str, check: list[str]) -> None:
    """Servers by their readiness, workers by whether Redis has heard of them."""
    found = re.search(r"^HEALTHCHECK .* CMD \[(.*)\]$", STAGES[service], re.MULTILINE)
    assert found is not None
    assert yaml.safe_load(f"[{found[1]}]") == ["healthcheck", *check]


def test_images_run_as_a_user_without_rights() -> None:
    """No stage from `runtime` on goes back to root or runs anything while it is built."""
    assert "USER 10001:10001" in STAGES["runtime"]
    for name in SERVICES | {"runtime", "service"}:
        assert not re.search(r"^(RUN|USER root|USER 0)", STAGES[name], re.MULTILINE)


def test_node_is_left_behind() -> None:
    """The two servers of pages take files from the stage that has Node, and nobody takes Node."""
    users = {name for name, body in STAGES.items() if "--from=assets" in body}
    assert users == {"ingest", "viewer"}


def test_tensorflow_is_asked_for_by_the_processor_alone() -> None:
    """The images of the others stay small."""
    for extra in ("ingest", "notifier", "viewer", "local"):
        assert not any(line.startswith(("tensorflow", "keras")) for line in requirements([extra]))
    assert any(line.startswith("tensorflow") for line in requirements(["processor"]))


def test_a_subset_of_the_lock_keeps_every_pin_and_hash() -> None:
    """The subset of all names is the lock itself."""
    names = {normalised(name) for name in re.findall(r"^([\w.-]+)==", LOCK, re.MULTILINE)}
    assert subset(LOCK, names) == LOCK


def test_a_subset_of_the_lock_holds_what_was_asked_for_and_nothing_else() -> None:
    """Names are compared as packaging does; a package that is locked twice, by Python version, stays so."""
    part = subset(LOCK, {"numpy", "pydantic-core"})
    assert set(re.findall(r"^([\w.-]+)==", part, re.MULTILINE)) == {"numpy", "pydantic-core"}
    assert part.count("numpy==") == LOCK.count("\nnumpy==")
    assert re.fullmatch(r"(\S+==.*\\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+)+", part)


def test_what_the_lock_lacks_is_named() -> None:
    """An image is never built with a package that nobody pinned."""
    with pytest.raises(SystemExit, match=r"requirements\.lock lacks no-such-package"):
        subset(LOCK, {"numpy", "no-such-package"})


def test_an_unknown_extra_is_named_beside_the_known_ones() -> None:
    """Most likely `SERVICE` was misspelt."""
    with pytest.raises(SystemExit, match=r"ingest, .*received procesor\."):
        requirements(["procesor"])


def test_the_context_of_a_build_holds_no_data() -> None:
    """What .dockerignore lets in is named; scans, keys and environments beside it are not."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert rules[0] == "*"
    assert set(packages) <= allowed
    assert not any(name.startswith((".", "data", "tests")) for name in allowed)
