"""A ZIP archive of DICOM files, unpacked without trusting a word of it."""

from __future__ import annotations

import errno
import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO

from ingest.refusals import file_invalid
from ingest.sniff import SNIFF_BYTES, is_archive, is_dicom
from pipeline.web.problems import ProblemError

MAX_ENTRIES = 10_000
"""A thin-slice angiogram has about a thousand; a whole examination with its reconstructions several."""
MAX_RATIO = 100
"""Inflated to compressed. CT slices reach about 10; only what was made for it goes beyond 100."""

_CHUNK_BYTES = 256 * 1024
_ENCRYPTED = 0x1
"""Bit of a ZIP entry's flags."""


def unpack(upload: Path, folder: Path, *, max_bytes: int) -> list[Path]:
    """Write an archive's DICOM files under names of our own; whatever else it holds is left.

    Args:
        upload: The archive.
        folder: Where to; exists.
        max_bytes: Most bytes that all entries together may have when inflated.

    Returns:
        The files, in the archive's order.

    Raises:
        ProblemError: The archive is damaged, too large, or holds what no export of a scan does.
        OSError: The disk refuses.
    """
    try:
        with zipfile.ZipFile(upload) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check(entries, upload.stat().st_size, max_bytes)
            files = []
            for number, entry in enumerate(entries):
                with archive.open(entry) as content:
                    path = folder / f"{number:05}.dcm"
                    if _keep(content, path):
                        files.append(path)
    except ProblemError:
        raise
    except OSError as error:
        if error.errno != errno.EINVAL:  # that one is zipfile's, of a place before the file's beginning
            raise
        raise _damaged() from error
    except Exception as error:  # zipfile and what it inflates with raise whatever the damage leads them to
        raise _damaged() from error
    return files


def _check(entries: list[zipfile.ZipInfo], archive_bytes: int, max_bytes: int) -> None:
    """Refuse by the archive's directory, before anything is inflated.

    What an entry holds beyond the size that is stated here is never read: zipfile stops there.
    """
    if len(entries) > MAX_ENTRIES:
        raise _too_large(f"at most {MAX_ENTRIES:,} files in the archive", f"{len(entries):,}")
    inflated = sum(entry.file_size for entry in entries)
    if inflated > max_bytes:
        raise _too_large(f"at most {max_bytes:,} bytes when unpacked", f"{inflated:,}")
    if inflated > MAX_RATIO * archive_bytes:
        raise _too_large(f"at most {MAX_RATIO} times its own size when unpacked", f"{inflated:,} bytes")
    for entry in entries:
        name = entry.filename.replace("\\", "/")
        if ".." in PurePosixPath(name).parts:
            raise _unsafe("a path that leads out of the archive (`..`)")
        if name.startswith("/") or name[1:2] == ":":
            raise _unsafe("an absolute path")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise _unsafe("a symbolic link")
        if entry.flag_bits & _ENCRYPTED:
            raise _unsafe("encrypted files")


def _keep(content: IO[bytes], path: Path) -> bool:
    """Write one entry if it is a DICOM file, and return whether it is."""
    head = content.read(SNIFF_BYTES)
    if is_archive(head):
        raise _unsafe("another archive inside it")
    if not is_dicom(head):
        return False
    with path.open("xb") as file:
        file.write(head)
        while piece := content.read(_CHUNK_BYTES):
            file.write(piece)
    return True


def _damaged() -> ProblemError:
    return file_invalid(
        "archive-damaged",
        "Archive damaged",
        "an intact ZIP archive",
        "one that does not unpack",
        "Pack the series again, check it with `unzip -t`, and submit that.",
    )


def _unsafe(received: str) -> ProblemError:
    return file_invalid(
        "archive-unsafe",
        "Archive not accepted",
        "a ZIP archive with the files of one DICOM series and nothing else",
        f"one with {received}",
        "Pack the series' files alone, and submit that.",
    )


def _too_large(expected: str, received: str) -> ProblemError:
    return ProblemError(
        status=413,
        code="archive-too-large",
        title="Archive too large",
        detail=f"Expected {expected}, received {received}. Pack the one series that shows the angiogram, "
        "or ask whoever runs this service to raise its limit.",
    )
