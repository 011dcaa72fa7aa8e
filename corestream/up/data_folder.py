"""The folder that `corestream up` keeps everything in: private, one `up` at a time, with its own key."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import CorestreamError
from pipeline.files import fsync_directory

SECRET_FILE = "secret.key"  # noqa: S105 - the name of the file, not what it holds
ADMIN_FILE = "admin.token"
_LOCK_FILE = "up.lock"


class FolderInUseError(CorestreamError):
    """Raised when another `corestream up` works in the folder: two Redis servers would spoil one file."""


@contextmanager
def claimed(folder: Path) -> Iterator[Path]:
    """Make the folder if need be (mode 0700), and keep every other `up` out of it.

    Yields:
        Its absolute path.

    Raises:
        FolderInUseError: Another `up` is in it.
        OSError: It cannot be made or written.
    """
    folder = folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / _LOCK_FILE).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderInUseError(
                f"Expected {folder} for this corestream alone, but another `corestream up` works in it. "
                "Stop that one, or choose another folder with --data."
            ) from error
        yield folder


def kept_secret(folder: Path, name: str) -> str:
    """Return a secret of the folder; it is made at the first call and kept (mode 0600).

    Links stay valid over restarts only as long as the key that signs them is the same.

    Args:
        folder: Claimed.
        name: Of its file: `SECRET_FILE` or `ADMIN_FILE`.
    """
    path = folder / name
    if not path.exists():
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        part.touch(mode=0o600, exist_ok=False)
        with part.open("w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
        fsync_directory(folder)
    return path.read_text(encoding="ascii").strip()
