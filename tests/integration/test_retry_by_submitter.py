"""A submitter has a scan tried again that broke down, by the job's link alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.system import System, running_system


@pytest.fixture
async def system(tmp_path: Path, redis_url: str) -> AsyncIterator[System]:
    """An installation."""
    async with running_system(tmp_path, redis_url) as running:
        yield running


async def retry(system: System, submitted: dict[str, Any]) -> tuple[int, str | None]:
    """Ask for a retry of a job's scan; return status and, where it is refused, code."""
    url = f"/api/jobs/{submitted['job_id']}/scans/{submitted['scans'][0]['scan_id']}/retry"
    token = submitted["status_url"].partition("token=")[2]
    async with system.http.post(url, params={"token": token}) as answer:
        return answer.status, (await answer.json()).get("code")


async def test_a_scan_that_breaks_down_is_tried_again_three_times(system: System) -> None:
    """Each time its own dead letter is found among those of others."""
    system.network.breaks = (2 + 3) * system.settings.max_deliveries
    other, broken = await system.submit(), await system.submit()
    await system.until_idle()
    for _ in range(3):
        assert await retry(system, broken) == (202, None)
        assert await retry(system, broken) == (409, "not-retriable")
        await system.until_idle()
    assert await retry(system, broken) == (409, "not-retriable")
    retries = {letter.fields["scan_id"]: len(letter.history) for letter in await system.dead.list()}
    assert retries == {other["scans"][0]["scan_id"]: 0, broken["scans"][0]["scan_id"]: 3}


async def test_a_scan_whose_letter_was_dropped_is_not_tried_again(system: System) -> None:
    """Whoever runs the service decided so."""
    system.network.breaks = 2 * system.settings.max_deliveries
    broken, _other = await system.submit(), await system.submit()
    await system.until_idle()
    for letter in await system.dead.list():
        if letter.fields["job_id"] == broken["job_id"]:
            await system.dead.drop(letter.dead_id)
    assert await retry(system, broken) == (409, "not-retriable")
    assert len(await system.dead.list()) == 1
