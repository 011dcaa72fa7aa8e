"""From resumable uploads to a job: it takes them all, or leaves them for another try."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ingest.dicom.archive import MAX_ENTRIES
from ingest.door import read_head
from ingest.received import Limits, Received, Tally, Upload, join_slices
from ingest.sniff import is_dicom
from ingest.uploads.store import StoredUpload, UploadStore
from ingest.uploads.writers import Writers
from pipeline.web.problems import ProblemError


@dataclass(frozen=True)
class Joining:
    """Gives uploads to jobs.

    Attributes:
        store: Knows them.
        writers: Nobody writes an upload while a job takes it.
        limits: Of a submission.
        door: Where files are read through, off the event loop.
    """

    store: UploadStore
    writers: Writers
    limits: Limits
    door: Executor

    @asynccontextmanager
    async def taken(self, upload_ids: tuple[str, ...], email: str | None) -> AsyncIterator[Received]:
        """Give uploads as a submission; they are removed when the block ends well.

        Where the door refuses some, those are removed and the others stay, for a job without the refused.

        Raises:
            ProblemError: One is unknown, named twice or not complete, or there are too many.
        """
        if len(set(upload_ids)) < len(upload_ids) or len(upload_ids) > self.limits.max_files + MAX_ENTRIES:
            raise _not_ready("each upload once, and no more than a submission may have", "others")
        for upload_id in upload_ids:
            self.store.read(upload_id)  # else whatever a client calls an upload would name a lock
        async with AsyncExitStack() as stack:
            for upload_id in sorted(upload_ids):  # in one order, so that two jobs never wait for each other
                await stack.enter_async_context(self.writers.alone(upload_id))
            stored = [self._complete(upload_id) for upload_id in upload_ids]
            tally = Tally(self.limits)
            uploads = [await self._read(upload) for upload in stored]
            for upload in uploads:
                tally.add(upload)
            try:
                yield Received(tuple(join_slices(uploads)), email, upload_ids)
            except ProblemError as problem:
                self._remove(*(refused for error in problem.errors for refused in error["uploads"]))
                raise
            self._remove(*upload_ids)

    def _complete(self, upload_id: str) -> StoredUpload:
        upload = self.store.read(upload_id)
        if not upload.complete:
            of = "unknown length" if upload.length_bytes is None else f"{upload.length_bytes:,} bytes"
            raise _not_ready(f"a complete upload of {of}", f"{upload.offset_bytes:,} bytes so far")
        return upload

    async def _read(self, upload: StoredUpload) -> Upload:
        seen = self.store.digest(upload)

        def read() -> Upload:
            return Upload(
                paths=(upload.path,),
                sha256=_sha256(upload.path) if seen is None else seen.digest().hex(),
                size_bytes=upload.offset_bytes,
                first_byte_at=upload.created_at,
                is_slice=is_dicom(read_head(upload.path)),
            )

        return await asyncio.get_running_loop().run_in_executor(self.door, read)

    def _remove(self, *upload_ids: str) -> None:
        for upload_id in upload_ids:
            self.store.remove(upload_id)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _not_ready(expected: str, received: str) -> ProblemError:
    return ProblemError(
        status=409,
        code="upload-incomplete",
        title="Upload not complete",
        detail=f"Expected {expected}, received {received}. Send what is missing, then submit again.",
    )
