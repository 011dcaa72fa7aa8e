"""A way to a server that can break at the worst moment."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class TcpProxy:
    """Passes bytes through until a reply contains `break_at`: then it closes instead, once.

    Args:
        target_port: Of 127.0.0.1.
        lose_after_bytes: The connection that takes what was sent beyond so many loses all that follows, as a
            line does that has died; those made later are whole. None for no such connection.

    Attributes:
        lost: Whether it does by now.
    """

    def __init__(self, target_port: int, *, lose_after_bytes: int | None = None) -> None:
        self._target_port = target_port
        self._left_bytes = lose_after_bytes
        self.lost = False
        self._writers: set[asyncio.StreamWriter] = set()
        self.break_at: bytes | None = None
        self.breaks = 0
        self.port = 0

    @property
    def url(self) -> str:
        """Address for redis-py."""
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self) -> None:
        """Break every connection off, as a router does that is switched off and on."""
        for writer in self._writers:
            writer.transport.abort()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen on a free port of 127.0.0.1."""
        server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield
            self.cut()
            server.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            self._writers |= {writer, server_writer}
            ways = [
                asyncio.ensure_future(self._pump(reader, server_writer)),
                asyncio.ensure_future(self._pump(server_reader, writer, breakable=True)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            writer.close()
            server_writer.close()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, breakable: bool = False
    ) -> None:
        loses = False
        while data := await source.read(65536):
            loses = loses or (not breakable and self._is_beyond(len(data)))
            if loses:
                continue
            if breakable and self.break_at is not None and self.break_at in data:
                self.break_at = None
                self.breaks += 1
                return
            sink.write(data)
            await sink.drain()

    def _is_beyond(self, sent_bytes: int) -> bool:
        """Count what was sent; tell once that it was more than is to arrive."""
        if self._left_bytes is None or self.lost:
            return False
        self._left_bytes -= sent_bytes
        self.lost = self._left_bytes < 0
        return self.lost
