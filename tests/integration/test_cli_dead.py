"""`corestream dead` and `corestream jobs` as an operator uses them, against a real Redis."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from corestream.up import redis_server
from pipeline.errors import Failure
from pipeline.events import ScanFailed
from pipeline.jobs import Jobs
from pipeline.keys import PROCESSORS, Keys
from pipeline.storage import JobRecord, Storage
from pipeline.streams import (
    Consumer,
    Delivery,
    Effect,
    PermanentError,
    Reason,
    connect,
    ensure_group,
    publish,
)
from tests.support.results import accepted_job
from tests.support.waiting import PATIENCE_S, eventually

ROOT = Path(__file__).parents[2]
KEYS = Keys("corestream:")
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty installation."""
    storage = Storage(tmp_path / "data")
    storage.create_folders()
    return storage


@pytest.fixture
def corestream(redis_url: str, storage: Storage) -> Command:
    """Run a command as an operator does."""

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        known = {"CORESTREAM_REDIS_URL": redis_url, "CORESTREAM_DATA_DIR": str(storage.root)}
        return subprocess.run(
            [sys.executable, "-m", "corestream", *arguments],
            cwd=ROOT,
            env=os.environ | known | settings,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    return run


@pytest.fixture
async def failed_job(redis_url: str, storage: Storage) -> AsyncIterator[JobRecord]:
    """A job whose scan was given up, and beside it an entry that is no text."""
    client = connect(redis_url)
    jobs = Jobs(client, KEYS)
    await ensure_group(client, KEYS.scans, PROCESSORS)
    job = accepted_job(storage)
    await jobs.enqueue(job, storage)
    await publish(client, KEYS.scans, {"type": b"\xff[red]".decode("utf-8", "surrogateescape")})

    async def refuse(_: Delivery) -> Effect:
        raise PermanentError("[b]no head[/b]")

    async def tell(delivery: Delivery, _: Reason) -> Effect:
        if "scan_id" not in delivery.fields:
            return Effect.none()
        failure = Failure(code="c", title="t", detail="d")
        scan_id = job.scans[0].scan_id
        storage.write_failure(job.job_id, scan_id, failure)
        event = ScanFailed(job_id=job.job_id, scan_id=scan_id, path="p", **failure.model_dump())
        return jobs.scan_ended(event)

    consumer = Consumer(
        client, stream=KEYS.scans, group=PROCESSORS, dead_stream=KEYS.dead, handler=refuse, on_dead=tell
    )
    stop = asyncio.Event()
    task = asyncio.create_task(consumer.run(stop))

    async def both_dead() -> bool:
        return int(await client.xlen(KEYS.dead)) == 2

    await eventually(both_dead)
    stop.set()
    await task
    yield job
    await client.aclose()


async def test_a_dead_letter_is_listed_shown_retried_and_dropped(
    corestream: Command, failed_job: JobRecord
) -> None:
    """What an operator does after the cause is mended; programs get the same as JSON."""
    letters = json.loads(corestream("dead", "list", "--json").stdout)
    poison, scan = letters
    assert scan["fields"]["job_id"] == failed_job.job_id
    assert scan["error"] == "PermanentError: [b]no head[/b]"
    assert poison["fields"]["type"] == "\\xff[red]"
    listed = corestream("dead", "list", COLUMNS="300").stdout
    assert scan["dead_id"] in listed
    assert failed_job.job_id in listed
    assert "[b]no head[/b]" in listed

    retried = json.loads(corestream("dead", "retry", scan["dead_id"], "--json").stdout)
    assert [outcome["error"] for outcome in retried] == [None]
    (job,) = json.loads(corestream("jobs", "--json").stdout)
    assert (job["job_id"], job["state"], list(job["scans"].values())) == (
        failed_job.job_id,
        "open",
        ["waiting"],
    )
    assert "1 waiting" in corestream("jobs", COLUMNS="200").stdout

    again = corestream("dead", "retry", scan["dead_id"])
    assert again.returncode == 1
    assert "none of that id" in again.stderr

    shown = corestream("dead", "show", poison["dead_id"]).stdout
    assert "\\xff[red]" in shown
    assert corestream("dead", "drop", poison["dead_id"]).returncode == 0
    assert corestream("dead", "show", poison["dead_id"]).returncode == 1
    assert "Nothing was given up" in corestream("dead", "list").stdout


async def test_all_are_retried_and_what_is_refused_is_said(
    corestream: Command, failed_job: JobRecord, storage: Storage
) -> None:
    """One deleted job does not keep the others from their retry; the exit status tells."""
    storage.delete_job(failed_job.job_id)
    done = corestream("dead", "retry", "--all", "--json")
    assert done.returncode == 1
    oldest, newest = json.loads(done.stdout)
    assert "deleted" in oldest["error"]
    assert newest["entry_id"]
    assert len(json.loads(corestream("dead", "list", "--json").stdout)) == 1


@pytest.mark.parametrize(
    "arguments", [("retry",), ("retry", "1-1", "--all"), ("show", "1"), ("drop", "$"), ("retry", "all")]
)
def test_a_wrong_call_is_told_what_was_expected(corestream: Command, arguments: tuple[str, ...]) -> None:
    """Exit status 2, and nothing happens."""
    refused = corestream("dead", *arguments)
    assert refused.returncode == 2
    assert "Expected the id of a dead letter" in refused.stderr


def test_without_a_redis_the_operator_hears_how_to_name_one(corestream: Command, storage: Storage) -> None:
    """Neither a server by its address nor a `corestream up` in the folder."""
    nobody = corestream("dead", "list", CORESTREAM_REDIS_URL="")
    assert nobody.returncode == 2
    assert str(storage.root / "redis" / "redis.sock") in nobody.stderr
    assert "--data" in nobody.stderr
    away = corestream("dead", "list", CORESTREAM_REDIS_URL="redis://127.0.0.1:1/0")
    assert away.returncode == 2
    assert "CORESTREAM_REDIS_URL" in away.stderr


async def test_the_redis_of_a_running_up_is_found_in_its_folder(
    corestream: Command, storage: Storage
) -> None:
    """On one machine `--data` is all that has to be said."""
    home = storage.root / "redis"
    home.mkdir()
    with redis_server.socket_path(home) as socket:
        assert socket.parent == home, "the test's folder is too deep for a socket"
        server = subprocess.Popen(  # noqa: ASYNC220 - starts at once
            redis_server.command(redis_server.find_server(), home, socket)
        )
        try:

            async def listens() -> bool:
                return socket.exists()

            await eventually(listens)
            found = corestream("dead", "list", "--data", str(storage.root), CORESTREAM_REDIS_URL="")
            assert "Nothing was given up" in found.stdout, found.stderr
        finally:
            server.kill()
            server.wait()
