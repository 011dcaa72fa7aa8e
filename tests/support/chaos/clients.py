"""Clients that submit jobs, insist on an answer, and remember what they were told."""

from __future__ import annotations

import asyncio
import gzip
import random
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache

import aiohttp
import numpy as np

from pipeline.streams import RedisError
from tests.support.chaos.stand_in import REFUSED_MARK
from tests.support.chaos.system import KEYS, System, until
from tests.support.nifti_files import SHAPE, nifti

ADDRESS = "reader@hospital.example"
MOST_SCANS = 4
KINDS = 12
"""Different scans that are submitted; the first is one that the stand-in refuses."""
WITH_MAIL = 0.6
CUT_OFF = 0.15
"""Of the sendings: the client breaks off, as if its line were cut, and sends again."""
IN_PARALLEL = 0.1
"""Of the submissions: sent twice at the same time."""
MOST_IN_LINE = 24
ANSWERED_WITHIN_S = 300.0
"""How long a client goes on asking."""
_CUT_AFTER_S = 0.15
_SEND_AGAIN_AFTER_S = 0.3


@dataclass
class Submission:
    """One job as its client sees it.

    Attributes:
        key: Its Idempotency-Key.
        kinds: Of its scans, in order.
        email: Where it is to be announced.
        job_ids: Every id that the service has answered with; one, or the service contradicts itself.
        refusal: Why it was given up: the code of an answer that forbids another try, or that none came.
        sendings: How often it was sent.
    """

    key: str
    kinds: tuple[int, ...]
    email: str | None
    job_ids: set[str] = field(default_factory=set)
    refusal: str | None = None
    sendings: int = 0


@cache
def scan_file(kind: int) -> bytes:
    """Return a compressed NIfTI file on the network's grid, small and different for every kind."""
    voxels = (np.arange(np.prod(SHAPE)) // 50_000 * (kind + 3) % 100).astype(np.int16).reshape(SHAPE)
    voxels[0, 0, 0] = REFUSED_MARK if kind == 0 else kind
    return gzip.compress(nifti(voxels), compresslevel=6, mtime=0)


class Clients:
    """Submit one job after the other until told to stop.

    Args:
        system: Where to.
        rng: Decides what is submitted.

    Attributes:
        submissions: All that were begun.
    """

    def __init__(self, system: System, rng: random.Random) -> None:
        self.submissions: list[Submission] = []
        self._system = system
        self._rng = rng
        self._in_line = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Be one client; a submission that was begun is brought to its answer, whatever `stop` says."""
        while not stop.is_set():
            if await self._line_is_long():
                await asyncio.sleep(0.1)
                continue
            submission = self._new()
            self.submissions.append(submission)
            twice = self._rng.random() < IN_PARALLEL
            await asyncio.gather(*(self._insist(submission) for _ in range(1 + twice)))
            await asyncio.sleep(self._rng.uniform(0, 0.3))

    async def _line_is_long(self) -> bool:
        with suppress(RedisError):  # while Redis is away the line counts as long as it was
            self._in_line = await self._system.redis.xlen(KEYS.scans)
        return self._in_line >= MOST_IN_LINE

    def _new(self) -> Submission:
        rng = self._rng
        kinds = tuple(
            0 if rng.random() < 0.03 else rng.randrange(1, KINDS)
            for _ in range(rng.choices(range(1, MOST_SCANS + 1), (6, 3, 1, 1))[0])
        )
        email = ADDRESS if rng.random() < WITH_MAIL else None
        return Submission(str(uuid.UUID(int=rng.getrandbits(128))), kinds, email)

    async def _insist(self, submission: Submission) -> None:
        async def answered() -> bool:
            return await self._send(submission)

        if await until(answered, ANSWERED_WITHIN_S, pause_s=_SEND_AGAIN_AFTER_S) is None:
            submission.refusal = f"no answer for {ANSWERED_WITHIN_S:g} s"

    async def _send(self, submission: Submission) -> bool:
        """Return whether there was an answer that ends the matter."""
        submission.sendings += 1
        cut = self._rng.random() < CUT_OFF
        patience_s = self._rng.uniform(0, _CUT_AFTER_S) if cut else 30
        try:
            async with asyncio.timeout(patience_s), self._post(submission) as answer:
                document = await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return False
        if answer.status == 202:
            submission.job_ids.add(document["job_id"])
        elif answer.status < 500 and answer.status != 409:
            submission.refusal = str(document.get("code"))
        else:
            return False
        return True

    def _post(self, submission: Submission) -> aiohttp.client._RequestContextManager:
        form = aiohttp.FormData()
        if submission.email:
            form.add_field("email", submission.email)
        for kind in submission.kinds:
            form.add_field("file", scan_file(kind), filename="scan.nii.gz")
        headers = {"Idempotency-Key": f'"{submission.key}"'}
        return self._system.http.post(f"{self._system.url}/api/jobs", data=form, headers=headers)
