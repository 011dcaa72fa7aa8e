"""The drop folder: what is put into it is submitted once it stops changing.

    <DROP_DIR>/scan.nii.gz            one file, or a folder with the files of one submission (a DICOM series)
    <DROP_DIR>/scan.nii.gz.json       optional, put there first: {"email": "name@example.org"}
    <DROP_DIR>/done/                  what was accepted, each beside a .txt with the links of its job
    <DROP_DIR>/refused/               what was not, each beside a .txt that says why

The way in is that of every submission. A restart submits nothing twice: until it has been moved, a file is
recognised by its place on the disk, its size and its time of change, which make the key of its job.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError
from watchfiles import awatch

from ingest.addresses import read_address
from ingest.door import read_head
from ingest.intake import Intake
from ingest.received import Received, Tally, Upload, join_slices, too_large
from ingest.sniff import is_dicom
from pipeline.settings import PipelineSettings
from pipeline.storage import JobRecord
from pipeline.web.problems import ProblemError

log = structlog.get_logger()

SETTLED_AFTER_S = 5.0
"""Without a change a copy is taken to be complete; copying over a network pauses for a second or two."""
_LOOK_EVERY_MS = 1000
_AGAIN_AFTER_S = 5.0
"""A folder that cannot be watched is tried anew: it may lie on another machine."""
_DONE, _REFUSED = "done", "refused"
_SIDE_CAR = ".json"

_Signature = tuple[tuple[str, int, int, int, int], ...]
"""Of each file: name, device, inode, bytes, time of change in ns."""


class _SideCar(BaseModel):
    """What may stand beside a scan."""

    model_config = ConfigDict(extra="forbid")

    email: str = ""


@dataclass
class DropFolder:
    """Submits what appears in a folder.

    Attributes:
        folder: The folder.
        intake: Makes jobs.
        settings: Know the links of jobs and the audit log.
        door: Where files are read through, off the event loop.
    """

    folder: Path
    intake: Intake
    settings: PipelineSettings
    door: Executor
    _seen: dict[Path, tuple[_Signature, float]] = field(default_factory=dict, init=False)
    """What an entry looked like, and since when."""

    def create_folders(self) -> None:
        """Make the folder and those that things are moved to.

        Raises:
            OSError: They cannot be made.
        """
        for name in (_DONE, _REFUSED):
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until told to stop; a submission that has begun is ended."""
        while not stop.is_set():
            try:
                await asyncio.to_thread(self.create_folders)
                await self._watch(stop)
            except OSError as error:  # no traceback: it would say what a folder in it is called
                log.warning("drop.not_watched", error=error.strerror or type(error).__name__)
            except Exception:  # the loop's edge: the next look may go well
                log.exception("drop.failed")
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _AGAIN_AFTER_S)

    async def _watch(self, stop: asyncio.Event) -> None:
        changes = awatch(
            self.folder, stop_event=stop, rust_timeout=_LOOK_EVERY_MS, yield_on_timeout=True, recursive=True
        )
        async with aclosing(changes):
            async for _ in changes:
                await self.look(stop)

    async def look(self, stop: asyncio.Event) -> None:
        """Submit what has settled."""
        entries = await asyncio.to_thread(self._entries)
        self._seen = {entry: seen for entry, seen in self._seen.items() if entry in entries}
        for entry, signature in entries.items():
            since = self._seen.get(entry)
            if since is None or since[0] != signature:
                self._seen[entry] = (signature, time.monotonic())
            elif signature and time.monotonic() - since[1] >= SETTLED_AFTER_S and not stop.is_set():
                await self._try(entry, signature)

    def _entries(self) -> dict[Path, _Signature]:
        """Return what lies in the folder and is to be submitted."""
        names = {path.name for path in self.folder.iterdir()} - {_DONE, _REFUSED}
        return {
            self.folder / name: _signature(self.folder / name)
            for name in sorted(names)
            if not (name.startswith(".") or (self.folder / name).is_symlink() or _is_side_car(name, names))
        }

    async def _try(self, entry: Path, signature: _Signature) -> None:
        """Submit an entry; the others do not wait for one that cannot be read or moved."""
        try:
            await self._submit(entry, signature)
        except OSError as error:  # no traceback: it would say what the file is called
            log.warning("drop.entry_failed", error=error.strerror)
            self._seen.pop(entry, None)

    async def _submit(self, entry: Path, signature: _Signature) -> None:
        try:
            record = await self.intake.submit(_key(signature), lambda earlier: self._received(entry, earlier))
        except ProblemError as problem:
            if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR or problem.code == "submission-under-way":
                log.warning("drop.waits", code=problem.code)
                self._seen.pop(entry, None)  # it is looked at anew, and so tried again in a few seconds
                return
            log.info("drop.refused", code=problem.code)
            self.settings.audit.write("submit", problem.code)
            words = [
                problem.title,
                problem.detail,
                *(f"File {e['file']}: {e['detail']}" for e in problem.errors),
            ]
            self._move(entry, _REFUSED, "\n".join([*dict.fromkeys(words), f"({problem.code})"]))
        except FileNotFoundError:  # taken away again
            self._seen.pop(entry, None)
        else:
            self.settings.audit.write("submit", "ok", job_id=record.job_id)
            links = self.settings.links(record)
            self._move(entry, _DONE, f"Follow it at {links.page}\nResult: {links.result}")

    @asynccontextmanager
    async def _received(self, entry: Path, earlier: JobRecord | None) -> AsyncIterator[Received]:
        loop = asyncio.get_running_loop()
        # What was accepted before a restart may have lost its side-car to `done/` already.
        email = earlier.email if earlier else await asyncio.to_thread(_read_side_car, entry)
        tally = Tally(self.intake.limits)
        uploads = []
        for path in _files(entry):
            if path.stat().st_size > self.intake.limits.max_upload_bytes:
                raise too_large(self.intake.limits.max_upload_bytes)
            uploads.append(await loop.run_in_executor(self.door, _read, path))
            tally.add(uploads[-1])
        yield Received(tuple(join_slices(uploads)), email)

    def _move(self, entry: Path, where: str, words: str) -> None:
        """Move an entry and its side-car out of the way, never over another, and say why."""
        target = self.folder / where / entry.name
        number = 1
        while target.exists():
            number += 1
            target = self.folder / where / f"{number}-{entry.name}"
        target.with_name(f"{target.name}.txt").write_text(f"{words}\n", encoding="utf-8")
        side_car = _side_car(entry)
        if side_car.exists():
            side_car.rename(target.with_name(side_car.name if number == 1 else f"{number}-{side_car.name}"))
        entry.rename(target)
        self._seen.pop(entry, None)


def _files(entry: Path) -> Sequence[Path]:
    """Return the files of an entry that are to be submitted, in the order of their names."""
    if entry.is_file():
        return [entry]
    return sorted(p for p in entry.rglob("[!.]*") if p.is_file() and not p.is_symlink())


def _signature(entry: Path) -> _Signature:
    try:
        statuses = [(path.name, path.stat()) for path in _files(entry)]
    except OSError:  # it is being changed this moment, or cannot be read: the others go on
        return ()
    return tuple((name, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in statuses)


def _key(signature: _Signature) -> str:
    """Return the key of a job; no client can send it, it is more than one line."""
    return "\n".join(["drop", *(":".join(map(str, numbers)) for _, *numbers in signature)])


def _side_car(entry: Path) -> Path:
    return entry.with_name(f"{entry.name}{_SIDE_CAR}")


def _is_side_car(name: str, names: set[str]) -> bool:
    """Tell a side-car, also one that lies there before its scan."""
    return name.endswith(_SIDE_CAR) and (name.removesuffix(_SIDE_CAR) in names or name.count(".") > 1)


def _read_side_car(entry: Path) -> str | None:
    try:
        return read_address(_SideCar.model_validate_json(_side_car(entry).read_bytes()).email)
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ProblemError(
            status=422,
            code="side-car-invalid",
            title="Side-car not valid",
            detail='Expected JSON like {"email": "name@example.org"} in the file beside the scan, received '
            f"another ({error.errors()[0]['msg']}). Correct it and put both into the folder again.",
        ) from error


def _read(path: Path) -> Upload:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    status = path.stat()
    return Upload(
        paths=(path,),
        sha256=sha256,
        size_bytes=status.st_size,
        first_byte_at=datetime.fromtimestamp(status.st_mtime, UTC),
        is_slice=is_dicom(read_head(path)),
        ours=False,
    )
