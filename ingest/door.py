"""The door: what comes in is one whole volume, and leaves its names outside.

Memory does not depend on what the upload claims or holds: a gzip-compressed volume is read in one pass, a
piece at a time; of another only the header is. DICOM is turned into NIfTI by a process of its own, and that
goes the same way.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ingest.dicom.child import converted
from ingest.nifti import Layout, header_bytes, read_layout
from ingest.refusals import inflated_too_large, scan_incomplete
from ingest.repacking import repack, require_whole
from ingest.sniff import SNIFF_BYTES, is_dicom, is_zip
from ingest.source import Source
from pipeline.nifti.header import NIFTI1_BYTES


@dataclass(frozen=True)
class Admitted:
    """A scan that is let in; what is to be kept of it has its final form once it is settled.

    Attributes:
        path: Of the file that is kept.
        compressed: Whether that is gzip.
        removed: The names of what was left out: header fields with text, `extensions`, `trailing bytes`,
            `DICOM tags`.
        layout: Of an uncompressed file that still has the uploader's header; else None.
    """

    path: Path
    compressed: bool
    removed: tuple[str, ...]
    layout: Layout | None = None

    def settle(self) -> None:
        """Put the scan on the disk, an uncompressed one with a fresh header.

        Raises:
            OSError: The disk refuses.
        """
        with self.path.open("r+b") as kept:
            os.fsync(kept.fileno())  # all but what follows, so that this is soon done
            if self.layout is not None:
                kept.write(self.layout.fresh_header)
                kept.truncate(self.layout.offset_bytes + self.layout.data_bytes)
                kept.flush()
                os.fsync(kept.fileno())


def admit(files: Sequence[Path], target: Path, *, max_bytes: int, ours: bool = False) -> Admitted:
    """Check the files of one scan, and bring what is kept of them as far as it can be undone.

    Args:
        files: As received: a NIfTI volume, or a DICOM series, loose or in ZIP archives; are left as they are.
        target: Where to write what is kept; absent after an error. DICOM is worked on in a folder beside it,
            of the same name with the suffix `.dicom`.
        max_bytes: Most bytes the scan may have when inflated.
        ours: Whether an uncompressed volume need not be copied to be kept, but becomes what is kept itself,
            once it is settled.

    Raises:
        ProblemError: The scan is not accepted; says why.
        OSError: The disk refuses.
    """
    head = read_head(files[0])
    try:
        if not (is_zip(head) or is_dicom(head)):
            return _admit_nifti(files[0], target, max_bytes, ours=ours)
        with converted(files, target.with_suffix(".dicom"), max_bytes=max_bytes) as (volume, removed):
            volume.rename(target)
            # What dcm2niix writes into its header is no uploader's text.
            return replace(_admit_nifti(target, target, max_bytes, ours=True), removed=removed)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def read_head(upload: Path) -> bytes:
    """Return as much of an upload's beginning as tells what it is."""
    with upload.open("rb") as file:
        return file.read(SNIFF_BYTES)


def _admit_nifti(upload: Path, target: Path, max_bytes: int, *, ours: bool) -> Admitted:
    with upload.open("rb") as file, closing(Source(file, max_bytes=max_bytes)) as source:
        layout, removed = _read_layout(source)
        if source.compressed:
            trailing = repack(file, layout, target, max_bytes=max_bytes)
            layout_to_write, path = None, target
        else:
            trailing = _has_more(file, source, layout, max_bytes)
            layout_to_write, path = layout, upload if ours else target
    if not (source.compressed or ours):
        shutil.copyfile(upload, target)
    removed += ("trailing bytes",) if trailing else ()
    return Admitted(path, source.compressed, removed, layout_to_write)


def _read_layout(source: Source) -> tuple[Layout, tuple[str, ...]]:
    """Read as far as the first voxel; return what the header says, and the names of what is not kept."""
    head = source.take(NIFTI1_BYTES)
    if len(head) < NIFTI1_BYTES and (source.cut_off or head[:4] in _HEADER_STARTS):
        raise scan_incomplete("a header of at least 348 bytes", f"{len(head):,} bytes")
    size = header_bytes(head)
    head += source.take(size - len(head))
    if len(head) < size:
        raise scan_incomplete(f"a header of {size:,} bytes", f"{len(head):,}")
    layout = read_layout(head)
    between = source.take(layout.offset_bytes - size)
    extended = any(head[-4:]) or any(between)
    return layout, (*layout.removed, *(("extensions",) if extended else ()))


_HEADER_STARTS = {size.to_bytes(4, order) for size in (348, 540) for order in ("little", "big")}


def _has_more(file: BinaryIO, source: Source, layout: Layout, max_bytes: int) -> bool:
    """Check the length of an uncompressed volume; return whether there is more than voxels."""
    size = os.fstat(file.fileno()).st_size
    if size > max_bytes:
        raise inflated_too_large(max_bytes)
    received = max(0, size - layout.offset_bytes)
    require_whole(source, layout, received)
    return received > layout.data_bytes
