"""What libraries print in the child process, as records of the worker's log.

The worker reads them, not the child itself: so the last words of a child that crashes are kept, and they are
those that say why.
"""

from __future__ import annotations

import contextvars
import multiprocessing
import os
import sys
import threading
from multiprocessing.connection import Connection

import structlog

log = structlog.get_logger()

_LAST_WORDS_WITHIN_S = 5.0
"""They are read in no time, unless the machine is busy or what a child left behind holds the pipe."""


class Printed:
    """A pipe from child processes into this process's log, a record for each line."""

    def __init__(self) -> None:
        self._reader, self.writer = multiprocessing.Pipe(duplex=False)
        # In a copy of this context, which names the service in every record.
        self._logging = threading.Thread(
            target=contextvars.copy_context().run, args=(self._log_lines,), daemon=True
        )
        self._logging.start()

    def close(self) -> None:
        """Log what is left; the children have ended."""
        self.writer.close()
        self._logging.join(_LAST_WORDS_WITHIN_S)

    def _log_lines(self) -> None:
        with self._reader, os.fdopen(os.dup(self._reader.fileno()), "rb") as lines:
            for line in lines:
                if text := line.decode(errors="replace").strip():
                    log.info("detection.printed", text=text)


def print_into(writer: Connection) -> None:
    """Send what this process prints, also from C++, into a worker's pipe."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for number in (1, 2):
        os.dup2(writer.fileno(), number)
    writer.close()
