"""The HTTP interface as its clients see it: submit volumes, follow a job."""

from __future__ import annotations

import asyncio
import io
import os
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import (
    ClientConnectionError,
    ClientConnectorError,
    ClientPayloadError,
    ClientResponse,
    ClientSession,
    FormData,
)
from yarl import URL

from pipeline.errors import CorestreamError

Document = dict[str, Any]
"""A JSON document of the API, DESIGN §4."""

_CONNECT_TIMEOUT_S = 10
_STALL_TIMEOUT_S = 300
"""Longest silence of the server; it may be checking a large volume."""
_POLL_S = 1.0
_PATIENCE_S = 60
"""How long a job is followed while its server does not answer: it may be starting again."""
_SENDINGS = 4
"""Of one submission, where the connection breaks."""
_RESEND_AFTER_S = 2.0
_UNDER_WAY = "submission-under-way"


class RefusedError(CorestreamError):
    """Raised when the server answers with a problem; carries its document."""

    def __init__(self, problem: Document) -> None:
        super().__init__(f"{problem.get('title', 'Refused')}. {problem.get('detail', '')}".strip())
        self.problem = problem

    @property
    def is_server_fault(self) -> bool:
        """Whether the same request may be answered another time."""
        return int(self.problem.get("status", 0)) >= 500  # noqa: PLR2004 - HTTP's class of server errors


class UnreachableError(CorestreamError):
    """Raised when there is no server to talk to, or it is none of ours."""


class _CountedFile(io.BufferedReader):
    """A file that tells how much of it has been read."""

    def __init__(self, path: Path, on_read: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path))
        self._on_read = on_read

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(size)
        self._on_read(len(chunk))
        return chunk


def session() -> ClientSession:
    """Return an HTTP session that sends the environment's API key, if any; use it as a context."""
    timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_TIMEOUT_S, sock_read=_STALL_TIMEOUT_S)
    key = os.environ.get("CORESTREAM_API_KEY")
    return ClientSession(timeout=timeout, trust_env=True, headers={"X-API-Key": key} if key else None)


async def submit(
    http: ClientSession,
    server: str,
    files: Sequence[Path],
    email: str | None,
    on_read: Callable[[int], None] = lambda _bytes: None,
) -> Document:
    """Upload volumes as one job, streamed from disk.

    When the connection breaks it is sent again with the same Idempotency-Key: that is the same job, whether
    or not the first sending arrived.

    Args:
        http: Session.
        server: Address of ingest, as `http://127.0.0.1:7605`.
        files: Volumes.
        email: Where the result is announced, if anywhere.
        on_read: Is told of every piece that leaves, in bytes; of a negative number when it starts again.

    Returns:
        The reply: `job_id`, `scans`, `status_url`, `page_url`.

    Raises:
        RefusedError: The server says why not.
        UnreachableError: No server, or none of ours.
        OSError: A file cannot be read.
    """
    key = str(uuid.uuid4())
    sent = 0

    def count(read_bytes: int) -> None:
        nonlocal sent
        sent += read_bytes
        on_read(read_bytes)

    for sending in range(1, _SENDINGS + 1):
        try:
            return await _post(http, server, _form(files, email, count), key)
        except ClientConnectorError as error:  # nothing was sent
            if sending in {1, _SENDINGS}:
                raise _unreachable(server, error) from error
        except (ClientConnectionError, ClientPayloadError, TimeoutError) as error:
            if sending == _SENDINGS:
                raise _unreachable(server, error) from error
        except RefusedError as error:  # the server has not noticed yet that the first connection is gone
            if sending in {1, _SENDINGS} or error.problem.get("code") != _UNDER_WAY:
                raise
        await asyncio.sleep(_RESEND_AFTER_S * sending)
        count(-sent)
    raise AssertionError("unreachable: the last sending returns or raises")


async def _post(http: ClientSession, server: str, form: FormData, key: str) -> Document:
    headers = {"Idempotency-Key": f'"{key}"'}
    async with http.post(f"{server.rstrip('/')}/api/jobs", data=form, headers=headers) as answer:
        return await _document(answer)


def _form(files: Sequence[Path], email: str | None, on_read: Callable[[int], None]) -> FormData:
    form = FormData()
    if email:
        form.add_field("email", email)
    for path in files:
        form.add_field(
            "file",
            _CountedFile(path, on_read),
            filename=path.name,
            content_type="application/octet-stream",
        )
    return form


async def read_job(http: ClientSession, status_url: str) -> Document:
    """Return a job's state.

    Args:
        http: Session.
        status_url: With its token, as the reply to the submission has it.

    Raises:
        RefusedError: The server says why not.
        UnreachableError: No server, or none of ours.
    """
    try:
        async with http.get(status_url) as answer:
            return await _document(answer)
    except (ClientConnectionError, ClientPayloadError, TimeoutError) as error:
        raise _unreachable(status_url, error) from error
    except aiohttp.InvalidURL as error:
        raise UnreachableError(
            f"Expected the status URL of a job, as `corestream submit` prints it, received {status_url!r}."
        ) from error


async def follow_job(http: ClientSession, status_url: str) -> AsyncIterator[Document]:
    """Give a job's state again and again until it is finished; a server that is away is waited for.

    Raises:
        RefusedError: The server says why not.
        UnreachableError: No answer for a minute.
    """
    loop = asyncio.get_running_loop()
    answered_s = loop.time()
    while True:
        try:
            job = await read_job(http, status_url)
        except (UnreachableError, RefusedError) as error:
            passing = isinstance(error, UnreachableError) or error.is_server_fault
            if not passing or loop.time() - answered_s > _PATIENCE_S:
                raise
        else:
            answered_s = loop.time()
            yield job
            if job["state"] == "finished":
                return
        await asyncio.sleep(_POLL_S)


async def _document(answer: ClientResponse) -> Document:
    if answer.content_type not in {"application/json", "application/problem+json"}:
        raise UnreachableError(
            f"Expected corestream at {answer.url.origin()}, received status {answer.status} and "
            f"{answer.content_type}. Check the address."
        )
    document: Document = await answer.json(content_type=None)
    if not answer.ok:
        raise RefusedError(document)
    return document


def _unreachable(address: str, error: Exception) -> UnreachableError:
    origin = URL(address).origin() if "://" in address else address  # without the token
    reason = str(error) or type(error).__name__
    return UnreachableError(
        f"Expected corestream at {origin}, but it does not answer ({reason}). "
        "Start it with `corestream up`, or name its address with --server."
    )
