"""One writer an upload: a newcomer evicts the one before.

A connection that is dead may not have been noticed yet: without eviction its client, who is here again, would
wait for the end of a TCP time-out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

from aiohttp import StreamReader

from ingest.locks import HeldError, held
from pipeline.storage import Storage
from pipeline.web.problems import ProblemError

_PATIENCE_S = 10.0
"""For the former writer to end; it may be waiting for the disk, or be a job that takes the upload."""
_ASK_EVERY_S = 0.02


class EvictedError(TimeoutError):
    """Raised into a request whose client has come again by another connection.

    A TimeoutError, because that is what aiohttp expects of a body of which it drains the rest.
    """


class Writers:
    """Who writes which upload; across processes by the upload's lock, so that several may share a folder."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._bodies: dict[str, StreamReader] = {}

    @asynccontextmanager
    async def alone(self, upload_id: str, body: StreamReader | None = None) -> AsyncIterator[None]:
        """Be the only one at an upload until the block ends, or a newcomer breaks the body off.

        Args:
            upload_id: Which.
            body: What is being received; None where the work is short and not to be broken off.

        Raises:
            ProblemError: The former writer does not end.
        """
        with ExitStack() as stack:
            loop = asyncio.get_running_loop()
            give_up_at = loop.time() + _PATIENCE_S
            while True:
                try:
                    stack.enter_context(held(self._storage.lock_path(upload_id)))
                    break
                except HeldError as error:
                    if (former := self._bodies.pop(upload_id, None)) is not None:
                        former.set_exception(EvictedError("its client has come again"))
                    if loop.time() > give_up_at:
                        raise _busy() from error
                    await asyncio.sleep(_ASK_EVERY_S)
            if body is not None:
                self._bodies[upload_id] = body
            try:
                yield
            finally:
                if body is not None and self._bodies.get(upload_id) is body:
                    del self._bodies[upload_id]


def _busy() -> ProblemError:
    return ProblemError(
        status=423,
        code="upload-busy",
        title="Upload in use",
        detail="Expected an upload that nobody is at work on, but an earlier request or a job has not let go "
        "of it. Try again in a moment.",
        headers={"Retry-After": "5"},
    )
