"""The bytes of an uploaded volume in one pass, inflated where they are compressed."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import BinaryIO

from isal import isal_zlib

from ingest.refusals import inflated_too_large
from pipeline.web.problems import ProblemError

GZIP_MAGIC = b"\x1f\x8b"

_CHUNK_BYTES = 256 * 1024
_GZIP_WBITS = 31
"""zlib's way to say: a gzip member, whose CRC and length are to be checked."""


class Source:
    """Reads an upload from its beginning to its end, never more than a chunk at a time.

    Whether it is compressed is told by its first bytes, not by its name.

    Attributes:
        compressed: Whether the upload is gzip.
        cut_off: Whether a gzip member turned out to lack its end.
        members: Of gzip, of which the end has been seen.
        inflated_bytes: Of the upload that have been inflated, or belong to what has.
    """

    def __init__(self, file: BinaryIO, *, max_bytes: int) -> None:
        """Begin to read.

        Args:
            file: The upload, at its beginning.
            max_bytes: Most bytes to give out; a few kilobytes of gzip can hold gigabytes.
        """
        self._file = file
        self._max_bytes = max_bytes
        self._taken = b""
        self.cut_off = False
        self.members = 0
        self.inflated_bytes = 0
        self.compressed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        self._pieces = self._capped(self._inflated() if self.compressed else self._plain())

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only at the end.

        Raises:
            ProblemError: The gzip is damaged, or there is more than `max_bytes`.
        """
        parts = [self._taken]
        held = len(self._taken)
        while held < size and (piece := next(self._pieces, b"")):
            parts.append(piece)
            held += len(piece)
        joined = b"".join(parts)
        self._taken = joined[size:]
        return joined[:size]

    def rest(self) -> Iterator[bytes]:
        """Give what has not been taken, to the very end of the upload.

        Raises:
            ProblemError: As `take`.
        """
        if self._taken:
            taken, self._taken = self._taken, b""
            yield taken
        yield from self._pieces

    def close(self) -> None:
        """Let go of what is held: else that is left to the garbage collector, and many uploads add up."""
        self._pieces.close()

    def _capped(self, pieces: Iterator[bytes]) -> Generator[bytes]:
        given = 0
        for piece in pieces:
            given += len(piece)
            if given > self._max_bytes:
                raise inflated_too_large(self._max_bytes)
            yield piece

    def _plain(self) -> Iterator[bytes]:
        while piece := self._file.read(_CHUNK_BYTES):
            yield piece

    def _inflated(self) -> Iterator[bytes]:
        """Inflate member after member; zeros after the last are padding, as gzip itself has it."""
        data = self._file.read(_CHUNK_BYTES)
        while data:
            member = isal_zlib.decompressobj(wbits=_GZIP_WBITS)
            while not member.eof:
                if not data:
                    data = self._file.read(_CHUNK_BYTES)
                    if not data:
                        self.cut_off = True
                        return
                try:
                    piece = member.decompress(data, _CHUNK_BYTES)
                except isal_zlib.error as error:  # type: ignore[misc]  # its stub forgets that it is a class
                    raise _damaged(str(error)) from error
                data = member.unconsumed_tail or member.unused_data
                self.inflated_bytes = self._file.tell() - len(data)
                if piece:
                    yield piece
            self.members += 1
            data = data.lstrip(b"\0")
            while not data and (data := self._file.read(_CHUNK_BYTES)):
                data = data.lstrip(b"\0")
            if data and data[:1] != GZIP_MAGIC[:1]:
                raise _damaged("something else follows it")


def _damaged(reason: str) -> ProblemError:
    return ProblemError(
        status=422,
        code="gzip-damaged",
        title="File damaged",
        detail=f"Expected an intact gzip file, received one that does not inflate ({reason}). "
        "Copy or export the scan again, check it with `gzip -t`, and submit that.",
    )
