"""The headers of tus: read, checked, and answered where they do not fit what came."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from aiohttp import web

from pipeline.web.openapi import Header
from pipeline.web.problems import ProblemError

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,expiration,checksum,termination"
CHECKSUM_ALGORITHMS = ("sha1", "sha256")
CONTENT_TYPE = "application/offset+octet-stream"

_BYTES = "[0-9]{1,15}"
TUS = {"Tus-Resumable": Header("The version of tus.", required=True, pattern="^1\\.0\\.0$")}
CREATE = {
    "Upload-Length": Header("Bytes of the whole file.", pattern=f"^{_BYTES}$"),
    "Upload-Defer-Length": Header("`1` where the length is told later.", pattern="^1$"),
    "Upload-Metadata": Header("Pairs of a key and a base64 value; nothing here reads them."),
}
PATCH = {
    "Upload-Offset": Header("Where these bytes begin.", required=True, pattern=f"^{_BYTES}$"),
    "Upload-Length": Header("The length, where it was not told before.", pattern=f"^{_BYTES}$"),
    "Upload-Checksum": Header("`sha1` or `sha256`, a space, and the base64 digest of these bytes."),
}
"""What a request of each kind brings, for the description of the interface."""

_INTEGER = re.compile(r"0|[1-9][0-9]{0,15}")
_METADATA_KEY = re.compile(r"[!-+\--~]+")
"""Printable ASCII without space and comma."""


@dataclass(frozen=True)
class Checksum:
    """What the bytes of a request must hash to.

    Attributes:
        algorithm: One of CHECKSUM_ALGORITHMS.
        digest: The hash, as bytes.
    """

    algorithm: str
    digest: bytes


def method(request: web.Request) -> str:
    """Return the method that a request stands for: some proxies let neither PATCH nor DELETE through."""
    return request.headers.get("X-HTTP-Method-Override", request.method).upper()


def require_version(request: web.Request) -> None:
    """Check that the client speaks this version of tus.

    Raises:
        ProblemError: It does not say so.
    """
    if request.headers.get("Tus-Resumable") != VERSION:
        raise ProblemError(
            status=412,
            code="tus-version",
            title="Unknown version of tus",
            detail=f"Expected `Tus-Resumable: {VERSION}`, received another version or none. "
            "Resumable uploads need a client of tus 1.0; a plain form goes to /api/jobs.",
            headers={"Tus-Version": VERSION},
        )


def require_content_type(request: web.Request) -> None:
    """Check that the body is declared as a part of a file.

    Raises:
        ProblemError: It is something else.
    """
    if request.content_type != CONTENT_TYPE:
        raise ProblemError(
            status=415,
            code="not-a-chunk",
            title="Not a part of an upload",
            detail=f"Expected `Content-Type: {CONTENT_TYPE}`, received {request.content_type}. "
            "A plain form goes to /api/jobs.",
        )


def read_integer(request: web.Request, name: str) -> int | None:
    """Return a header that counts bytes, None where it is absent.

    Raises:
        ProblemError: It is no number.
    """
    text = request.headers.get(name)
    if text is not None and not _INTEGER.fullmatch(text):
        raise header_invalid(f"{name} to be a number of bytes", repr(text[:40]))
    return None if text is None else int(text)


def read_offset(request: web.Request) -> int:
    """Return where the bytes of a request begin in the file.

    Raises:
        ProblemError: It does not say.
    """
    offset = read_integer(request, "Upload-Offset")
    if offset is None:
        raise header_invalid("Upload-Offset", "none")
    return offset


def read_length(request: web.Request) -> int | None:
    """Return the length of an upload that is announced, None where it is to be told later.

    Raises:
        ProblemError: Neither is said, or both.
    """
    length = read_integer(request, "Upload-Length")
    deferred = request.headers.get("Upload-Defer-Length")
    if deferred not in {None, "1"} or (length is None) == (deferred is None):
        raise header_invalid("either Upload-Length or `Upload-Defer-Length: 1`", "neither, both or another")
    return length


def read_metadata(request: web.Request) -> str:
    """Return `Upload-Metadata` as it was sent; nothing here reads its values.

    Raises:
        ProblemError: It is not a list of unique keys with base64 values.
    """
    text = request.headers.get("Upload-Metadata", "")
    keys = set()
    for pair in text.split(",") if text.strip() else ():
        key, _, value = pair.strip(" ").partition(" ")
        if not _METADATA_KEY.fullmatch(key) or key in keys or _from_base64(value) is None:
            raise header_invalid("Upload-Metadata as pairs of a unique key and a base64 value", "another")
        keys.add(key)
    return text


def read_checksum(request: web.Request) -> Checksum | None:
    """Return what the body must hash to, None where its sender does not say.

    Raises:
        ProblemError: It is of an unknown algorithm, or not base64.
    """
    text = request.headers.get("Upload-Checksum")
    if text is None:
        return None
    algorithm, _, value = text.partition(" ")
    digest = _from_base64(value)
    if algorithm not in CHECKSUM_ALGORITHMS or not digest:
        expected = f"Upload-Checksum as one of {', '.join(CHECKSUM_ALGORITHMS)} and a base64 digest"
        raise header_invalid(expected, repr(text[:40]))
    return Checksum(algorithm, digest)


def header_invalid(expected: str, received: str) -> ProblemError:
    """Return the answer to a header that is missing or wrong."""
    return ProblemError(
        status=400,
        code="upload-header-invalid",
        title="Header of the upload not valid",
        detail=f"Expected {expected}, received {received}. See https://tus.io/protocols/resumable-upload.",
    )


def wrong_offset(expected: int, received: int) -> ProblemError:
    """Return the answer to bytes that do not begin where the upload ends."""
    return ProblemError(
        status=409,
        code="upload-offset",
        title="Wrong offset",
        detail=f"Expected Upload-Offset {expected}, where the upload stands, received {received}. "
        "Ask for the offset by HEAD, and go on from there.",
        headers={"Upload-Offset": str(expected)},
    )


def beyond_length(length: int) -> ProblemError:
    """Return the answer to more bytes than were announced."""
    return ProblemError(
        status=413,
        code="upload-beyond-length",
        title="More than announced",
        detail=f"Expected an upload of {length:,} bytes, as its Upload-Length says, received more. "
        "Nothing of this request was kept.",
    )


def wrong_checksum() -> ProblemError:
    """Return the answer to bytes that were damaged on their way."""
    return ProblemError(
        status=460,  # of tus's own
        code="upload-checksum",
        title="Checksum mismatch",
        detail="Expected bytes of the checksum that was sent with them, received others: they were damaged "
        "on their way. Nothing of this request was kept; send it again.",
    )


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
