"""What is kept of a gzip-compressed volume: a fresh header and the same voxels, compressed as they came.

To compress a scan anew costs more than all else that is done with it. So only its beginning is, where the
header was; from a block of deflate on that cannot refer to the header any more, the uploader's own bytes are
kept (`ingest.deflate`), while they are inflated to see whether they are whole.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from isal import igzip, isal_zlib

from ingest.deflate import WINDOW_BYTES, begin_anew, first_boundary
from ingest.nifti import Layout
from ingest.refusals import scan_incomplete
from ingest.source import Source
from ingest.writeback import Writeback

_WORTH_BYTES = 16 * 1024**2
"""Smaller files are compressed anew before their blocks would be looked through."""
_LOOKED_THROUGH_BYTES = 256 * 1024
"""Most encoders end a block every 20 to 110 kB."""
_MOST_BEGINNING_BYTES = 8 * 1024**2
"""Of voxels that are compressed anew, in memory: a block of zlib's inflates to 4 MB at most, a hostile one to
hundreds."""
_COPY_BYTES = 1024**2
_GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
"""Without a name, a time or a comment."""
_TRAILER_BYTES = 8
_HEADER_CRC, _EXTRA, _NAME, _COMMENT = 2, 4, 8, 16
"""Flags of what a gzip header may hold beside."""


@dataclass(frozen=True)
class _Cut:
    """From where on a gzip file is kept as it came.

    Attributes:
        at_bytes: Of the file: where that begins.
        content_bytes: What the file inflates to before.
        opening: What stands before it now, up to there.
        beginning: What the opening inflates to: a fresh header, and the first voxels.
    """

    at_bytes: int
    content_bytes: int
    opening: bytes
    beginning: bytes


def repack(file: BinaryIO, layout: Layout, target: Path, *, max_bytes: int) -> bool:
    """Write the volume of a gzip file under a fresh header, and see whether the file is whole.

    Args:
        file: The upload.
        layout: Of its content.
        target: To write; must not exist.
        max_bytes: Most bytes the content may have.

    Returns:
        Whether there was more than voxels.

    Raises:
        ProblemError: The file is not whole, or its content too large.
        OSError: The disk refuses.
    """
    with target.open("xb") as kept:  # buffered: a bare write may take less than it is given, and not say so
        if (cut := _find_cut(file, layout)) is not None:
            with _content(file, cut.content_bytes, max_bytes) as source:
                if _keep_blocks(source, file, layout, kept, cut):
                    return False
            kept.seek(0)
            kept.truncate()
        with _content(file, layout.offset_bytes, max_bytes) as source:
            return _compress_anew(source, layout, kept)


@contextmanager
def _content(file: BinaryIO, from_bytes: int, max_bytes: int) -> Iterator[Source]:
    """Give the content of a file from there on."""
    file.seek(0)
    with closing(Source(file, max_bytes=max_bytes)) as source:
        source.take(from_bytes)
        yield source


def _find_cut(file: BinaryIO, layout: Layout) -> _Cut | None:
    """Return from where on a file can be kept as it came; None where that is not soon, or not worth it."""
    if os.fstat(file.fileno()).st_size < _WORTH_BYTES:
        return None
    head = os.pread(file.fileno(), _LOOKED_THROUGH_BYTES, 0)
    try:
        start = _deflate_begins(head)
        deflate = head[start:]
        boundary = first_boundary(deflate, layout.offset_bytes + WINDOW_BYTES)
        voxels_bytes = min(layout.data_bytes, _MOST_BEGINNING_BYTES)
        if boundary is None or boundary.content_bytes > layout.offset_bytes + voxels_bytes:
            return None
        content = _inflated(deflate, boundary.content_bytes + WINDOW_BYTES)
        beginning = layout.fresh_header + content[layout.offset_bytes : boundary.content_bytes]
        opening = begin_anew(beginning, deflate, boundary)
        at = boundary.bit // 8 + 1
        # Behind the cut both must say the same; to look costs nothing.
        again = _inflated(opening + deflate[at:], len(beginning) + WINDOW_BYTES)
    except (ValueError, IndexError, isal_zlib.error):  # type: ignore[misc]  # its stub forgets that it is a class
        return None  # what is damaged is refused in words where all of it is read
    if again != beginning + content[boundary.content_bytes :]:
        return None
    return _Cut(start + at, boundary.content_bytes, opening, beginning)


def _inflated(deflate: bytes, most_bytes: int) -> bytes:
    return isal_zlib.decompressobj(wbits=-isal_zlib.MAX_WBITS).decompress(deflate, most_bytes)


def _deflate_begins(head: bytes) -> int:
    """Return how long the header of a gzip file is: RFC 1952, 2.3.

    Raises:
        ValueError, IndexError: It has no end.
    """
    flags, size = head[3], len(_GZIP_HEADER)
    if flags & _EXTRA:
        size += 2 + int.from_bytes(head[size : size + 2], "little")
    for text in (_NAME, _COMMENT):
        if flags & text:
            size = head.index(0, size) + 1
    return size + 2 * bool(flags & _HEADER_CRC)


def _keep_blocks(source: Source, file: BinaryIO, layout: Layout, kept: BinaryIO, cut: _Cut) -> bool:
    """Write the file with a new beginning; return False where it holds more than that one volume."""
    kept.write(_GZIP_HEADER + cut.opening)
    crc, received = isal_zlib.crc32(cut.beginning), cut.content_bytes - layout.offset_bytes
    done, writeback = cut.at_bytes, Writeback(kept.fileno())
    for piece in source.rest():
        received += len(piece)
        if received > layout.data_bytes:
            return False
        crc = isal_zlib.crc32(piece, crc)
        # The last bytes of all are its own checksum.
        while source.inflated_bytes - _TRAILER_BYTES >= done + _COPY_BYTES:
            done += kept.write(os.pread(file.fileno(), _COPY_BYTES, done))
            writeback.reached(kept.tell())
    require_whole(source, layout, received)
    if source.members > 1:
        return False
    end = source.inflated_bytes - _TRAILER_BYTES
    kept.write(os.pread(file.fileno(), end - done, done))
    kept.write(struct.pack("<II", crc, (len(layout.fresh_header) + layout.data_bytes) % 2**32))
    return True


def _compress_anew(source: Source, layout: Layout, kept: BinaryIO) -> bool:
    """Write the voxels compressed once more; return whether there was more."""
    received = 0
    with igzip.IGzipFile(filename="", mode="wb", fileobj=kept, mtime=0) as compressed:
        compressed.write(layout.fresh_header)
        for piece in source.rest():
            compressed.write(piece[: max(0, layout.data_bytes - received)])
            received += len(piece)
    require_whole(source, layout, received)
    return received > layout.data_bytes


def require_whole(source: Source, layout: Layout, received_bytes: int) -> None:
    """Check that all of a volume has come.

    Raises:
        ProblemError: It has not.
    """
    if received_bytes < layout.data_bytes:
        raise scan_incomplete(
            f"{layout.data_bytes:,} bytes of voxels ({layout.description})", f"{received_bytes:,}"
        )
    if source.cut_off:
        raise scan_incomplete("a gzip file with its checksum at the end", "one that ends before it")
