"""A submission as a multipart form: its parts, streamed to disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from aiohttp import BodyPartReader, MultipartReader, web

from ingest.addresses import MAX_EMAIL_BYTES, email_invalid, read_address
from ingest.door import read_head
from ingest.fields import malformed_is_a_problem
from ingest.received import (
    Digest,
    Limits,
    Received,
    Tally,
    Upload,
    join_slices,
    pour,
    promptly,
    too_large,
)
from ingest.sniff import is_dicom
from pipeline.clock import now
from pipeline.storage import Storage
from pipeline.web.problems import ProblemError

MAX_FORM_OVERHEAD_BYTES = 64 * 1024
"""Of boundaries, part headers and the e-mail address; generous."""

_PIECE_BYTES = 256 * 1024


async def read_form(
    request: web.Request, storage: Storage, limits: Limits, new_part: Callable[[], Path]
) -> Received:
    """Stream a form's files to disk.

    Args:
        request: Whose body has not been read.
        storage: Asked for the room left.
        limits: Of the submission.
        new_part: Gives the path for the next file.

    Raises:
        ProblemError: The form is malformed, lacks a file, or goes beyond a limit.
        OSError: The disk refuses.
    """
    uploads: list[Upload] = []
    tally = Tally(limits)
    email: str | None = None
    with malformed_is_a_problem():
        reader = await request.multipart()
        while (part := await promptly(reader.next())) is not None:
            match part:
                case BodyPartReader(name="file"):
                    upload = await _receive(part, new_part(), storage, limits)
                    tally.add(upload)
                    if upload.size_bytes or part.filename:  # a form sent without a file has an empty part
                        uploads.append(upload)
                case BodyPartReader(name="email"):
                    email = await _read_email(part)
                case _:
                    raise _unknown_part(part)
    if not uploads:
        raise ProblemError(
            status=422,
            code="no-file",
            title="No file chosen",
            detail="Expected at least one scan in a part named `file`, received none. Choose a NIfTI file "
            "(.nii or .nii.gz) or a DICOM series and submit again.",
        )
    return Received(tuple(join_slices(uploads)), email)


async def _receive(part: BodyPartReader, path: Path, storage: Storage, limits: Limits) -> Upload:
    first_byte_at = now()
    digest = Digest()

    def check(size_bytes: int) -> None:
        if size_bytes > limits.max_upload_bytes:
            raise too_large(limits.max_upload_bytes)
        limits.require_room(storage, _PIECE_BYTES)

    size = await pour(_pieces(part), path, check, digest=digest)
    is_slice = is_dicom(await asyncio.to_thread(read_head, path))
    return Upload((path,), digest.digest().hex(), size, first_byte_at, is_slice)


async def _pieces(part: BodyPartReader) -> AsyncIterator[bytes]:
    while piece := await part.read_chunk(_PIECE_BYTES):
        yield piece


async def _read_email(part: BodyPartReader) -> str | None:
    text = bytearray()
    while piece := await promptly(part.read_chunk()):
        text += piece
        if len(text) > MAX_EMAIL_BYTES:
            raise email_invalid(f"more than {MAX_EMAIL_BYTES} bytes")
    try:
        return read_address(text.decode())
    except UnicodeDecodeError as error:
        raise email_invalid("bytes that are not UTF-8 text") from error


def _unknown_part(part: BodyPartReader | MultipartReader) -> ProblemError:
    received = repr((part.name or "")[:40]) if isinstance(part, BodyPartReader) else "a form within the form"
    return ProblemError(
        status=422,
        code="part-unknown",
        title="Unknown part of the form",
        detail=f"Expected parts named `file` and `email`, received {received}. "
        "With curl: -F file=@scan.nii.gz -F email=name@example.org",
    )
