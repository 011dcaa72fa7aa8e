"""Has DICOM read by a process of its own, and says what came of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from ingest.refusals import file_invalid
from pipeline.web.problems import ProblemError

log = structlog.get_logger()

TIMEOUT_S = 120
"""A thousand slices of JPEG 2000 take a quarter of this on a slow core."""
MEMORY_BYTES = 768 * 1024**2
"""Of address space for Python and its libraries."""
MEMORY_PER_BYTE = 4
"""Of address space for each byte that a volume may have: dcm2niix holds it more than once."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)


class Request(_Message):
    """What the process is to do.

    Attributes:
        uploads: ZIP archives and DICOM files of one scan.
        folder: To work in; empty.
        max_bytes: Most bytes an archive, or the volume, may have when inflated.
    """

    uploads: tuple[Path, ...]
    folder: Path
    max_bytes: int


class Refusal(_Message):
    """A `ProblemError` on its way between processes."""

    status: int
    code: str
    title: str
    detail: str


class Reply(_Message):
    """What came of it: a volume, a refusal, or the number of an error of the system."""

    volume: Path | None = None
    removed: tuple[str, ...] = ()
    refusal: Refusal | None = None
    errno: int | None = None


@contextmanager
def converted(
    uploads: Sequence[Path], folder: Path, *, max_bytes: int
) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Give, while the block runs, the one volume in some uploads, and the names of what was left out.

    Args:
        uploads: ZIP archives and DICOM files of one scan; are left as they are.
        folder: To work in; is made, and removed at the end with all that the DICOM files held.
        max_bytes: Most bytes an archive, or the volume, may have when inflated.

    Raises:
        ProblemError: There is no CT volume in it; says why.
        OSError: The disk refuses.
    """
    folder.mkdir(mode=0o700)
    try:
        reply = _ask(Request(uploads=tuple(uploads), folder=folder, max_bytes=max_bytes))
        if reply.refusal is not None:
            raise ProblemError(**reply.refusal.model_dump())
        if reply.errno is not None or reply.volume is None:
            raise OSError(reply.errno, os.strerror(reply.errno or 0))
        yield reply.volume, reply.removed
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ask(request: Request) -> Reply:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CORESTREAM_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "ingest.dicom"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a traceback there could hold what the headers say
        env=kept | {"HOME": str(request.folder), "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(request.model_dump_json().encode(), timeout=TIMEOUT_S)
        return Reply.model_validate_json(output)
    except (subprocess.TimeoutExpired, ValidationError) as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        log.warning("door.dicom_given_up", status=process.wait(), error=type(error).__name__)
        raise _unreadable() from error


def _unreadable() -> ProblemError:
    return file_invalid(
        "dicom-unreadable",
        "DICOM not readable",
        "DICOM files that are read within the service's limits of time and memory",
        "some that are not",
        "Export the series again and submit that, or convert it with dcm2niix and submit the NIfTI.",
    )
