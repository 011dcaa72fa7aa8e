"""Long files reach the disk while they grow."""

from __future__ import annotations

import os

_EVERY_BYTES = 8 * 1024**2


class Writeback:
    """Has the kernel begin to write what has been added to a file, so that the fsync at its end is short."""

    def __init__(self, file_descriptor: int, size_bytes: int = 0) -> None:
        self._file = file_descriptor
        self._begun_bytes = size_bytes

    def reached(self, size_bytes: int) -> None:
        """Tell that the file holds so much by now."""
        more_bytes = size_bytes - self._begun_bytes
        if more_bytes >= _EVERY_BYTES:
            # Of what cannot be dropped, because it is not on the disk yet, Linux begins to write at once.
            os.posix_fadvise(self._file, self._begun_bytes, more_bytes, os.POSIX_FADV_DONTNEED)
            self._begun_bytes = size_bytes
