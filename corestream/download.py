"""Download one file and keep it only if it is exactly the one that was meant."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import aiohttp

from pipeline.errors import CorestreamError
from pipeline.files import fsync_directory
from pipeline.ids import new_id

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 60


class DownloadError(CorestreamError):
    """Raised when a file could not be had, or is not the one that was meant; says what to do."""


async def download(url: str, target: Path, sha256: str, *, max_bytes: int) -> None:
    """Download a file; it appears under its name only after its hash was found right.

    Args:
        url: Where it is.
        target: Where it goes; the folder is made if need be.
        sha256: Of its content, hexadecimal.
        max_bytes: Never take more than this.

    Raises:
        DownloadError: It could not be had, or is another.
        OSError: It could not be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{new_id()}")
    try:
        found = await _fetch(url, part, max_bytes)
        if found != sha256:
            raise DownloadError(
                f"Expected a file with SHA-256 {sha256} at {url}, received one with {found}. It was thrown "
                "away: the file there has changed, or something on the way changed it. Nothing else is safe "
                "to use."
            )
        part.replace(target)
        fsync_directory(target.parent)
    finally:
        part.unlink(missing_ok=True)


async def _fetch(url: str, part: Path, max_bytes: int) -> str:
    """Write what is at an address to a file, durably, and return its hash."""
    digest = hashlib.sha256()
    size_bytes = 0
    timeout = aiohttp.ClientTimeout(total=None, connect=_TIMEOUT_S, sock_read=_TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as http, http.get(url) as answer:
            if not answer.ok:
                raise DownloadError(
                    f"Expected a file at {url}, received status {answer.status} {answer.reason}. "
                    f"Download it in another way and give its path as the model."
                )
            with part.open("xb") as file:  # small files, one at a time: the loop has nothing else to do
                async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
                    size_bytes += len(chunk)
                    if size_bytes > max_bytes:
                        raise DownloadError(f"Expected at most {max_bytes} bytes at {url}, received more.")
                    file.write(chunk)
                    digest.update(chunk)
                file.flush()
                os.fsync(file.fileno())
    except (aiohttp.ClientError, TimeoutError) as error:
        raise DownloadError(
            f"Expected to download {url}, but: {str(error) or type(error).__name__}. Check the network and "
            "the proxy (HTTPS_PROXY), or download it in another way and give its path as the model."
        ) from error
    return digest.hexdigest()
