"""How the installation is at this moment: what the monitor page and `GET /api/monitor` show."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ingest.admin.history import History, read_history
from ingest.settings import IngestSettings
from pipeline.clock import Instant, now, of_entry
from pipeline.jobs import Jobs
from pipeline.ledger import LedgerReader
from pipeline.letters import letter_document
from pipeline.streams import (
    DeadLetters,
    Pending,
    Presence,
    RedisError,
    Server,
    StreamStats,
)

LETTERS_SHOWN = 50


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True)


class Line(_Document):
    """One stream."""

    waiting: int
    running: int
    oldest_s: float
    """Age of the oldest entry that is not done."""


class Running(_Document):
    """A scan in the hands of a processor."""

    scan_id: str
    job_id: str
    worker: str
    deliveries: int
    seconds: float | None
    """Since it was claimed; None where the ledger does not say."""
    silent_s: float
    """Since the worker renewed its lease."""


class Worker(_Document):
    """A processor or notifier."""

    name: str
    service: str
    state: Literal["alive", "silent"]
    """Silent: not heard of within a lease."""
    heard_s: float


class Redis(_Document):
    """How Redis is."""

    version: str
    used_memory_bytes: int
    max_memory_bytes: int
    """0 is no limit."""
    aof: Literal["ok", "failing", "off"]
    clients: int
    warnings: tuple[str, ...]


class Disk(_Document):
    """The disk that the scans lie on."""

    free_bytes: int
    total_bytes: int
    min_free_bytes: int
    """Below this nothing is accepted."""


class Queue(_Document):
    """What Redis tells."""

    scans: Line
    mails: Line
    running: tuple[Running, ...]
    workers: tuple[Worker, ...]
    dead: int
    letters: tuple[dict[str, Any], ...]
    """The newest dead letters, as `GET /api/dead` has them."""
    redis: Redis


class Monitor(_Document):
    """The installation at one moment."""

    at: Instant
    queue: Queue | None
    """None while Redis is away."""
    last_day: History
    disk: Disk


@dataclass(frozen=True)
class Inspection:
    """Looks into Redis.

    Attributes:
        pending: Reads what processors hold.
        server: Reads how the server is.
        warnings: Reads what in its configuration can lose events.
        presence: Reads who lives.
    """

    pending: Callable[[], Awaitable[list[Pending]]]
    server: Callable[[], Awaitable[Server]]
    warnings: Callable[[], Awaitable[list[str]]]
    presence: Presence


@dataclass(frozen=True)
class Numbers:
    """Puts the numbers together.

    Attributes:
        settings: Of this service.
        jobs: State of jobs.
        dead: The dead letters.
        ledger: When what happened.
        inspection: Looks into Redis.
    """

    settings: IngestSettings
    jobs: Jobs
    dead: DeadLetters
    ledger: LedgerReader
    inspection: Inspection

    async def read(self) -> Monitor:
        """Return how the installation is."""
        self.ledger.refresh()
        at, scans = now(), self.ledger.scans()
        history = await asyncio.to_thread(read_history, scans, at)
        try:
            queue = await self._queue(at)
        except (RedisError, OSError):
            queue = None
        return Monitor(at=at, queue=queue, last_day=history, disk=self._disk())

    async def _queue(self, at: datetime) -> Queue:
        streams = await self.jobs.read_streams()
        letters = await self.dead.list(LETTERS_SHOWN)
        server = await self.inspection.server()
        silence_s = await self.inspection.presence.silence_s()
        return Queue(
            scans=_line(streams["scans"]),
            mails=_line(streams["results"]),
            running=tuple(self._running(each, at) for each in await self.inspection.pending()),
            workers=tuple(self._worker(name, heard_s) for name, heard_s in sorted(silence_s.items())),
            dead=streams["scans"].dead,
            letters=tuple(letter_document(letter) for letter in letters),
            redis=Redis(
                version=server.version,
                used_memory_bytes=server.used_memory_bytes,
                max_memory_bytes=server.max_memory_bytes,
                aof="off" if not server.aof else "ok" if server.aof_ok else "failing",
                clients=server.clients,
                warnings=tuple(await self.inspection.warnings()),
            ),
        )

    def _running(self, pending: Pending, at: datetime) -> Running:
        scan_id = pending.fields.get("scan_id", "")
        known = self.ledger.scan(scan_id)
        claimed_at = known.moments.get("claimed") if known else None
        if claimed_at and claimed_at < of_entry(pending.entry_id):
            claimed_at = None  # of an earlier time in line
        return Running(
            scan_id=scan_id,
            job_id=pending.fields.get("job_id", ""),
            worker=pending.consumer,
            deliveries=pending.deliveries,
            seconds=(at - claimed_at).total_seconds() if claimed_at else None,
            silent_s=pending.silent_ms / 1000,
        )

    def _worker(self, name: str, heard_s: float) -> Worker:
        service, _, consumer = name.partition(":")
        alive = heard_s * 1000 <= self.settings.lease_ms
        return Worker(
            name=consumer,
            service=service,
            state="alive" if alive else "silent",
            heard_s=round(heard_s, 1),
        )

    def _disk(self) -> Disk:
        usage = shutil.disk_usage(self.settings.data_dir)
        return Disk(
            free_bytes=usage.free, total_bytes=usage.total, min_free_bytes=self.settings.min_free_bytes
        )


def _line(stats: StreamStats) -> Line:
    return Line(waiting=stats.waiting, running=stats.running, oldest_s=stats.oldest_ms / 1000)
