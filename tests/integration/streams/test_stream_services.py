"""What the services themselves send to Redis while a job passes through all of them and things go wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
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
from pipeline.jobs import Jobs
from pipeline.keys import NOTIFIERS, PROCESSORS, Keys
from pipeline.streams import connect, publish
from processor.synthetic.samples import write_samples
from tests.support.redis_server import Kind, running_redis
from tests.support.smtp_server import SmtpServer, running_smtp
from tests.support.waiting import eventually

KEYS = Keys("corestream:")
KEY = "s" * 64
LEASE_MS = 1500
LAST_WORD = "enough"
PATIENCE_S = 120.0
"""Two processes load TensorFlow, one after the other."""


@dataclass
class Record:
    """What was seen from outside during one run.

    Attributes:
        commands: Every command that Redis ran, those inside scripts included: when, and its words.
        deliveries: Of each scan, in the order of submission.
        mails: The Message-ID of each mail.
    """

    commands: list[tuple[float, list[str]]] = field(default_factory=list)
    deliveries: list[int] = field(default_factory=list)
    mails: list[str] = field(default_factory=list)

    def sent(self, *names: str) -> list[list[str]]:
        """Return the commands of these names."""
        return [words for _, words in self.commands if words[0].upper() in names]


@pytest.fixture(scope="module")
def record(server_kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Record]:
    """A job of two scans that passed through all services: a child was killed, events were repeated."""
    folder = tmp_path_factory.mktemp("services")
    with running_redis(folder, server_kind) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CORESTREAM_SECRET_KEY", KEY)
        record = Record()
        asyncio.run(_run(record, server.url, folder, write_samples(folder / "samples", count=2)))
        yield record


async def _run(record: Record, redis_url: str, folder: Path, samples: list[Path]) -> None:
    client = connect(redis_url)
    async with client.monitor() as monitor, running_smtp() as smtp:
        listening = asyncio.create_task(_listen(monitor, record))
        async with _services(redis_url, folder, smtp) as (ingest, processor):
            await _pass_a_job_through(record, client, ingest, processor, samples)
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
async def _services(
    redis_url: str, folder: Path, smtp: SmtpServer
) -> AsyncIterator[tuple[TestServer, asyncio.subprocess.Process]]:
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
        "processor",
        env=os.environ | {f"CORESTREAM_{name}": value for name, value in environment.items()},
    )
    try:
        yield ingest, processor
    finally:
        processor.terminate()
        await processor.wait()
        stop.set()
        await notifying
        await ingest.close()


async def _pass_a_job_through(
    record: Record,
    client: Redis,
    ingest: TestServer,
    processor: asyncio.subprocess.Process,
    scans: list[Path],
) -> None:
    async with api.session() as http:
        job = await api.submit(http, str(ingest.make_url("")).rstrip("/"), scans, "reader@hospital.example")
    job_id, scan_ids = job["job_id"], [scan["scan_id"] for scan in job["scans"]]
    entries = await client.xrange(KEYS.scans)
    assert entries
    await publish(client, KEYS.scans, cast("Mapping[str, str]", entries[1][1]))  # the second scan, once more

    async def detecting() -> bool:
        return await client.hget(KEYS.job(job_id), f"{scan_ids[0]}:state") == "detecting"

    await eventually(detecting, within_s=PATIENCE_S)
    os.kill(_network_process(processor.pid), signal.SIGKILL)
    await eventually(lambda: _is_mailed(client, job_id), within_s=PATIENCE_S)
    await publish(client, KEYS.results, JobFinished(job_id=job_id).to_fields())

    async def empty() -> bool:
        return not await client.xlen(KEYS.scans) and not await client.xlen(KEYS.results)

    await eventually(empty, within_s=PATIENCE_S)
    state = await Jobs(client, KEYS).read(job_id)
    assert state is not None
    record.deliveries = [state.scans[scan_id].deliveries for scan_id in scan_ids]


def _network_process(worker: int) -> int:
    """Return the worker's child that runs the network; the other is multiprocessing's resource tracker."""
    lists = [(task / "children").read_text() for task in Path(f"/proc/{worker}/task").iterdir()]
    children = [int(child) for text in lists for child in text.split()]
    (found,) = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return found


async def _is_mailed(client: Redis, job_id: str) -> bool:
    with suppress(RedisError):
        return await client.hget(KEYS.job(job_id), "mail") == "sent"
    return False


def test_renewal_is_kept_off_the_jobs_thread(record: Record) -> None:
    """Rule 7: while TensorFlow keeps every core busy no lease goes unrenewed, and so none is lost."""
    renewed: dict[str, list[float]] = {}
    for at, words in record.commands:
        if words[:2] == ["XCLAIM", KEYS.scans] and words[4:5] == ["0"] and words[6:] == ["JUSTID"]:
            renewed.setdefault(words[5], []).append(at)
    assert sum(len(times) for times in renewed.values()) >= 2
    gaps = [later - earlier for times in renewed.values() for earlier, later in pairwise(times)]
    assert max(gaps, default=0) < LEASE_MS / 1000
    assert record.deliveries[1] == 1


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
    """Rule 17: a scan that stood in line twice and one that was started twice have one result each."""
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


def test_a_killed_child_costs_its_own_scan_one_delivery(record: Record) -> None:
    """Rule 24: the pool is made anew, the scan that ran there starts again, the other is not charged."""
    assert record.deliveries == [2, 1]
