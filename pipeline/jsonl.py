"""Append-only files of one JSON document a line."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel


def append_line(path: Path, line: BaseModel) -> None:
    """Append a line without what is None; make the file, readable by this user alone, unless it is there.

    Lines of several processes do not mix: each is one write to a file opened for appending.

    Raises:
        OSError: The disk refuses.
    """
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, f"{line.model_dump_json(exclude_none=True)}\n".encode())
    finally:
        os.close(handle)
