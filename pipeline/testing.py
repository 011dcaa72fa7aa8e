"""A Redis in memory, for the tests of whoever builds on `pipeline.streams`.

    redis = FakeRedis()
    consumer = Consumer(redis.connect(), stream="work", group="workers", ...)

It runs the very Lua that a server runs, on fakeredis, which must be installed (`pip install fakeredis[lua]`).
The runtime's own contract tests run on it as they run on Redis and Valkey (`tests/integration/streams`).
Where it differs from them (fakeredis 2.40):

- It lives in one process: nothing is killed, paused or kept on disk. `FakeRedis.away` stands for an outage.
- INFO is unknown, so `durability_warnings` says that it could not check.
- A blocked read is not woken when its stream is deleted: it comes back empty when its time is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from fakeredis import FakeAsyncRedis, FakeServer
from redis.asyncio import Redis


class FakeRedis:
    """One server in this process's memory, as many connections to it as are wanted."""

    def __init__(self) -> None:
        self._server = FakeServer(version=(7,))

    def connect(self) -> Redis:
        """Return a client as `pipeline.streams.connect` does."""
        return cast(
            "Redis",
            FakeAsyncRedis(server=self._server, decode_responses=True, encoding_errors="surrogateescape"),
        )

    @contextmanager
    def away(self) -> Iterator[None]:
        """Refuse every command until the block ends, as a server does that is away; it keeps its data."""
        self._server.connected = False
        try:
            yield
        finally:
            self._server.connected = True
