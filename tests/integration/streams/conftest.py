"""Every test of the runtime runs on Redis and on Valkey and, where it needs no process, on the fake we ship.

A test that asks for `redis_server` does to a server what cannot be done to a fake in memory, or needs several
processes. One that asks for `stream_bench` alone is a contract of the runtime, which the fake keeps too
unless the test is marked `not_on_the_fake`, with the reason.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pipeline.testing import FakeRedis
from tests.support.redis_server import Kind, RedisServer, running_redis
from tests.support.stream_bench import Bench

FAKE = "fake"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Name the servers that a test runs on."""
    if "server_kind" not in metafunc.fixturenames:
        return
    kinds: list[object] = ["redis", "valkey"]
    if "stream_bench" in metafunc.fixturenames and "redis_server" not in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("not_on_the_fake")
        kinds.append(pytest.param(FAKE, marks=pytest.mark.skip(reason=marker.args[0])) if marker else FAKE)
    metafunc.parametrize("server_kind", kinds, scope="module")  # so that a module may share a server


@pytest.fixture
def redis_server(tmp_path: Path, server_kind: Kind) -> Iterator[RedisServer]:
    """An empty server of the test's own."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with running_redis(folder, server_kind) as server:
        yield server


@pytest.fixture
async def stream_bench(server_kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """A stream with consumers on record; leases of half a second."""
    if server_kind == FAKE:
        fake = FakeRedis()
        bench = Bench("no address: a fake", connect=lambda _url: fake.connect())
    else:
        bench = Bench(request.getfixturevalue("redis_server").url)
    yield bench
    await bench.close()
