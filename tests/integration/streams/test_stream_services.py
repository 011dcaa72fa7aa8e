"""What the services themselves send to Redis while a job passes through all of them and things go wrong."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import pytest
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.client import Monitor
from redis.exceptions import RedisError

from corestream import api
from ingest.app import build
from ingest.settings import IngestSettings
from notifier.settings import NotifierSettings
from notifier.worker import serve
from pipeline.events import JobFinished, parse_event
from pipeline.keys import NOTIFIERS, PROCESSORS, Keys
from pipeline.streams import connect, publish
from tests.support.chaos.prepared import prepare
from tests.support.chaos.stand_in import VARIABLE, StandIn
from tests.support.nifti_files import compressed, good
from tests.support.redis_server import Kind, running_redis
from tests.support.smtp_server import SmtpServer, running_smtp
from tests.support.waiting import eventually

KEYS = Keys("corestream:")
KEY = "s" * 64
LEASE_MS = 1500
LAST_WORD = "enough"


@dataclass
class Record:
    """What was seen from outside during one run.

    Attributes:
        commands: Every command that Redis ran, those inside scripts included: when, and its words.
        mails: The Message-ID of each mail.
    """

    commands: list[tuple[float, list[str]]] = field(default_factory=list)
    mails: list[str] = field(default_factory=list)

    def sent(self, *names: str) -> list[list[str]]:
        """Return the commands of these names."""
        return [words for _, words in self.commands if words[0].upper() in names]


@pytest.fixture(scope="module")
def record(server_kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Record]:
    """A job of two scans that passed through all services, while events were repeated."""
    folder = tmp_path_factory.mktemp("services")
    with running_redis(folder, server_kind) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CORESTREAM_SECRET_KEY", KEY)
        stand_in = StandIn(str(prepare(folder / "prepared")), str(folder / "record"), 0.1, 0.5)
        patch.setenv(VARIABLE, json.dumps(asdict(stand_in)))
        record = Record()
        asyncio.run(_run(record, server.url, folder))
        yield record


async def _run(record: Record, redis_url: str, folder: Path) -> None:
    client = connect(redis_url)
    async with client.monitor() as monitor, running_smtp() as smtp:
        listening = asyncio.create_task(_listen(monitor, record))
        async with _services(redis_url, folder, smtp) as ingest:
            await _pass_a_job_through(client, ingest, folder)
        record.mails = [str(mail["Message-ID"]) for mail in smtp.mails]
        await client.echo(LAST_WORD)
        await listening
    await client.aclose()


async def _listen(monitor: Monitor, record: Record) -> None:
    async for seen in monitor.listen():
        words = str(seen["command"]).split(" ")
        if words[-1] == LAST_WORD:
            return
        record.commands.append((float(seen["time"]), words))


@asynccontextmanager
async def _services(redis_url: str, folder: Path, smtp: SmtpServer) -> AsyncIterator[TestServer]:
    shared = {"secret_key": SecretStr(KEY), "redis_url": redis_url, "data_dir": folder / "data"}
    ingest = TestServer(build(IngestSettings.model_validate(shared)))
    await ingest.start_server()
    stop = asyncio.Event()
    settings = NotifierSettings.model_validate(
        {**shared, "smtp_url": SecretStr(smtp.url), "lease_ms": LEASE_MS}
    )
    notifying = asyncio.create_task(serve(settings, stop))
    environment = {"REDIS_URL": redis_url, "DATA_DIR": str(folder / "data"), "LEASE_MS": str(LEASE_MS)}
    processor = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.chaos.stand_in",
        env=os.environ | {f"CORESTREAM_{name}": value for name, value in environment.items()},
    )
    try:
        yield ingest
    finally:
        processor.terminate()
        await processor.wait()
        stop.set()
        await notifying
        await ingest.close()


async def _pass_a_job_through(client: Redis, ingest: TestServer, folder: Path) -> None:
    scans = [folder / f"{number}.nii.gz" for number in (1, 2)]
    for scan in scans:
        scan.write_bytes(compressed(good()))
    async with api.session() as http:
        job = await api.submit(http, str(ingest.make_url("")).rstrip("/"), scans, "reader@hospital.example")
    job_id = job["job_id"]
    entries = await client.xrange(KEYS.scans)
    assert entries
    await publish(client, KEYS.scans, cast("Mapping[str, str]", entries[1][1]))  # the second scan, once more

    await eventually(lambda: _is_mailed(client, job_id))
    await publish(client, KEYS.results, JobFinished(job_id=job_id).to_fields())

    async def empty() -> bool:
        return not await client.xlen(KEYS.scans) and not await client.xlen(KEYS.results)

    await eventually(empty)


async def _is_mailed(client: Redis, job_id: str) -> bool:
    with suppress(RedisError):
        return await client.hget(KEYS.job(job_id), "mail") == "sent"
    return False


def test_each_stream_has_one_group(record: Record) -> None:
    """Rule 14: two groups on a stream would hide its entries from one another."""
    groups = {(words[2], words[words.index("STREAMS") + 1]) for words in record.sent("XREADGROUP")}
    assert groups == {(PROCESSORS, KEYS.scans), (NOTIFIERS, KEYS.results)}
    made = {(words[3], words[2]) for words in record.sent("XGROUP") if words[1].upper() == "CREATE"}
    assert made == groups


def test_no_work_stream_is_trimmed(record: Record) -> None:
    """Rule 15: MAXLEN would delete unread and running entries without a word."""
    work = (KEYS.scans, KEYS.results, KEYS.dead)
    added = [words for words in record.sent("XADD") if words[1] in work]
    assert len(added) >= 7
    assert all(words[2] == "*" for words in added)
    assert record.sent("XTRIM") == []


def test_results_are_keyed_by_the_scan_not_by_the_entry(record: Record) -> None:
    """Rule 17: a scan that stood in line twice has one result."""
    added = [words[3:] for words in record.sent("XADD") if words[1] == KEYS.results]
    events = [parse_event(dict(zip(words[::2], words[1::2], strict=True))) for words in added]
    counts = Counter(event.type for event in events)
    assert counts == {"scan.processed": 2, "job.finished": 2}  # of these the second is the repeat
    assert len({event.scan_id for event in events if event.type == "scan.processed"}) == 2


def test_a_job_is_mailed_once(record: Record) -> None:
    """Rule 18: the receipt stands before the acknowledgement, so a repeated event sends no second mail."""
    assert len(record.mails) == 1


def test_nothing_is_read_without_a_claim_to_it(record: Record) -> None:
    """Rule 22: NOACK is never sent, and each group that is read is swept for what nobody acknowledged."""
    reads = record.sent("XREADGROUP")
    assert reads
    assert not any("NOACK" in (word.upper() for word in words) for words in reads)
    swept = {words[1] for words in record.sent("XPENDING") if words[3:5] == ["-", "+"]}
    assert swept == {KEYS.scans, KEYS.results}
