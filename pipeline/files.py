"""How files get onto the disk: whole, and so that they survive a power cut; or line by line."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from pipeline.ids import new_id

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
"""What the system says when the disk, or this user's share of it, is full."""
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}
"""What it says on a disk whose files have one name each."""


def fsync_directory(directory: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file so that a reader sees all of it or nothing, also after a power cut."""
    with written_whole(path, content):
        pass


@contextmanager
def written_whole(path: Path, content: bytes) -> Iterator[None]:
    """Do the same, but make the file visible only when the block ends well.

    Its bytes are on the disk before the block begins, so that what is left to be done takes no room.
    """
    part = path.with_name(f".{path.name}.{new_id()}")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    fsync_directory(path.parent)


def give(part: Path, target: Path) -> None:
    """Give a file a second name; instead of its first on disks whose files have one each."""
    try:
        target.hardlink_to(part)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        part.rename(target)


def append_line(path: Path, line: BaseModel) -> None:
    """Append a document as one line of JSON, without what is None; make the file unless it is there.

    It is readable by this user alone. Lines of several processes do not mix: each is one write to a file
    opened for appending. One that a full disk cut off stays as it is, and the next begins behind it.

    Raises:
        OSError: The disk refuses.
    """
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size_bytes = os.fstat(handle).st_size
        was_cut_off = size_bytes and os.pread(handle, 1, size_bytes - 1) != b"\n"
        text = f"{line.model_dump_json(exclude_none=True)}\n"
        os.write(handle, f"\n{text}".encode() if was_cut_off else text.encode())
    finally:
        os.close(handle)
