"""What has come in, however it came: files on the disk that nobody has looked into yet."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, TypeVar

from ingest.dicom.archive import MAX_ENTRIES
from ingest.locks import held
from ingest.source import GZIP_MAGIC
from ingest.writeback import Writeback
from pipeline.ids import new_id
from pipeline.storage import Storage
from pipeline.web.problems import ProblemError

_Sent = TypeVar("_Sent")

_CHUNK_BYTES = 256 * 1024
"""What one upload holds in memory; hundreds of slow clients are held at once."""
_LONGEST_PAUSE_S = 60.0
"""Of a sender in the middle of a request; a connection that is dead may never say so."""


@dataclass(frozen=True)
class Limits:
    """What a submission may take.

    Attributes:
        max_upload_bytes: Of one scan.
        max_files: Scans in one job.
        min_free_bytes: The disk is never filled beyond this.
    """

    max_upload_bytes: int
    max_files: int
    min_free_bytes: int

    def require_room(self, storage: Storage, size_bytes: int) -> None:
        """Check that the disk has room.

        Raises:
            ProblemError: It has not.
        """
        if storage.free_bytes() - size_bytes < self.min_free_bytes:
            raise disk_full()


@dataclass(frozen=True)
class Upload:
    """One scan as received: a file, or the files of a DICOM series.

    Attributes:
        paths: Where they lie.
        sha256: Of its bytes, hexadecimal; of a series, of its files' sorted digests.
        size_bytes: Of all its files.
        first_byte_at: When the first byte of the first came in.
        is_slice: Whether it is one loose DICOM file, a part of a scan rather than a scan.
        ours: Whether the files lie in `incoming/`, so that they may become what is kept.
    """

    paths: tuple[Path, ...]
    sha256: str
    size_bytes: int
    first_byte_at: datetime
    is_slice: bool = False
    ours: bool = True


@dataclass(frozen=True)
class Received:
    """A submission as received, one upload a scan; only the first bytes of each have been looked at yet.

    Attributes:
        uploads: What came; nothing where it is recognised by its `upload_ids` alone.
        email: Where the result is announced, if anywhere.
        upload_ids: Of the resumable uploads that it consists of, in the order of the submission.
    """

    uploads: tuple[Upload, ...]
    email: str | None
    upload_ids: tuple[str, ...] = ()


def join_slices(uploads: Sequence[Upload]) -> list[Upload]:
    """Return one upload for each scan: loose DICOM files are one series, which comes last."""
    slices = [upload for upload in uploads if upload.is_slice]
    if not slices:
        return list(uploads)
    digests = sorted(bytes.fromhex(upload.sha256) for upload in slices)
    series = Upload(
        paths=tuple(path for upload in slices for path in upload.paths),
        sha256=hashlib.sha256(b"".join(digests)).hexdigest(),
        size_bytes=sum(upload.size_bytes for upload in slices),
        first_byte_at=min(upload.first_byte_at for upload in slices),
    )
    return [*(upload for upload in uploads if not upload.is_slice), series]


@dataclass
class Tally:
    """Counts scans as their files arrive: a thousand loose slices are one.

    Attributes:
        limits: Of the submission.
    """

    limits: Limits
    _volumes: int = field(default=0, init=False)
    _slices: int = field(default=0, init=False)
    _slices_bytes: int = field(default=0, init=False)

    def add(self, upload: Upload) -> None:
        """Count one more file.

        Raises:
            ProblemError: It is one too many.
        """
        if upload.is_slice:
            self._slices += 1
            self._slices_bytes += upload.size_bytes
        else:
            self._volumes += 1
        if self._volumes + min(1, self._slices) > self.limits.max_files or self._slices > MAX_ENTRIES:
            raise _too_many(self.limits.max_files)
        if self._slices_bytes > self.limits.max_upload_bytes:
            raise too_large(self.limits.max_upload_bytes)


@contextmanager
def temporary_parts(storage: Storage) -> Iterator[Callable[[], Path]]:
    """Give names for files in `incoming/`, and remove all that is left of them at the end.

    While the lock of their common id is held somebody is at work on them, however long ago one was written:
    the first file of a form waits for the last.
    """
    batch = new_id()
    given: list[Path] = []

    def new_part() -> Path:
        given.append(storage.part_path(f"{batch}.{len(given)}"))
        return given[-1]

    with held(storage.lock_path(batch)):
        try:
            yield new_part
        finally:
            for part in given:
                part.unlink(missing_ok=True)


class Digest:
    """A hash that is being computed, and of how many bytes.

    Args:
        algorithm: One of hashlib's.
    """

    def __init__(self, algorithm: str = "sha256") -> None:
        self._hash = hashlib.new(algorithm, usedforsecurity=False)
        self.size_bytes = 0

    def update(self, data: bytes | bytearray) -> None:
        """Take more bytes."""
        self._hash.update(data)
        self.size_bytes += len(data)

    def digest(self) -> bytes:
        """Return the hash."""
        return self._hash.digest()


class _Appending:
    """Appends to a file, in a thread, what `pour` gives it."""

    def __init__(self, file: BinaryIO, check: Callable[[int], None], digest: Digest | None) -> None:
        self._file = file
        self._check = check
        self._digest = digest
        self._writeback = Writeback(file.fileno(), file.tell())

    def write(self, chunk: bytearray, end: int) -> None:
        """Append bytes, of which the last is the `end`th that came."""
        self._check(end)
        if self._digest is not None:
            self._digest.update(chunk)
        self._file.write(chunk)
        self._file.flush()
        # Of a compressed scan other bytes are kept than these.
        if os.pread(self._file.fileno(), len(GZIP_MAGIC), 0) != GZIP_MAGIC:
            self._writeback.reached(self._file.tell())


async def pour(
    pieces: AsyncIterator[bytes],
    path: Path,
    check: Callable[[int], None],
    *,
    digest: Digest | None = None,
) -> int:
    """Append what comes in to a file; what came before a cut is on the disk when the error is raised.

    Args:
        pieces: The bytes as they come.
        path: The file; made unless it exists.
        check: Is asked, with the number of bytes so far, before they are written; raises to refuse them.
        digest: Is fed the same bytes.

    Returns:
        How many bytes came.

    Raises:
        ProblemError: Of `check`, or its sender has fallen silent.
        OSError: The disk refuses.
    """
    size = 0
    gathered = bytearray()
    writing: asyncio.Future[None] | None = None
    with path.open("a+b") as file:  # buffered: a bare write may take less than it is given, and not say so
        write = _Appending(file, check, digest).write
        try:
            while piece := await promptly(anext(pieces, b"")):
                size += len(piece)
                gathered += piece
                if len(gathered) >= _CHUNK_BYTES:
                    if writing is not None:
                        await writing
                    writing = asyncio.ensure_future(asyncio.to_thread(write, gathered, size))
                    gathered = bytearray()
        finally:
            if writing is not None:
                await writing
            if gathered:
                await asyncio.to_thread(write, gathered, size)
    return size


async def promptly(coming: Awaitable[_Sent]) -> _Sent:
    """Wait for what a sender is about to send.

    Raises:
        ProblemError: Its sender has fallen silent.
    """
    try:
        async with asyncio.timeout(_LONGEST_PAUSE_S):
            return await coming
    except TimeoutError as error:
        raise ProblemError(
            status=408,
            code="upload-stalled",
            title="Upload stalled",
            detail=f"Expected the next bytes within {_LONGEST_PAUSE_S:.0f} seconds, received none. Send a "
            "form again; go on with a resumable upload where it stands.",
        ) from error


def disk_full() -> ProblemError:
    """Return the answer for a disk that has no room left."""
    return ProblemError(
        status=507,
        code="disk-full",
        title="No room left",
        detail="Expected room on this service's disk, found too little. No job was made. Try again later: "
        "room is made as older jobs are deleted; or tell whoever runs this service.",
        headers={"Retry-After": "600"},
    )


def too_large(limit_bytes: int) -> ProblemError:
    """Return the answer for a scan beyond the limit."""
    return ProblemError(
        status=413,
        code="upload-too-large",
        title="Upload too large",
        detail=f"Expected at most {limit_bytes:,} bytes a scan, received more. Compress it with gzip, "
        "crop or resample it, or ask whoever runs this service to raise its limit.",
    )


def _too_many(limit: int) -> ProblemError:
    return ProblemError(
        status=422,
        code="too-many-files",
        title="Too many files",
        detail=f"Expected at most {limit} scans in one submission, received more. Submit them in several.",
    )
