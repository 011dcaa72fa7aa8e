"""What happens to jobs, as it happens: what live pages follow.

A moment is written to the job's timeline and published on a channel of the same name in one step of a script
(`pipeline.job_scripts`), so whoever hears of it finds it there. One connection a process listens for all
jobs and wakes those who follow one; they then read the timeline without blocking, a few at a time. So the
number of open pages costs no connections.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import cast

import structlog

from pipeline.keys import Keys
from pipeline.streams import Redis, RedisError

log = structlog.get_logger()

BEGINNING = "0-0"
"""Before the first moment of every job."""
_LISTEN_S = 1.0
"""How long a stop may go unnoticed."""
_READERS = 8
"""Who may read of jobs at once, each over a connection of its own."""


@dataclass(frozen=True)
class Moment:
    """Something that happened to a job.

    Attributes:
        entry_id: Its id in the job's timeline; later moments have larger ones.
        at: When, RFC 3339.
        what: received, waiting, detecting, done, failed, retried, finished, `mail sent`, `mail failed`, ...
        scan_id: Of which scan; empty where it is about the job.
    """

    entry_id: str
    at: str
    what: str
    scan_id: str


class JobNews:
    """Tells those who follow a job that something happened to it.

    Args:
        client: From `connect`.
        keys: Names in Redis.

    Attributes:
        reading: Held while those who were woken read; all at once would need a connection each.
        stopped: Whether the service stops.
    """

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._followers: dict[str, set[asyncio.Event]] = defaultdict(set)
        self.reading = asyncio.Semaphore(_READERS)
        self.stopped = False

    async def run(self, stop: asyncio.Event) -> None:
        """Listen until told to stop. While Redis is away nobody is woken; when it is back everybody is."""
        while not stop.is_set():
            try:
                await self._listen(stop)
            except (RedisError, OSError) as error:
                log.warning("news.redis_away", error=str(error))
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _LISTEN_S)

    async def _listen(self, stop: asyncio.Event) -> None:
        async with self._client.pubsub() as channel:
            await channel.psubscribe(self._keys.timeline("*"))
            while not stop.is_set():
                message = await channel.get_message(timeout=_LISTEN_S)
                if message is None:
                    continue
                if message["type"] == "psubscribe":
                    self._wake_all()  # what happened before Redis took the subscription was not heard
                for woken in self._followers.get(message["channel"], ()):
                    woken.set()

    def end(self) -> None:
        """Wake everybody for good: the service stops."""
        self.stopped = True
        self._wake_all()

    def _wake_all(self) -> None:
        for followers in self._followers.values():
            for woken in followers:
                woken.set()

    @contextmanager
    def follow(self, job_id: str) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever something happens to a job; whoever waits for it clears it."""
        channel, woken = self._keys.timeline(job_id), asyncio.Event()
        self._followers[channel].add(woken)
        try:
            yield woken
        finally:
            self._followers[channel].discard(woken)
            if not self._followers[channel]:
                del self._followers[channel]

    async def since(self, job_id: str, entry_id: str) -> list[Moment]:
        """Return what happened to a job after the moment of that id, oldest first.

        Raises:
            redis.exceptions.RedisError: Redis is away.
        """
        async with self.reading:
            found = await self._client.xrange(self._keys.timeline(job_id), min=f"({entry_id}")
        entries = cast("list[tuple[str, dict[str, str]]]", found)
        return [Moment(name, fields["at"], fields["what"], fields["scan_id"]) for name, fields in entries]
