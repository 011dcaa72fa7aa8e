"""The HTTP interface as its clients see it: submit volumes, follow a job."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import aiohttp
import typer
from aiohttp import ClientConnectionError, ClientPayloadError, ClientSession

from corestream.errors import Document, RefusedError, UnreachableError, document, unreachable
from corestream.uploads import Memory, Sender

_CONNECT_TIMEOUT_S = 10
_STALL_TIMEOUT_S = 300
"""Longest silence of the server; it may be checking a large volume."""
_POLL_S = 1.0
_PATIENCE_S = 60
"""How long a job is followed while its server does not answer: it may be starting again."""
_SENDINGS = 4
"""Of one submission, where the connection breaks."""
_RESEND_AFTER_S = 2.0
_PASSING = {"submission-under-way", "upload-busy"}


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
    on_sent: Callable[[int], None] = lambda _bytes: None,
) -> Document:
    """Upload volumes as one job; goes on where an earlier try, of this run or of another, was cut.

    Args:
        http: Session.
        server: Address of ingest, as `http://127.0.0.1:7605`.
        files: Volumes, or the files of a DICOM series.
        email: Where the result is announced, if anywhere.
        on_sent: Is told of every piece that leaves, in bytes; of a negative number when it is sent again.

    Returns:
        The reply: `job_id`, `scans`, `status_url`, `page_url`.

    Raises:
        RefusedError: The server says why not.
        UnreachableError: No server, or none of ours.
        OSError: A file cannot be read.
    """
    server = server.rstrip("/")
    memory = Memory(Path(typer.get_app_dir("corestream")) / "uploads")
    sender = Sender(http, server, memory, on_sent)
    await _greet(http, server)
    uploads = [await sender.upload(file) for file in files]
    reply = await _make_job(http, server, {"uploads": uploads, "email": email or ""})
    for file in files:
        memory.forget(server, file)
    return reply


async def _greet(http: ClientSession, server: str) -> None:
    """Find out at once whether there is a server: one that was there and is away is waited for later."""
    try:
        async with http.get(f"{server}/healthz") as answer:
            await document(answer)
    except (ClientConnectionError, TimeoutError) as error:
        raise unreachable(server, error) from error
    except aiohttp.InvalidURL as error:
        raise UnreachableError(f"Expected an address like http://host:7605, received {server!r}.") from error


async def _make_job(http: ClientSession, server: str, submission: Document) -> Document:
    """Submit uploads; the same ones again are the same job, so that a lost reply is asked for again."""
    for sending in range(1, _SENDINGS + 1):
        try:
            async with http.post(f"{server}/api/jobs", json=submission) as answer:
                return await document(answer)
        except (ClientConnectionError, ClientPayloadError, TimeoutError) as error:
            if sending == _SENDINGS:
                raise unreachable(server, error) from error
        except RefusedError as error:  # the server has not noticed yet that the first connection is gone
            if sending == _SENDINGS or error.problem.get("code") not in _PASSING:
                raise
        await asyncio.sleep(_RESEND_AFTER_S * sending)
    raise AssertionError("unreachable: the last sending returns or raises")


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
            return await document(answer)
    except (ClientConnectionError, ClientPayloadError, TimeoutError) as error:
        raise unreachable(status_url, error) from error
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
