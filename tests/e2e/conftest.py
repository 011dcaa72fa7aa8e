"""Whole installations, as a user runs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from processor.synthetic.samples import write_samples
from tests.support.installation import Installation, running_installation
from tests.support.redis_server import running_redis
from tests.support.reference import published_weights

ARTIFACTS = Path(__file__).parents[1] / "artifacts"


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Where screenshots are left for people to look at."""
    ARTIFACTS.mkdir(exist_ok=True)
    return ARTIFACTS


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic scan with a planted territory."""
    return write_samples(tmp_path_factory.mktemp("samples"), count=1)[0]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with the published network."""
    folder = tmp_path_factory.mktemp("published")
    with (
        running_redis(folder) as redis,
        running_installation(folder, redis_url=redis.url, MODEL=str(published_weights())) as installation,
    ):
        yield installation


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with two processors, the demonstration model and short leases."""
    folder = tmp_path_factory.mktemp("two-workers")
    with (
        running_redis(folder) as redis,
        running_installation(
            folder, redis_url=redis.url, workers=2, MODEL="demo", LEASE_MS="6000"
        ) as installation,
    ):
        yield installation
