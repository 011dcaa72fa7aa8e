"""All files of a job as one zip, made while it is sent: no copy on the disk, none in memory."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import structlog
from aiohttp import web

from viewer.access import Access
from viewer.numbers import numbers_csv
from viewer.result_page import view_scans

log = structlog.get_logger()

_CHUNK_BYTES = 1024**2


class Archive:
    """Serves zips.

    Args:
        access: What a request may see.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer with every file of every result, and the table of numbers."""
        job = self._access.job(request)
        scans = view_scans(self._access.storage, job, request.match_info["token"])
        log.info("result.archive_opened", job_id=job.job_id)
        answer = web.StreamResponse(
            headers={
                "Content-Type": "application/zip",
                "Content-Disposition": f'attachment; filename="corestream-{job.job_id[:8]}.zip"',
            }
        )
        await answer.prepare(request)
        files = [
            (f"scan-{scan.number}/{name}", self._access.storage.result_dir(job.job_id, scan.scan_id) / name)
            for scan in scans
            for name in scan.sizes
        ]
        async for part in zipped(files, {"numbers.csv": numbers_csv(scans).encode()}):
            await answer.write(part)
        await answer.write_eof()
        return answer


class _Sink:
    """What `zipfile` writes to; it cannot go back, so the zip is one that can be read as a stream."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, part: bytes) -> int:
        self._parts.append(bytes(part))
        return len(part)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


async def zipped(files: Iterable[tuple[str, Path]], texts: dict[str, bytes]) -> AsyncIterator[bytes]:
    """Make a zip of files, as they are, and of texts.

    Args:
        files: Names in the zip, and where the files lie; they are compressed already and not packed anew.
        texts: Further content by name.

    Yields:
        The zip in parts, each about as large as what is read of a file at once.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:  # type: ignore[call-overload]  # needs no more of a file
        for name, content in texts.items():
            archive.writestr(name, content)
        for name, path in files:
            with path.open("rb") as source, archive.open(name, "w") as target:
                while chunk := await asyncio.to_thread(source.read, _CHUNK_BYTES):
                    target.write(chunk)
                    yield sink.take()
    yield sink.take()
