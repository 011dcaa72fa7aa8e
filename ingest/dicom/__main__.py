"""The process in which DICOM is read: `python -m ingest.dicom`, request on its input, reply on its output."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from ingest.dicom.archive import unpack
from ingest.dicom.child import MEMORY_BYTES, MEMORY_PER_BYTE, TIMEOUT_S, Refusal, Reply, Request
from ingest.dicom.conversion import convert
from ingest.dicom.images import read_slices
from ingest.dicom.series import choose
from ingest.refusals import inflated_too_large
from ingest.sniff import SNIFF_BYTES, is_zip
from pipeline.web.problems import ProblemError

_HEADER_ROOM_BYTES = 64 * 1024
"""Of a volume's file beside its voxels."""


def _limit(max_bytes: int) -> None:
    """Bound this process and those it starts; what goes beyond dies and is refused."""
    memory_bytes = MEMORY_BYTES + MEMORY_PER_BYTE * max_bytes
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (TIMEOUT_S, TIMEOUT_S))
    file_bytes = max_bytes + _HEADER_ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _reply(request: Request) -> Reply:
    unpacked = request.folder / "unpacked"
    unpacked.mkdir()
    files: list[Path] = []
    for upload in request.uploads:
        with upload.open("rb") as file:
            zipped = is_zip(file.read(SNIFF_BYTES))
        files += unpack(upload, unpacked, max_bytes=request.max_bytes) if zipped else [upload]
    series = choose(read_slices(files))
    if series.data_bytes > request.max_bytes:
        raise inflated_too_large(request.max_bytes)
    removed = ["DICOM tags"]
    if len(files) > len(series.slices):
        removed.append("images of other series" if series.others else "images that are no slices")
    return Reply(volume=convert(series, request.folder), removed=tuple(removed))


def main() -> None:
    """Answer one request."""
    request = Request.model_validate_json(sys.stdin.buffer.read())
    _limit(request.max_bytes)
    try:
        reply = _reply(request)
    except ProblemError as problem:
        reply = Reply(
            refusal=Refusal(
                status=problem.status, code=problem.code, title=problem.title, detail=problem.detail
            )
        )
    except OSError as error:
        reply = Reply(errno=error.errno)
    sys.stdout.write(reply.model_dump_json())


if __name__ == "__main__":
    main()
