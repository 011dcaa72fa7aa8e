"""Resumable uploads on the disk.

    incoming/<upload_id>.part     the bytes so far: their number is the offset, so a SIGKILL loses nothing
    incoming/<upload_id>.json     what its creator said; with it the upload exists

Who knows the id holds the upload: it is as unguessable as a key, and appears in addresses alone.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ingest.received import Digest
from pipeline.clock import Instant, now
from pipeline.files import write_whole
from pipeline.ids import ID_PATTERN, new_id
from pipeline.storage import Storage
from pipeline.web.problems import ProblemError

LONGEST_SILENCE = timedelta(hours=24)
"""An upload without a new byte for so long has been given up; a night is not enough."""

_ID = re.compile(ID_PATTERN)


class _Said(BaseModel):
    """What the creator of an upload said of it, as the .json keeps it."""

    model_config = ConfigDict(frozen=True)

    length_bytes: int | None
    metadata: str
    created_at: Instant


@dataclass(frozen=True)
class StoredUpload:
    """One upload as it stands.

    Attributes:
        upload_id: Its identifier.
        path: Where its bytes are.
        length_bytes: Of the whole file; None while its sender does not know.
        offset_bytes: How much of it has come.
        metadata: `Upload-Metadata` as it was sent.
        created_at: When it was announced.
        expires_at: When it is given up unless more comes.
    """

    upload_id: str
    path: Path
    length_bytes: int | None
    offset_bytes: int
    metadata: str
    created_at: datetime
    expires_at: datetime

    @property
    def complete(self) -> bool:
        """Whether all of it has come."""
        return self.offset_bytes == self.length_bytes


class UploadStore:
    """Keeps uploads until a job takes them, their sender removes them, or they expire.

    Args:
        storage: Where they lie.
        longest_silence: After which an upload expires.
    """

    def __init__(self, storage: Storage, longest_silence: timedelta) -> None:
        self._storage = storage
        self._longest_silence = longest_silence
        self._digests: dict[str, Digest] = {}

    def create(self, length_bytes: int | None, metadata: str) -> StoredUpload:
        """Announce an upload, of which nothing has come yet."""
        upload_id = new_id()
        self._storage.part_path(upload_id).touch(exist_ok=False)
        self._write(upload_id, _Said(length_bytes=length_bytes, metadata=metadata, created_at=now()))
        return self.read(upload_id)

    def read(self, upload_id: str) -> StoredUpload:
        """Return how an upload stands.

        Raises:
            ProblemError: There is none of that id, or it has expired.
        """
        if not _ID.fullmatch(upload_id):
            raise _unknown()
        path = self._storage.part_path(upload_id)
        try:
            said = _Said.model_validate_json(self._storage.upload_path(upload_id).read_bytes())
            status = path.stat()
        except FileNotFoundError as error:
            raise _unknown() from error
        expires_at = datetime.fromtimestamp(status.st_mtime, UTC) + self._longest_silence
        if expires_at <= now():
            raise _expired()
        return StoredUpload(
            upload_id=upload_id,
            path=path,
            length_bytes=said.length_bytes,
            offset_bytes=status.st_size,
            metadata=said.metadata,
            created_at=said.created_at,
            expires_at=expires_at,
        )

    def set_length(self, upload: StoredUpload, length_bytes: int) -> None:
        """Keep a length that its sender did not know at first."""
        said = _Said(length_bytes=length_bytes, metadata=upload.metadata, created_at=upload.created_at)
        self._write(upload.upload_id, said)

    def digest(self, upload: StoredUpload) -> Digest | None:
        """Return the SHA-256 of what has come, to go on with; None where this process has not seen it all."""
        if not upload.offset_bytes:
            self._digests[upload.upload_id] = Digest()
        digest = self._digests.get(upload.upload_id)
        if digest is not None and digest.size_bytes != upload.offset_bytes:
            del self._digests[upload.upload_id]  # some was taken back, or came elsewhere
            return None
        return digest

    def append(self, upload: StoredUpload, chunk: Path) -> None:
        """Add the bytes of another file, and make them survive a power cut."""
        with chunk.open("rb") as source, upload.path.open("ab") as target:
            shutil.copyfileobj(source, target, _COPY_BYTES)
            target.flush()
            os.fsync(target.fileno())

    def remove(self, upload_id: str) -> None:
        """Forget an upload; one that is unknown is no error."""
        self._storage.upload_path(upload_id).unlink(missing_ok=True)
        self._storage.part_path(upload_id).unlink(missing_ok=True)
        self._digests.pop(upload_id, None)

    def remove_expired(self) -> int:
        """Remove the uploads that were given up; return how many."""
        removed = 0
        for path in self._storage.incoming.glob("*.json"):
            try:
                self.read(path.stem)
            except ProblemError:  # expired, or its bytes are gone
                self.remove(path.stem)
                removed += 1
        return removed

    def _write(self, upload_id: str, said: _Said) -> None:
        write_whole(self._storage.upload_path(upload_id), said.model_dump_json().encode())


_COPY_BYTES = 1024**2


def _unknown() -> ProblemError:
    return ProblemError(
        status=404,
        code="upload-unknown",
        title="No such upload",
        detail="Expected the address of an upload as this service gave it out, received another; or it was "
        "removed, has expired, or a job has taken it. Begin the upload again.",
    )


def _expired() -> ProblemError:
    return ProblemError(
        status=410,
        code="upload-expired",
        title="Upload expired",
        detail="Expected an upload that goes on, but nothing of this one came for too long, and it is being "
        "removed. Begin it again.",
    )
