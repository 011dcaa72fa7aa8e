"""Resumable uploads from the command line: a tus client that goes on where it was cut, or stopped."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from aiohttp import ClientConnectionError, ClientPayloadError, ClientResponse, ClientSession

from corestream.errors import RefusedError, document, unreachable

_TUS = {"Tus-Resumable": "1.0.0"}
_CHUNK = _TUS | {"Content-Type": "application/offset+octet-stream"}
_GONE = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.LOCKED}
"""Of a piece: ask where the upload stands, and go on."""
_PATIENCE_S = 60.0
"""How long an upload may make no progress: its server may be starting again."""
_AGAIN_AFTER_S = 1.0


class CountedFile(io.BufferedReader):
    """A file from some offset on that tells how much of it has been read."""

    def __init__(self, path: Path, offset: int, on_read: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path))
        self.seek(offset)
        self._on_read = on_read

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes."""
        chunk = super().read(size)
        self._on_read(len(chunk))
        return chunk


@dataclass(frozen=True)
class Memory:
    """Where uploads stand that were begun, so that another run of the command can go on with them.

    Attributes:
        folder: One small file for each: its name is made of server, path, size and time of change of the
            file, its content is the upload's id. Ids are as good as keys: it is for this user alone.
    """

    folder: Path

    def recall(self, server: str, file: Path) -> str | None:
        """Return the id of the upload of a file, if one was begun."""
        try:
            return self._place(server, file).read_text(encoding="ascii")
        except FileNotFoundError:
            return None

    def keep(self, server: str, file: Path, upload_id: str) -> None:
        """Remember an upload."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._place(server, file).write_text(upload_id, encoding="ascii")

    def forget(self, server: str, file: Path) -> None:
        """Forget an upload."""
        self._place(server, file).unlink(missing_ok=True)

    def _place(self, server: str, file: Path) -> Path:
        status = file.stat()
        named = f"{server}\0{file.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
        return self.folder / hashlib.sha256(named.encode()).hexdigest()


@dataclass
class Sender:
    """Uploads files to one server.

    Attributes:
        http: Session.
        server: Address of ingest.
        memory: Of uploads that were begun.
        on_sent: Is told of every piece that leaves, in bytes; of a negative number when it is sent again.
    """

    http: ClientSession
    server: str
    memory: Memory
    on_sent: Callable[[int], None]

    async def upload(self, file: Path) -> str:
        """Upload a file, or what is missing of it, and return the id of its upload.

        Raises:
            RefusedError: The server says why not.
            UnreachableError: No server for a minute.
            OSError: The file cannot be read.
        """
        loop = asyncio.get_running_loop()
        size_bytes = _size(file)
        told, furthest, give_up_at = 0, -1, loop.time() + _PATIENCE_S
        while True:
            try:
                upload_id, offset = await self._stand(file)
                self.on_sent(offset - told)
                told = offset
                if offset > furthest:
                    furthest, give_up_at = offset, loop.time() + _PATIENCE_S
                if offset == size_bytes:
                    return upload_id

                def count(size: int) -> None:
                    nonlocal told
                    told += size
                    self.on_sent(size)

                await self._send(upload_id, file, offset, count)
                continue
            except (ClientConnectionError, ClientPayloadError, TimeoutError) as error:
                if loop.time() > give_up_at:
                    raise unreachable(self.server, error) from error
            except RefusedError as error:
                if not (error.is_server_fault or error.status in _PASSING) or loop.time() > give_up_at:
                    raise
            await asyncio.sleep(_AGAIN_AFTER_S)

    async def _stand(self, file: Path) -> tuple[str, int]:
        """Return the upload of a file and how far it is; begin one where there is none."""
        if upload_id := self.memory.recall(self.server, file):
            async with self.http.head(self._address(upload_id), headers=_TUS) as answer:
                if answer.ok:
                    return upload_id, int(answer.headers["Upload-Offset"])
                if answer.status not in _GONE:
                    raise RefusedError({"status": answer.status, "title": answer.reason})
            self.memory.forget(self.server, file)
        headers = _TUS | {"Upload-Length": str(_size(file))}
        async with self.http.post(self._address(), headers=headers) as answer:
            await _require_ok(answer)
            # Not the whole Location: it says how browsers get there, which need not be how we did.
            upload_id = answer.headers["Location"].rpartition("/")[2]
        self.memory.keep(self.server, file, upload_id)
        return upload_id, 0

    async def _send(self, upload_id: str, file: Path, offset: int, count: Callable[[int], None]) -> None:
        headers = _CHUNK | {"Upload-Offset": str(offset)}
        with CountedFile(file, offset, count) as rest:
            async with self.http.patch(self._address(upload_id), data=rest, headers=headers) as answer:
                await _require_ok(answer)

    def _address(self, upload_id: str = "") -> str:
        return f"{self.server}/api/uploads/{upload_id}".rstrip("/")


def _size(file: Path) -> int:
    return file.stat().st_size


async def _require_ok(answer: ClientResponse) -> None:
    if not answer.ok:
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            await asyncio.sleep(float(answer.headers.get("Retry-After", _AGAIN_AFTER_S)))
        await document(answer)
