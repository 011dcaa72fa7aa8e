"""A submission on its way in: the parts of a multipart form, streamed to disk."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import email_validator
from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.client_exceptions import ClientError
from aiohttp.http_exceptions import HttpProcessingError
from email_validator import EmailNotValidError, validate_email

from ingest.dicom.archive import MAX_ENTRIES
from ingest.door import read_head
from ingest.sniff import is_dicom
from pipeline.clock import now
from pipeline.ids import new_id
from pipeline.storage import Storage
from pipeline.web.problems import ProblemError

MAX_FORM_OVERHEAD_BYTES = 64 * 1024
"""Of boundaries, part headers and the e-mail address; generous."""

_CHUNK_BYTES = 256 * 1024
"""What one upload holds in memory; hundreds of slow clients are held at once."""
# A hospital's own mail server may well answer to jane@mail.hospital.local.
for _name in ("local", "localhost"):
    email_validator.SPECIAL_USE_DOMAIN_NAMES.remove(_name)
_MAX_EMAIL_BYTES = 320
"""64 of the mailbox, the @ and 255 of the domain (RFC 5321, 4.5.3.1)."""


@dataclass(frozen=True)
class Limits:
    """What a submission may take.

    Attributes:
        max_upload_bytes: Of one scan.
        max_files: Scans in one job.
        min_free_bytes: The disk is never filled beyond this.
    """

    max_upload_bytes: int
    max_files: int
    min_free_bytes: int


@dataclass(frozen=True)
class Upload:
    """One scan as received: a file, or the files of a DICOM series.

    Attributes:
        paths: Where they lie.
        sha256: Of its bytes, hexadecimal; of a series, of its files' sorted digests.
        size_bytes: Of all its files.
        first_byte_at: When the first byte of the first came in.
        is_slice: Whether it is one loose DICOM file, a part of a scan rather than a scan.
    """

    paths: tuple[Path, ...]
    sha256: str
    size_bytes: int
    first_byte_at: datetime
    is_slice: bool = False


def join_slices(uploads: Sequence[Upload]) -> list[Upload]:
    """Return one upload for each scan: loose DICOM files are one series, which comes last."""
    slices = [upload for upload in uploads if upload.is_slice]
    if not slices:
        return list(uploads)
    digests = sorted(bytes.fromhex(upload.sha256) for upload in slices)
    series = Upload(
        paths=tuple(path for upload in slices for path in upload.paths),
        sha256=hashlib.sha256(b"".join(digests)).hexdigest(),
        size_bytes=sum(upload.size_bytes for upload in slices),
        first_byte_at=min(upload.first_byte_at for upload in slices),
    )
    return [upload for upload in uploads if upload not in slices] + [series]


@dataclass(frozen=True)
class Form:
    """A submission as received, one upload a scan; only the first bytes of each have been looked at yet."""

    uploads: tuple[Upload, ...]
    email: str | None


@contextmanager
def temporary_parts(storage: Storage) -> Iterator[Callable[[], Path]]:
    """Give names for files in `incoming/`, and remove all that is left of them at the end."""
    given: list[Path] = []

    def new_part() -> Path:
        given.append(storage.part_path(new_id()))
        return given[-1]

    try:
        yield new_part
    finally:
        for part in given:
            part.unlink(missing_ok=True)


def disk_full() -> ProblemError:
    """Return the answer for a disk that has no room left."""
    return ProblemError(
        status=507,
        code="disk-full",
        title="No room left",
        detail="Expected room on this service's disk, found too little. Nothing was kept. Try again later: "
        "room is made as older jobs are deleted; or tell whoever runs this service.",
        headers={"Retry-After": "600"},
    )


def too_large(limit_bytes: int) -> ProblemError:
    """Return the answer for a scan beyond the limit."""
    return ProblemError(
        status=413,
        code="upload-too-large",
        title="Upload too large",
        detail=f"Expected at most {limit_bytes:,} bytes a scan, received more. Compress it with gzip, "
        "crop or resample it, or ask whoever runs this service to raise its limit.",
    )


async def read_form(
    request: web.Request, storage: Storage, limits: Limits, new_part: Callable[[], Path]
) -> Form:
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
    tally = _Tally(limits)
    email: str | None = None
    with _malformed_is_a_problem():
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            match part:
                case BodyPartReader(name="file"):
                    upload = await _receive(part, new_part(), storage, limits)
                    if upload.size_bytes or part.filename:  # a form sent without a file has an empty part
                        uploads.append(upload)
                        tally.add(upload)
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
    return Form(tuple(join_slices(uploads)), email)


@dataclass
class _Tally:
    """Counts scans as their files arrive: a thousand loose slices are one.

    Attributes:
        limits: Of the submission.
    """

    limits: Limits
    volumes: int = 0
    slices: int = 0
    slices_bytes: int = 0

    def add(self, upload: Upload) -> None:
        """Count one more file.

        Raises:
            ProblemError: It is one too many.
        """
        if upload.is_slice:
            self.slices += 1
            self.slices_bytes += upload.size_bytes
        else:
            self.volumes += 1
        if self.volumes + min(1, self.slices) > self.limits.max_files or self.slices > MAX_ENTRIES:
            raise _too_many(self.limits.max_files)
        if self.slices_bytes > self.limits.max_upload_bytes:
            raise too_large(self.limits.max_upload_bytes)


async def _receive(part: BodyPartReader, path: Path, storage: Storage, limits: Limits) -> Upload:
    digest = hashlib.sha256()
    size = 0
    first_byte_at = now()
    with path.open("xb", buffering=0) as file:

        def write(chunk: bytes) -> None:
            if storage.free_bytes() - len(chunk) < limits.min_free_bytes:
                raise disk_full()
            digest.update(chunk)
            file.write(chunk)

        held = bytearray()
        while piece := await part.read_chunk(_CHUNK_BYTES):
            size += len(piece)
            if size > limits.max_upload_bytes:
                raise too_large(limits.max_upload_bytes)
            held += piece
            if len(held) >= _CHUNK_BYTES:
                await asyncio.to_thread(write, bytes(held))
                held.clear()
        await asyncio.to_thread(write, bytes(held))
        is_slice = is_dicom(await asyncio.to_thread(read_head, path))
    return Upload((path,), digest.hexdigest(), size, first_byte_at, is_slice)


async def _read_email(part: BodyPartReader) -> str | None:
    """Return a form's e-mail address, or None where the field was left empty.

    Whether its domain takes mail is not asked for: that needs a name server, and hospitals are offline.
    """
    text = bytearray()
    while piece := await part.read_chunk():
        text += piece
        if len(text) > _MAX_EMAIL_BYTES:
            raise _email_invalid(f"more than {_MAX_EMAIL_BYTES} bytes")
    try:
        address = text.decode().strip()
        if not address:
            return None
        return validate_email(
            address, check_deliverability=False, globally_deliverable=False, allow_smtputf8=False
        ).normalized
    except UnicodeDecodeError as error:
        raise _email_invalid("bytes that are not UTF-8 text") from error
    except EmailNotValidError as error:
        raise _email_invalid(f"one that is not: {error}") from error


@contextmanager
def _malformed_is_a_problem() -> Iterator[None]:
    """Turn what aiohttp raises over a body that is cut off or no form into words."""
    try:
        yield
    except (ValueError, AssertionError, RuntimeError, ClientError, HttpProcessingError) as error:
        raise ProblemError(
            status=400,
            code="form-malformed",
            title="Form malformed or cut off",
            detail=f"Expected a whole multipart/form-data body, received another ({type(error).__name__}). "
            "Nothing was kept: submit again.",
        ) from error


def _email_invalid(received: str) -> ProblemError:
    return ProblemError(
        status=422,
        code="email-invalid",
        title="E-mail address not valid",
        detail=f"Expected an e-mail address such as name@example.org, received {received.rstrip('.')}. "
        "Correct it, or leave it out and keep the link.",
    )


def _too_many(limit: int) -> ProblemError:
    return ProblemError(
        status=422,
        code="too-many-files",
        title="Too many files",
        detail=f"Expected at most {limit} scans in one submission, received more. Submit them in several.",
    )


def _unknown_part(part: BodyPartReader | MultipartReader) -> ProblemError:
    received = repr((part.name or "")[:40]) if isinstance(part, BodyPartReader) else "a form within the form"
    return ProblemError(
        status=422,
        code="part-unknown",
        title="Unknown part of the form",
        detail=f"Expected parts named `file` and `email`, received {received}. "
        "With curl: -F file=@scan.nii.gz -F email=name@example.org",
    )
