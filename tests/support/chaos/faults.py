"""What is done to a system, and how long it takes to be well again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from notifier.messages import message_id
from pipeline.streams import RedisError
from tests.support.chaos.mail_server import Mode
from tests.support.chaos.programs import Program
from tests.support.chaos.system import KEYS, MAIL_FROM, POLL_S, PROCESSORS, System, until
from tests.support.chaos.system import Start as Work
from tests.support.waiting import PATIENCE_S

PAUSE_LEASES = 1.5
"""How long a program stands still: its lease is over by then, and another has taken its entry."""
VICTIM_WITHIN_S = 3.0
"""How long a shot waits for a scan to be at work; then it hits an idle process."""
DISK_FULL_S = 2.0
SMTP_AWAY_S = 2.0

_FLUSH = """
local taken = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  taken[#taken + 1] = {key, redis.call('XRANGE', key, '-', '+')}
end
redis.call('FLUSHALL')
return taken
"""


@dataclass(frozen=True)
class Blow:
    """One fault as it went.

    Attributes:
        fault: Its name.
        at: When, seconds since the epoch.
        kills: How many processes got SIGKILL.
        recovery_s: From the fault until what it hit went on; None where it hit nothing that was at work.
        recovered: False when that did not happen in time.
    """

    fault: str
    at: float
    kills: int
    recovery_s: float | None
    recovered: bool = True


class Faults:
    """Does harm to a system; every method is one fault and returns how it went.

    Args:
        system: That suffers it.
        rng: Decides whom it hits.

    Attributes:
        notifier_killed_at: When the notifier got SIGKILL.
        flushed: What the timelines of jobs said before they were flushed, each as pairs of scan and event.
    """

    def __init__(self, system: System, rng: random.Random) -> None:
        self.notifier_killed_at: list[float] = []
        self.flushed: list[list[tuple[str, str]]] = []
        self._system = system
        self._rng = rng
        sweep_s = system.setting.sweep_every_s or 60.0
        self._patience_s = PATIENCE_S + 4 * system.setting.lease_ms / 1000 + 2 * sweep_s
        system.smtp.kill_sender = self._shoot_notifier

    @property
    def can_fill_disk(self) -> bool:
        """Whether the system has a disk of its own; another one is not filled."""
        return self._system.own_disk

    # -- kills ------------------------------------------------------------------------------------------

    async def kill_ingest(self) -> Blow:
        """SIGKILL to ingest."""
        return await self._kill("ingest killed", ["ingest"])

    async def kill_viewer(self) -> Blow:
        """SIGKILL to the viewer."""
        return await self._kill("viewer killed", ["viewer"])

    async def kill_notifier(self) -> Blow:
        """SIGKILL to the notifier."""
        return await self._kill("notifier killed", ["notifier"])

    async def kill_redis(self) -> Blow:
        """SIGKILL to Redis, which reads its append-only file when it is started again."""
        return await self._kill("Redis killed", ["redis"])

    async def kill_processor(self) -> Blow:
        """SIGKILL to a processor in mid-scan."""
        work = await self._work()
        program = self._system.processor_of(work) if work else None
        name = program.name if program else f"processor-{self._rng.randint(1, PROCESSORS)}"
        return await self._kill("processor killed", [name])

    async def kill_several(self) -> Blow:
        """SIGKILL to two to all programs within a millisecond."""
        names = list(self._system.programs)
        return await self._kill(
            "several killed at once", self._rng.sample(names, self._rng.randint(2, len(names)))
        )

    async def kill_child(self) -> Blow:
        """SIGKILL to the process that runs the detection; its parent lives."""
        work = await self._work()
        at = time.time()
        if work is None:
            return Blow("detection's process killed", at, 0, None)
        with suppress(ProcessLookupError):
            os.kill(work.pid, signal.SIGKILL)
        return await self._blow("detection's process killed", at, 1, self._going_on([work]))

    async def _kill(self, fault: str, names: list[str]) -> Blow:
        programs = [self._system.programs[name] for name in names]
        pids = {program.pid for program in programs}
        hit = [work for work in self._system.working() if work.parent in pids]
        well = self._well_again(programs, hit)
        at = time.time()
        for program in programs:
            if program.name == "notifier":
                self.notifier_killed_at.append(at)
            program.kill()
        return await self._blow(fault, at, len(programs), well)

    def _well_again(self, killed: list[Program], hit: list[Work]) -> Callable[[], Awaitable[bool]]:
        """Return the question whether scans that were hit go on, and services that were hit work."""
        names = {program.name for program in killed}
        urls = [self._system.url] if names & {"redis", "ingest"} else []
        urls += [self._system.viewer_url] if "viewer" in names else []
        notifier = self._system.programs["notifier"]
        said_bytes = notifier.log_bytes()
        deaths = {program: program.deaths for program in killed}

        async def well() -> bool:
            if not all(map(self._system.going_on, hit)) or any(p.deaths == n for p, n in deaths.items()):
                return False
            if notifier in killed and not notifier.said_since(said_bytes, b'"consumer.started"'):
                return False
            return await self._system.ready(*urls)

        return well

    def _shoot_notifier(self) -> None:
        self.notifier_killed_at.append(time.time())
        self._system.programs["notifier"].kill()

    # -- pauses -----------------------------------------------------------------------------------------

    async def pause_processor(self) -> Blow:
        """SIGSTOP to a processor in mid-scan until another has its scan; then it wakes up, a zombie."""
        fault = "processor paused past its lease"
        work = await self._work()
        program = self._system.processor_of(work) if work else None
        if work is None or program is None:
            return Blow(fault, time.time(), 0, None)
        child_too = self._rng.random() < 0.5
        at = time.time()
        program.signal(signal.SIGSTOP)
        if child_too:
            os.kill(work.pid, signal.SIGSTOP)
        try:
            blow = await self._blow(fault, at, 0, self._going_on([work]))
            await asyncio.sleep(max(0.0, at + self._pause_s() - time.time()))
        finally:
            with suppress(ProcessLookupError):
                os.kill(work.pid, signal.SIGCONT)
            program.signal(signal.SIGCONT)
        return blow

    async def pause_redis(self) -> Blow:
        """SIGSTOP to Redis for longer than a lease."""
        redis = self._system.programs["redis"]
        redis.signal(signal.SIGSTOP)
        await asyncio.sleep(self._pause_s())
        redis.signal(signal.SIGCONT)
        return await self._blow("Redis paused past the lease", time.time(), 0, self._system.all_ready)

    def _pause_s(self) -> float:
        return self._system.setting.lease_ms / 1000 * PAUSE_LEASES

    # -- data -------------------------------------------------------------------------------------------

    async def flush(self) -> Blow:
        """FLUSHALL."""
        return await self._lose_line("FLUSHALL", self._flushall)

    async def delete_scans(self) -> Blow:
        """DEL of the stream of scans."""
        return await self._lose_line("DEL of the stream of scans", self._delete_line)

    async def _lose_line(self, fault: str, lose: Callable[[], Awaitable[object]]) -> Blow:
        async def some_in_line() -> bool:
            return bool(await self._system.in_line())

        await until(some_in_line, VICTIM_WITHIN_S)
        lost = await self._system.in_line()
        at = time.time()
        try:
            await lose()
        except RedisError:
            return Blow(fault, at, 0, None)

        async def put_back() -> bool:
            line = set(await self._system.in_line())
            return all(scan in line or self._system.ended(*scan) for scan in lost)

        return await self._blow(fault, at, 0, put_back)

    async def _flushall(self) -> None:
        taken: Any = await self._system.redis.eval(_FLUSH, 0, KEYS.timeline("*"))
        for _, entries in taken:
            notes = [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in entries]
            self.flushed.append([(note["scan_id"], note["what"]) for note in notes])

    async def _delete_line(self) -> None:
        await self._system.redis.delete(KEYS.scans)

    async def delete_results(self) -> Blow:
        """DEL of the stream of results while mails wait in it."""
        fault = "DEL of the stream of results"
        async with self._mail_server_away():
            waiting = await self._mails_waiting()
            at = time.time()
            with suppress(RedisError):
                await self._system.redis.delete(KEYS.results)
        if not waiting:
            return Blow(fault, at, 0, None)
        return await self._blow(fault, at, 0, self._mailed(waiting))

    async def fill_disk(self) -> Blow:
        """Not a byte is left on the disk for two seconds."""
        filler = self._system.data / "filler"
        until_s = time.monotonic() + DISK_FULL_S
        try:
            with filler.open("wb") as file:
                while time.monotonic() < until_s:  # others take and free room meanwhile
                    room = filler.stat().st_size + self._system.storage.free_bytes()
                    with suppress(OSError):
                        os.posix_fallocate(file.fileno(), 0, room)
                    await asyncio.sleep(POLL_S)
        finally:
            at = time.time()
            filler.unlink()
        return await self._blow("disk full", at, 0, self._system.all_ready)

    # -- mail -------------------------------------------------------------------------------------------

    async def refuse_connections(self) -> Blow:
        """The mail server is away."""
        async with self._mail_server_away():
            waiting = await self._mails_waiting()
            at = time.time()
        return await self._mail_blow("SMTP: connection refused", at, waiting)

    async def mail_busy(self) -> Blow:
        """The mail server says 451."""
        return await self._misbehave("SMTP: 4xx", "busy")

    async def mail_refused(self) -> Blow:
        """The mail server says 554."""
        return await self._misbehave("SMTP: 5xx", "refusing")

    async def mail_silent(self) -> Blow:
        """The mail server takes mails and never says so."""
        return await self._misbehave("SMTP: hangs after DATA", "silent")

    async def kill_sender(self) -> Blow:
        """SIGKILL to the notifier as it is told that its mail was taken."""
        fault = "notifier killed at the server's 250"
        shots, smtp = len(self.notifier_killed_at), self._system.smtp
        smtp.be("deadly")

        async def shot() -> bool:
            return len(self.notifier_killed_at) > shots

        if await until(shot, VICTIM_WITHIN_S) is None:
            smtp.be("well")
            return Blow(fault, time.time(), 0, None)
        name = smtp.taken[-1].message_id
        jobs = [job.job_id for job in self._system.records() if message_id(job, MAIL_FROM) == name]
        return await self._blow(fault, self.notifier_killed_at[-1], 1, self._mailed(jobs))

    async def _misbehave(self, fault: str, mode: Mode) -> Blow:
        smtp = self._system.smtp
        tries = smtp.tries
        smtp.be(mode)

        async def tried() -> bool:
            return smtp.tries > tries

        await until(tried, VICTIM_WITHIN_S)
        await asyncio.sleep(self._rng.uniform(0.1, 1))
        waiting = await self._mails_waiting()
        at = time.time()
        smtp.be("well")
        return await self._mail_blow(fault, at, waiting)

    async def _mail_blow(self, fault: str, at: float, waiting: list[str]) -> Blow:
        return await self._blow(fault, at, 0, self._mailed(waiting)) if waiting else Blow(fault, at, 0, None)

    @asynccontextmanager
    async def _mail_server_away(self) -> AsyncIterator[None]:
        await self._system.smtp.stop()
        await asyncio.sleep(SMTP_AWAY_S)
        try:
            yield
        finally:
            await self._system.smtp.start()

    async def _mails_waiting(self) -> list[str]:
        """Return the jobs that have finished, want a mail and have none."""
        try:
            entries: Any = await self._system.redis.xrange(KEYS.results)
        except RedisError:
            return []
        finished = [fields["job_id"] for _, fields in entries if fields["type"] == "job.finished"]
        storage = self._system.storage
        return [
            job_id
            for job_id in finished
            if storage.read_job(job_id).email and storage.read_mail_receipt(job_id) is None
        ]

    def _mailed(self, jobs: list[str]) -> Callable[[], Awaitable[bool]]:
        async def mailed() -> bool:
            return all(self._system.storage.read_mail_receipt(job) for job in jobs)

        return mailed

    # -- common -----------------------------------------------------------------------------------------

    async def _work(self) -> Work | None:
        """Wait until a scan is at work and return one."""

        async def some() -> bool:
            return bool(self._system.working())

        await until(some, VICTIM_WITHIN_S)
        working = self._system.working()
        return self._rng.choice(working) if working else None

    def _going_on(self, hit: list[Work]) -> Callable[[], Awaitable[bool]]:
        async def going_on() -> bool:
            return all(map(self._system.going_on, hit))

        return going_on

    async def _blow(self, fault: str, at: float, kills: int, well: Callable[[], Awaitable[bool]]) -> Blow:
        recovered = await until(well, self._patience_s) is not None
        return Blow(fault, at, kills, time.time() - at if recovered else None, recovered)
