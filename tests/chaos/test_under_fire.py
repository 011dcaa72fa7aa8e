"""The whole system under fire: whatever dies, nothing is lost and nothing is doubled.

The long run, and the table that comes of it, is `python -m benchmarks.chaos` (docs/reliability.md).
"""

from __future__ import annotations

import asyncio
import json
import warnings
from pathlib import Path

from tests.support.chaos.campaign import Campaign, Outcome, conduct
from tests.support.chaos.system import AppendFsync, Setting

KILLS = 32
"""Of each of the two campaigns."""
LEAST_SCANS = 60
ARTIFACTS = Path(__file__).parents[1] / "artifacts"


async def under_fire(folder: Path, appendfsync: AppendFsync, seed: int) -> Outcome:
    """Run a short campaign; its record is kept for people to look at."""
    home = folder / appendfsync
    home.mkdir()
    outcome = await conduct(Campaign(seed, KILLS, Setting(appendfsync=appendfsync)), home)
    ARTIFACTS.mkdir(exist_ok=True)
    (ARTIFACTS / f"chaos-{appendfsync}.json").write_text(json.dumps(outcome.as_json(), indent=1))
    return outcome


async def test_nothing_is_lost_or_doubled_whatever_dies(tmp_path: Path) -> None:
    """Every accepted scan ends exactly once, whole; every job that wants one has one mail.

    Ingest, processors, their children, notifier, viewer and Redis are killed and paused, the line is deleted
    and flushed, the disk is filled, the mail server misbehaves. Two installations at once, one with
    `appendfsync everysec`, one with `always`.
    """
    outcomes = await asyncio.gather(
        under_fire(tmp_path, "everysec", seed=20_261), under_fire(tmp_path, "always", seed=20_262)
    )
    for outcome in outcomes:
        ledger = outcome.ledger
        assert ledger.violations == []
        assert ledger.accepted == ledger.finished + ledger.failed + ledger.dead
        assert (ledger.lost, ledger.doubled) == (0, 0)
        assert ledger.accepted >= LEAST_SCANS
        assert outcome.kills >= KILLS
    if not all(outcome.disk_filled for outcome in outcomes):
        warnings.warn("The disk was not filled: mounting a small one takes root.", stacklevel=1)
