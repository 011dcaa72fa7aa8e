"""The door: what comes in is one whole volume, and leaves its names outside.

Everything is decided in one pass over a NIfTI file, a chunk at a time: memory does not depend on what the
upload claims or holds. DICOM is turned into NIfTI by a process of its own, and that goes the same way.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from isal import igzip

from ingest.dicom.child import converted
from ingest.nifti import Layout, header_bytes, read_layout
from ingest.sniff import SNIFF_BYTES, is_dicom, is_zip
from ingest.source import Source
from pipeline.nifti.header import NIFTI1_BYTES
from pipeline.web.problems import ProblemError


def admit(files: Sequence[Path], target: Path, *, max_bytes: int) -> tuple[str, ...]:
    """Check the files of one scan and write what is kept: a fresh header and the voxels, gzip-compressed.

    Args:
        files: As received: a NIfTI volume, or a DICOM series, loose or in ZIP archives; are left as they are.
        target: The file to write; complete and fsynced on return, absent after an error. DICOM is worked on
            in a folder beside it, of the same name with the suffix `.dicom`.
        max_bytes: Most bytes the scan may have when inflated.

    Returns:
        The names of what was removed: header fields with text, `extensions`, `trailing bytes`, `DICOM tags`.

    Raises:
        ProblemError: The scan is not accepted; says why.
        OSError: The disk refuses.
    """
    head = read_head(files[0])
    if not (is_zip(head) or is_dicom(head)):
        return _admit_nifti(files[0], target, max_bytes)
    with converted(files, target.with_suffix(".dicom"), max_bytes=max_bytes) as (volume, removed):
        _admit_nifti(volume, target, max_bytes)  # what dcm2niix writes into its header is no uploader's text
    return removed


def read_head(upload: Path) -> bytes:
    """Return as much of an upload's beginning as tells what it is."""
    with upload.open("rb") as file:
        return file.read(SNIFF_BYTES)


def _admit_nifti(upload: Path, target: Path, max_bytes: int) -> tuple[str, ...]:
    try:
        with upload.open("rb") as file, target.open("xb") as kept:
            removed = _copy(Source(file, max_bytes=max_bytes), kept)
            os.fsync(kept.fileno())
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return removed


def _copy(source: Source, kept: BinaryIO) -> tuple[str, ...]:
    head = source.take(NIFTI1_BYTES)
    if len(head) < NIFTI1_BYTES and (source.cut_off or head[:4] in _HEADER_STARTS):
        raise _incomplete("a header of at least 348 bytes", f"{len(head):,} bytes")
    size = header_bytes(head)
    head += source.take(size - len(head))
    if len(head) < size:
        raise _incomplete(f"a header of {size:,} bytes", f"{len(head):,}")
    layout = read_layout(head)
    between = source.take(layout.offset_bytes - size)
    removed = list(layout.removed)
    if any(head[-4:]) or any(between):
        removed.append("extensions")
    with igzip.IGzipFile(filename="", mode="wb", fileobj=kept, mtime=0) as compressed:
        compressed.write(layout.fresh_header)
        if _copy_voxels(source, compressed, layout):
            removed.append("trailing bytes")
    kept.flush()
    return tuple(removed)


_HEADER_STARTS = {size.to_bytes(4, order) for size in (348, 540) for order in ("little", "big")}


def _copy_voxels(source: Source, compressed: BinaryIO, layout: Layout) -> bool:
    """Copy the voxels, read on to the end of the upload, and return whether there was more than voxels."""
    missing = layout.data_bytes
    trailing = False
    for piece in source.rest():
        compressed.write(piece[:missing])
        trailing = trailing or len(piece) > missing
        missing -= min(missing, len(piece))
    if missing:
        received = layout.data_bytes - missing
        raise _incomplete(f"{layout.data_bytes:,} bytes of voxels ({layout.description})", f"{received:,}")
    if source.cut_off:
        raise _incomplete("a gzip file with its checksum at the end", "one that ends before it")
    return trailing


def _incomplete(expected: str, received: str) -> ProblemError:
    return ProblemError(
        status=422,
        code="scan-incomplete",
        title="Scan incomplete",
        detail=f"Expected {expected}, received {received}. The file was cut off on its way, or its header "
        "is wrong: copy or export the scan again and submit that.",
    )
