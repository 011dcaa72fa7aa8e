"""One at a time: a submission with a key, and whoever clears up after it, hold the job's lock.

The kernel releases a lock when its process dies, so a crash leaves none behind; only its empty file may stay
until the sweep.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class HeldError(Exception):
    """Raised when somebody else holds the lock."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock until the block ends; its file is made, and removed at the end.

    Raises:
        HeldError: Somebody else holds it, in this process or in another on the same disk.
    """
    handle = _acquire(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _acquire(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(handle).st_ino:
                    return handle
        except BlockingIOError as error:
            os.close(handle)
            raise HeldError from error
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its former holder removed the file between our opening and locking it
