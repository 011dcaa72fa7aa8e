"""Dead letters over HTTP: who may see them, and that they do what `corestream dead` does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ingest.admin.access import COOKIE, TRIES
from pipeline.keys import PROCESSORS
from pipeline.streams import ensure_group, publish
from tests.support.system import ADMIN, System, running_system
from tests.support.waiting import eventually

BEARER = {"Authorization": f"Bearer {ADMIN.get_secret_value()}"}


@pytest.fixture
async def system(tmp_path: Path, redis_url: str) -> AsyncIterator[System]:
    """An installation with an administrator."""
    async with running_system(tmp_path, redis_url, admin_token=ADMIN) as running:
        yield running


async def refused_scan(system: System) -> tuple[dict[str, Any], dict[str, Any]]:
    """Submit a scan that is refused; returns the reply and the dead letter."""
    system.network.refuses = True
    submitted = await system.submit()
    await system.until_idle()
    async with system.http.get("/api/dead", headers=BEARER) as answer:
        assert answer.status == 200
        (letter,) = (await answer.json())["letters"]
    return submitted, letter


async def test_a_scan_is_retried_over_http(system: System) -> None:
    """Listed, shown, put back in line, done; then there is nothing left to retry."""
    submitted, letter = await refused_scan(system)
    assert letter["fields"]["scan_id"] == submitted["scans"][0]["scan_id"]
    url = f"/api/dead/{letter['dead_id']}"
    async with system.http.get(url, headers=BEARER) as answer:
        assert await answer.json() == letter
    system.network.refuses = False
    async with system.http.post(f"{url}/retry", headers=BEARER) as answer:
        assert answer.status == 200
        assert (await answer.json())["entry_id"]

    async def done() -> bool:
        return bool((await system.status(submitted))["scans"][0]["state"] == "done")

    await eventually(done)
    async with system.http.post(f"{url}/retry", headers=BEARER) as answer:
        assert (answer.status, (await answer.json())["code"]) == (404, "letter-unknown")


async def test_a_letter_is_dropped_over_http(system: System) -> None:
    """It is gone for good; its job stays failed."""
    submitted, letter = await refused_scan(system)
    url = f"/api/dead/{letter['dead_id']}"
    async with system.http.delete(url, headers=BEARER) as answer:
        assert answer.status == 204
    async with system.http.delete(url, headers=BEARER) as answer:
        assert (answer.status, (await answer.json())["code"]) == (404, "letter-unknown")
    assert await system.dead.list() == []
    assert (await system.status(submitted))["state"] == "finished"


async def test_what_cannot_be_retried_is_said(system: System) -> None:
    """A deleted job 410, a limit that is none 422, bytes that are no text in escapes."""
    submitted, letter = await refused_scan(system)
    system.storage.delete_job(submitted["job_id"])
    async with system.http.post(f"/api/dead/{letter['dead_id']}/retry", headers=BEARER) as answer:
        assert (answer.status, (await answer.json())["code"]) == (410, "job-gone")
    for unknown in ("1-0", f"{'9' * 20}-0", f"1-{'9' * 20}", "0"):
        async with system.http.get(f"/api/dead/{unknown}", headers=BEARER) as answer:
            assert (answer.status, (await answer.json())["code"]) == (404, "letter-unknown")
    for limit in ("0", "1001", "-1", "many", "00000000100000", "²"):
        async with system.http.get("/api/dead", params={"limit": limit}, headers=BEARER) as answer:
            assert (answer.status, (await answer.json())["code"]) == (422, "limit-invalid")
    await ensure_group(system.client, system.keys.scans, PROCESSORS)
    await publish(system.client, system.keys.scans, {"type": "\udcff"})
    await system.until_idle()
    async with system.http.get("/api/dead", params={"limit": "1"}, headers=BEARER) as answer:
        (poison,) = (await answer.json())["letters"]
    assert poison["fields"]["type"] == "\\xff"


async def test_a_scan_that_has_its_result_is_not_retried(system: System) -> None:
    """409 with the words of the command."""
    submitted, letter = await refused_scan(system)
    scan_id = submitted["scans"][0]["scan_id"]
    await system.client.hset(system.keys.job(submitted["job_id"]), f"{scan_id}:state", "done")
    async with system.http.post(f"/api/dead/{letter['dead_id']}/retry", headers=BEARER) as answer:
        problem = await answer.json()
    assert (answer.status, problem["code"]) == (409, "letter-not-retried")
    assert "has its result" in problem["detail"]


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "admin-token-missing"),
        ({"Cookie": f"{COOKIE}=forged"}, 401, "admin-token-missing"),
        ({"Authorization": "Basic Omtleq=="}, 401, "admin-token-missing"),
        ({"Authorization": "Bearer wrong"}, 403, "admin-token-wrong"),
        ({"Authorization": "Bearer \xff"}, 403, "admin-token-wrong"),
    ],
)
async def test_nobody_else_is_let_in(system: System, headers: dict[str, str], status: int, code: str) -> None:
    """Neither to look nor to change."""
    for method, path in (
        ("GET", "/api/dead"),
        ("GET", "/api/dead/1-1"),
        ("POST", "/api/dead/1-1/retry"),
        ("DELETE", "/api/dead/1-1"),
    ):
        async with system.http.request(method, path, headers=headers) as answer:
            assert (answer.status, (await answer.json())["code"]) == (status, code)


async def test_a_cookie_of_bytes_that_are_no_text_is_no_session(system: System) -> None:
    """No client of aiohttp sends them, so they go by a bare connection."""
    host, port = system.origin.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET /api/dead HTTP/1.0\r\nCookie: {COOKIE}=".encode() + b"\xff\r\n\r\n")
    assert (await reader.readline()).split()[1] == b"401"
    writer.close()


async def test_who_guesses_is_slowed_down(system: System) -> None:
    """After some wrong tokens even the right one has to wait: the answer tells nothing any more."""
    for _ in range(TRIES):
        async with system.http.get("/api/dead", headers={"Authorization": "Bearer no"}) as answer:
            assert answer.status == 403
    async with system.http.get("/api/dead", headers=BEARER) as answer:
        assert (answer.status, (await answer.json())["code"]) == (429, "too-many-tries")
        assert answer.headers["Retry-After"] == "60"
    another = BEARER | {"X-Forwarded-For": "10.0.0.2"}  # from behind the same proxy
    async with system.http.get("/api/dead", headers=another) as answer:
        assert answer.status == 200


async def test_without_a_token_it_says_how_to_turn_it_on(tmp_path: Path, redis_url: str) -> None:
    """Closed by default, and no token opens it."""
    async with running_system(tmp_path, redis_url) as system:
        for headers in ({}, BEARER, {"Authorization": "Bearer "}):
            async with system.http.get("/api/dead", headers=headers) as answer:
                problem = await answer.json()
            assert (answer.status, problem["code"]) == (403, "admin-off")
            assert "CORESTREAM_ADMIN_TOKEN" in problem["detail"]
