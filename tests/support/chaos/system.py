"""A whole corestream of separate processes, its Redis and its mail server, to be shot at."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp
from redis.asyncio import Redis

from corestream.up import redis_server
from pipeline.keys import Keys
from pipeline.links import Tokens
from pipeline.storage import JobRecord, Storage
from pipeline.streams import RedisError, connect
from tests.support.chaos import quick_sweep, stand_in
from tests.support.chaos.mail_server import ChaosSmtp
from tests.support.chaos.prepared import prepare
from tests.support.chaos.programs import Program
from tests.support.chaos.stand_in import StandIn
from tests.support.ports import free_ports

AppendFsync = Literal["everysec", "always"]

KEYS = Keys("corestream:")
SECRET = "chaos-" * 8
PROCESSORS = 3
MAIL_FROM = "corestream@hospital.example"
MIN_FREE_BYTES = 32 * 1024**2
POLL_S = 0.02
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Setting:
    """How a system under fire is set up.

    Attributes:
        lease_ms: CORESTREAM_LEASE_MS of all services.
        appendfsync: Of Redis.
        sweep_every_s: Of ingest; None for the service as it is, once a minute.
        shortest_s: Least time that the stand-in takes for a scan.
        longest_s: Most.
        disk_bytes: Size of the disk that everything lies on, Redis's append-only file too.
    """

    lease_ms: int = 2000
    appendfsync: AppendFsync = "everysec"
    sweep_every_s: float | None = 3.0
    shortest_s: float = 0.1
    longest_s: float = 1.5
    disk_bytes: int = 512 * 1024**2


@dataclass(frozen=True)
class Start:
    """A start of the stand-in, as it recorded it itself."""

    job_id: str
    scan_id: str
    pid: int
    parent: int
    at: float


class System:
    """The processes, and what can be seen of them from outside.

    Attributes:
        setting: How it is set up.
        data: Its DATA_DIR.
        own_disk: Whether DATA_DIR is a small disk of its own, which can be filled.
        smtp: Its mail server.
        starts: Every start of the stand-in so far, by scan.
        twice: Starts of a scan that another living process was still at work on.
    """

    def __init__(self, folder: Path, data: Path, setting: Setting, *, own_disk: bool) -> None:
        self.setting = setting
        self.data = data
        self.own_disk = own_disk
        self.storage = Storage(data)
        self.tokens = Tokens(SECRET)
        self.smtp = ChaosSmtp()
        self.starts: dict[str, list[Start]] = {}
        self.twice = 0
        self._running: dict[int, Start] = {}
        self._record = folder / "starts.jsonl"
        self._record_read_bytes = 0
        self._port = free_ports(2)
        self.url, self.viewer_url = (f"http://127.0.0.1:{self._port + n}" for n in (0, 1))
        self._stack = contextlib.ExitStack()
        home = data / "redis"
        home.mkdir()
        self._socket = self._stack.enter_context(redis_server.socket_path(home))
        self.redis: Redis = connect(f"unix://{self._socket}")
        self.programs = self._programs(folder, home)
        self.http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))

    def _programs(self, folder: Path, home: Path) -> dict[str, Program]:
        prepared = prepare(folder / "prepared")
        detection = StandIn(str(prepared), str(self._record), self.setting.shortest_s, self.setting.longest_s)
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CORESTREAM_", "PYTHONDONTWRITEBYTECODE"))  # each start would compile all
        } | {
            "CORESTREAM_DATA_DIR": str(self.data),
            "CORESTREAM_REDIS_URL": f"unix://{self._socket}",
            "CORESTREAM_SECRET_KEY": SECRET,
            "CORESTREAM_PUBLIC_URL": self.url,
            "CORESTREAM_VIEWER_URL": self.viewer_url,
            "CORESTREAM_INGEST_PORT": str(self._port),
            "CORESTREAM_VIEWER_PORT": str(self._port + 1),
            "CORESTREAM_SMTP_URL": self.smtp.url,
            "CORESTREAM_MAIL_FROM": MAIL_FROM,
            "CORESTREAM_LEASE_MS": str(self.setting.lease_ms),
            "CORESTREAM_MIN_FREE_BYTES": str(MIN_FREE_BYTES),
            "CORESTREAM_LOG_FORMAT": "json",
            "CORESTREAM_KEEP_ORIGINALS": "true",  # what was accepted is compared with what came of it
            stand_in.VARIABLE: json.dumps(asdict(detection)),
            "PYTHONPATH": str(ROOT),
        }
        python = (sys.executable, "-m")
        sweep = self.setting.sweep_every_s
        commands = {
            "redis": (
                *redis_server.command(redis_server.find_server(), home, self._socket),
                *("--appendfsync", self.setting.appendfsync),
            ),
            "ingest": (*python, "ingest") if sweep is None else (*python, quick_sweep.__name__, str(sweep)),
            "viewer": (*python, "viewer"),
            "notifier": (*python, "notifier"),
            **{f"processor-{n}": (*python, stand_in.__name__) for n in range(1, PROCESSORS + 1)},
        }
        return {name: Program(name, command, environment, folder) for name, command in commands.items()}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run everything until the block ends."""
        await self.smtp.start()
        tasks = [asyncio.create_task(program.keep_running()) for program in self.programs.values()]
        tasks.append(asyncio.create_task(self._follow_record()))
        try:
            yield
        finally:
            for program in self.programs.values():
                program.stop()
            await asyncio.gather(*tasks[:-1])
            tasks[-1].cancel()
            await self.smtp.stop()
            await self.http.close()
            await self.redis.aclose()
            self._stack.close()

    # -- what can be seen from outside -----------------------------------------------------------------

    async def ready(self, *urls: str) -> bool:
        """Return whether services answer that they are ready."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            for url in urls:
                async with self.http.get(f"{url}/readyz", timeout=aiohttp.ClientTimeout(total=2)) as answer:
                    if answer.status != 200:
                        return False
            return True
        return False

    async def all_ready(self) -> bool:
        """Return whether every program runs, and the two with an address say that they are ready."""
        if any(program.pid is None for program in self.programs.values()):
            return False
        return await self.ready(self.url, self.viewer_url)

    async def job(self, record: JobRecord) -> dict[str, Any]:
        """Return a job as the HTTP interface tells it to whoever submitted it."""
        token = self.tokens.issue(record.job_id, record.links_expire_at)
        async with self.http.get(f"{self.url}/api/jobs/{record.job_id}?token={token}") as answer:
            document: dict[str, Any] = await answer.json()
            return document

    def records(self) -> list[JobRecord]:
        """Return every job that was accepted."""
        return [self.storage.read_job(job_id) for job_id in self.storage.job_ids()]

    def ended(self, job_id: str, scan_id: str) -> bool:
        """Return whether a scan's outcome lies on the disk."""
        result = self.storage.result_dir(job_id, scan_id).exists()
        return result or self.storage.read_failure(job_id, scan_id) is not None

    def working(self) -> list[Start]:
        """Return what the stand-ins are at work on, as far as their processes live."""
        self._read_record()
        return [start for pid, start in self._running.items() if _alive(pid) and _alive(start.parent)]

    def going_on(self, start: Start) -> bool:
        """Return whether a scan whose process was shot runs again, or has ended."""
        self._read_record()
        again = any(other.at > start.at for other in self.starts[start.scan_id])
        return again or self.ended(start.job_id, start.scan_id)

    def processor_of(self, start: Start) -> Program | None:
        """Return the processor at work on a scan."""
        return next((p for p in self.programs.values() if p.pid == start.parent), None)

    async def in_line(self) -> list[tuple[str, str]]:
        """Return job and scan of every entry in the stream of scans."""
        try:
            entries: Any = await self.redis.xrange(KEYS.scans)
        except RedisError:
            return []
        return [(fields["job_id"], fields["scan_id"]) for _, fields in entries]

    async def _follow_record(self) -> None:
        while True:
            self._read_record()
            await asyncio.sleep(POLL_S)

    def _read_record(self) -> None:
        if not self._record.exists():
            return
        with self._record.open("rb") as record:
            record.seek(self._record_read_bytes)
            lines = record.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        self._record_read_bytes += len(whole)
        for text in whole.splitlines():
            line = json.loads(text)
            what = line.pop("what")
            start = Start(**line)
            self._running.pop(start.pid, None)
            if what == "start":
                others = self._running.values()
                self.twice += any(o.scan_id == start.scan_id and _alive(o.pid) for o in others)
                self._running[start.pid] = start
                self.starts.setdefault(start.scan_id, []).append(start)


def _alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


async def until(
    condition: Callable[[], Awaitable[bool]], within_s: float, *, pause_s: float = POLL_S
) -> float | None:
    """Return after how many seconds a condition came true, None if it did not in time."""
    started = time.monotonic()
    while not await condition():
        if time.monotonic() - started > within_s:
            return None
        await asyncio.sleep(pause_s)
    return time.monotonic() - started


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[bool]:
    """Mount a disk of that size on a folder until the block ends; gives whether that is allowed here."""
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=700", "tmpfs", str(folder))
    mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(("umount", "--lazy", str(folder)), check=True)
