"""The time ledger as result pages show it, and what it learns from them: when a link was first opened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from aiohttp import web

from pipeline.clock import now
from pipeline.ledger import Ledger, LedgerReader, Line, Moment, seconds
from pipeline.metrics import StageMetrics


class Visits:
    """Notes who is looked at, and tells when what happened to a scan.

    Args:
        folder: Where the ledger lies.
        retention: How old a scan can be.
        metrics: Of how long scans take.
    """

    def __init__(self, folder: Path, retention: timedelta, metrics: StageMetrics) -> None:
        self._ledger = Ledger(folder)
        self._noted = LedgerReader(folder, retention + timedelta(days=1))
        self._metrics = metrics

    async def read_on(self, _app: web.Application) -> AsyncIterator[None]:
        """Read what is there before the first request comes: of weeks, perhaps."""
        await asyncio.to_thread(self._noted.refresh)
        yield

    def note(self, job_id: str, scan_ids: Iterable[str]) -> None:
        """Note of scans with an outcome that they are looked at, unless they were before."""
        self._noted.refresh()
        for scan_id in scan_ids:
            moments, at = self.moments(scan_id), now()
            if "link_opened" not in moments:
                self._ledger.note(Line(at=at, moment="link_opened", job_id=job_id, scan_id=scan_id))
                self._metrics.spent({"opening": seconds({**moments, "link_opened": at}, "opening")})
        self._noted.refresh()

    def moments(self, scan_id: str) -> Mapping[Moment, datetime]:
        """Return when a scan was what, as of the last note, in the order in which it happened."""
        scan = self._noted.scan(scan_id)
        return dict(sorted(scan.moments.items(), key=lambda noted: noted[1])) if scan else {}
