"""A campaign: clients submit, faults strike in random order, everything heals, the books are written."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from pipeline.streams import RedisError
from tests.support.chaos.clients import Clients
from tests.support.chaos.faults import Blow, Faults
from tests.support.chaos.ledger import Auditor, Ledger
from tests.support.chaos.system import KEYS, Setting, System, small_disk, until
from tests.support.waiting import PATIENCE_S

CLIENTS = 3
PAUSE_S = 0.3
"""Longest wait between two faults."""


@dataclass(frozen=True)
class Campaign:
    """What is to be done.

    Attributes:
        seed: Of every random decision of clients and faults. The machine's timing is not reproducible.
        kills: SIGKILLs before the fire ceases; every fault has had its turn by then, too.
        setting: Of the system.
        most_s: The fire ceases after this long, however many were killed.
        often: How many times as often as every other fault processes are killed.
    """

    seed: int
    kills: int
    setting: Setting
    most_s: float = float("inf")
    often: int = 1


@dataclass
class Outcome:
    """How it went.

    Attributes:
        campaign: What was to be done.
        blows: Every fault, in order.
        ledger: The books.
        seconds: How long it took, start and audit included.
        disk_filled: Whether a disk could be filled here.
    """

    campaign: Campaign
    ledger: Ledger
    seconds: float
    disk_filled: bool
    blows: list[Blow] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """SIGKILLs in all."""
        return sum(blow.kills for blow in self.blows)

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        return asdict(self) | {"kills": self.kills}


@dataclass(frozen=True)
class Recovery:
    """One line of the table.

    Attributes:
        fault: Its name.
        times: How often it struck.
        measured: How often it hit something whose recovery could be measured.
        p50_s: Median.
        max_s: Longest.
    """

    fault: str
    times: int
    measured: int
    p50_s: float | None
    max_s: float | None


def recoveries(blows: list[Blow]) -> list[Recovery]:
    """Return the table, a line a fault, in the order of their names."""
    by_fault: dict[str, list[Blow]] = defaultdict(list)
    for blow in blows:
        by_fault[blow.fault].append(blow)
    lines = []
    for fault, struck in sorted(by_fault.items()):
        seconds = [blow.recovery_s for blow in struck if blow.recovery_s is not None]
        median, longest = (statistics.median(seconds), max(seconds)) if seconds else (None, None)
        lines.append(Recovery(fault, len(struck), len(seconds), median, longest))
    return lines


async def conduct(campaign: Campaign, folder: Path, report: Callable[[str], None] = print) -> Outcome:
    """Run a campaign.

    Args:
        campaign: What is to be done.
        folder: An empty one; logs stay there.
        report: Is told of every fault, in one line.
    """
    started = time.monotonic()
    rng = random.Random(campaign.seed)  # noqa: S311 (repeatable, not secret)
    with small_disk(folder / "data", campaign.setting.disk_bytes) as own_disk:
        system = System(folder, folder / "data", campaign.setting, own_disk=own_disk)
        async with system.running():
            if await until(system.all_ready, PATIENCE_S) is None:
                raise RuntimeError(f"Expected every service to be ready; their logs are in {folder}.")
            clients, faults = Clients(system, random.Random(rng.random())), Faults(system, rng)  # noqa: S311
            blows = await _under_fire(campaign, clients, faults, rng, report)
            await _rest(system)
            ledger = await Auditor(system, clients.submissions, faults).audit()
    for blow in blows:
        if not blow.recovered:
            ledger.violations.append(f"{blow.fault}: not well again in time")
    return Outcome(campaign, ledger, round(time.monotonic() - started, 1), own_disk, blows)


async def _under_fire(
    campaign: Campaign,
    clients: Clients,
    faults: Faults,
    rng: random.Random,
    report: Callable[[str], None],
) -> list[Blow]:
    """Let clients submit and faults strike until enough processes were killed."""
    stop = asyncio.Event()
    submitting = [asyncio.create_task(clients.run(stop)) for _ in range(CLIENTS)]
    blows: list[Blow] = []
    strike = _Order(faults, rng, campaign.often)
    cease_at = time.monotonic() + campaign.most_s
    try:
        while time.monotonic() < cease_at and (
            sum(blow.kills for blow in blows) < campaign.kills or strike.some_never_struck
        ):
            blow = await strike.next()()
            blows.append(blow)
            took = "-" if blow.recovery_s is None else f"{blow.recovery_s:.2f} s"
            report(f"{len(blows):4} {blow.fault:40} {took if blow.recovered else 'NOT RECOVERED'}")
            await asyncio.sleep(rng.uniform(0, PAUSE_S))
    finally:
        stop.set()
        await asyncio.gather(*submitting)
    return blows


class _Order:
    """Which fault strikes next: shuffled decks, so that every fault has its turn early and often."""

    def __init__(self, faults: Faults, rng: random.Random, often: int) -> None:
        self._rng = rng
        self._deck: list[Callable[[], Awaitable[Blow]]] = []
        self._decks = 0
        kills = (
            *(faults.kill_processor, faults.kill_child) * 2,
            *(faults.kill_several,) * 3,
            *(faults.kill_redis,) * 4,
        )
        once = (
            faults.kill_ingest,
            faults.kill_viewer,
            faults.kill_notifier,
            faults.kill_sender,
            faults.pause_processor,
            faults.pause_redis,
            faults.flush,
            faults.delete_scans,
            faults.delete_results,
            faults.refuse_connections,
            faults.mail_busy,
            faults.mail_refused,
            faults.mail_silent,
        )
        disk = (faults.fill_disk,) if faults.can_fill_disk else ()
        self._all = (*kills * often, *once, *disk)

    @property
    def some_never_struck(self) -> bool:
        """Whether the first deck has not been dealt out."""
        return self._decks == 0 or (self._decks == 1 and bool(self._deck))

    def next(self) -> Callable[[], Awaitable[Blow]]:
        """Deal one."""
        if not self._deck:
            self._deck = self._rng.sample(self._all, len(self._all))
            self._decks += 1
        return self._deck.pop()


async def _rest(system: System) -> None:
    """Wait until nothing is left to do, as far as can be seen; the books say whether all was done.

    A long line on a busy machine takes its time: patience begins anew as long as the line has become shorter.
    """

    async def done() -> bool:
        with suppress(RedisError, aiohttp.ClientError, OSError, TimeoutError):
            if await system.in_line() or await system.redis.xlen(KEYS.results):
                return False
            documents = await asyncio.gather(*(system.job(record) for record in system.records()))
            return all(doc.get("state") == "finished" and doc.get("mail") != "pending" for doc in documents)
        return False

    sweep_s = system.setting.sweep_every_s or 60.0
    patience_s = 60 + 3 * sweep_s + 6 * system.setting.lease_ms / 1000
    before, left = float("inf"), float(len(await system.in_line()))
    while left < before and await until(done, patience_s, pause_s=1) is None:
        before, left = left, float(len(await system.in_line()))
