"""Redis is killed under every service at every stage of a job: all wait, say so, go on, and lose nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientSession, FormData
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from ingest.app import build
from ingest.settings import IngestSettings
from notifier.settings import NotifierSettings
from notifier.worker import serve as serve_notifier
from pipeline.events import JobFinished
from pipeline.ids import new_id
from pipeline.keys import NOTIFIERS
from pipeline.streams import Delivery, RedisError, connect, ensure_group, publish
from pipeline.streams.scripts import Scripts
from processor.settings import ProcessorSettings
from processor.worker import serve as serve_processor
from tests.support.chaos.prepared import prepare
from tests.support.chaos.stand_in import StandIn
from tests.support.nifti_files import compressed, good
from tests.support.ports import free_ports
from tests.support.redis_server import RedisServer
from tests.support.smtp_server import SmtpServer, running_smtp
from tests.support.waiting import eventually

DETECTION_S = 2.0
LEASE_MS = 1000


@dataclass(frozen=True)
class Services:
    """Ingest, processor and notifier, each with its `/readyz`."""

    http: ClientSession
    addresses: dict[str, str]
    smtp: SmtpServer
    record: Path

    async def submit(self) -> str:
        """Submit a scan with an address; returns where to ask for the job."""
        form = FormData({"email": "reader@hospital.example"}, default_to_multipart=True)
        form.add_field("file", compressed(good()), filename="scan.nii.gz")
        async with self.http.post(f"{self.addresses['ingest']}/api/jobs", data=form) as answer:
            assert answer.status == 202, await answer.text()
            return f"{self.addresses['ingest']}/{(await answer.json())['status_url'].split('/', 3)[3]}"

    async def read(self, address: str) -> dict[str, Any]:
        """Return a job's document."""
        async with self.http.get(address) as answer:
            document: dict[str, Any] = await answer.json()
            return document

    async def until_all_are(self, status: int) -> None:
        """Wait until every service answers `/readyz` so."""

        async def agreed() -> bool:
            return {await self._readiness(address) for address in self.addresses.values()} == {status}

        await eventually(agreed)

    async def _readiness(self, address: str) -> int:
        try:
            async with self.http.get(f"{address}/readyz") as answer:
                return answer.status
        except ClientConnectionError:
            return 0

    def starts(self) -> int:
        """Return how many detections have begun."""
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        return sum(json.loads(line)["what"] == "start" for line in lines)


@asynccontextmanager
async def running_services(folder: Path, redis_url: str) -> AsyncIterator[Services]:
    """Run all of them until the block ends."""
    shared = {"secret_key": SecretStr("s" * 64), "redis_url": redis_url, "data_dir": folder / "data"}
    detection = StandIn(str(prepare(folder / "prepared")), str(folder / "record"), DETECTION_S, DETECTION_S)
    ports, stop = (free_ports(), free_ports()), asyncio.Event()
    ingest = TestServer(build(IngestSettings.model_validate(shared)))
    async with running_smtp() as smtp, ClientSession() as http, asyncio.TaskGroup() as tasks:
        await ingest.start_server()
        worker = {**shared, "lease_ms": LEASE_MS}
        scans = ProcessorSettings.model_validate({**worker, "metrics_port": ports[0]})
        mails = {**worker, "metrics_port": ports[1], "smtp_url": SecretStr(smtp.url)}
        tasks.create_task(serve_processor(scans, stop, detection))
        tasks.create_task(serve_notifier(NotifierSettings.model_validate(mails), stop))
        addresses = {
            "ingest": str(ingest.make_url("/")).rstrip("/"),
            "processor": f"http://127.0.0.1:{ports[0]}",
            "notifier": f"http://127.0.0.1:{ports[1]}",
        }
        try:
            yield Services(http, addresses, smtp, folder / "record")
        finally:
            smtp.released.set()
            stop.set()
            await ingest.close()


@pytest.mark.parametrize("moment", ["before they start", "during the detection", "during the mail"])
async def test_services_wait_for_redis_and_go_on(
    tmp_path: Path, redis_server: RedisServer, moment: str
) -> None:
    """One detection, one mail, whenever Redis dies, for longer than a lease; nobody is ready meanwhile."""
    if moment == "before they start":
        redis_server.kill()
    async with running_services(tmp_path, redis_server.url) as services:
        address = ""
        if moment != "before they start":
            await services.until_all_are(200)
            services.smtp.released.clear()
            address = await services.submit()

            async def reached() -> bool:
                return bool(services.starts() if moment == "during the detection" else services.smtp.tries)

            await eventually(reached)
            redis_server.kill()
        await services.until_all_are(503)
        await asyncio.sleep(1.5 * LEASE_MS / 1000)
        services.smtp.released.set()
        await asyncio.to_thread(redis_server.start)
        await services.until_all_are(200)
        address = address or await services.submit()

        async def mailed() -> bool:
            return bool((await services.read(address))["mail"] == "sent")

        await eventually(mailed)
        (scan,) = (await services.read(address))["scans"]
        assert (scan["state"], scan["deliveries"]) == ("done", 1)
        assert services.starts() == 1
        assert len(services.smtp.mails) == 1


async def test_a_worker_that_starts_in_an_outage_leaves_the_living_their_work(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """After an outage longer than a lease all that runs looks abandoned, to those too who came meanwhile."""
    settings = NotifierSettings(
        secret_key=SecretStr("s" * 64),
        redis_url=redis_server.url,
        data_dir=tmp_path / "data",
        smtp_url=SecretStr("smtp://127.0.0.1:1"),
        lease_ms=4 * LEASE_MS,
    )
    client, results = connect(redis_server.url), settings.keys.results
    await ensure_group(client, results, NOTIFIERS)
    entry_id = await publish(client, results, JobFinished(job_id=new_id()).to_fields())
    await client.xreadgroup(NOTIFIERS, "living", {results: ">"})
    redis_server.kill()
    stop = asyncio.Event()

    async def came() -> bool:
        with suppress(RedisError):
            return len(await client.xinfo_consumers(results, NOTIFIERS)) > 1
        return False

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve_notifier(settings, stop))
        await asyncio.sleep(1.2 * settings.lease_ms / 1000)
        await asyncio.to_thread(redis_server.start)
        await eventually(came)
        await asyncio.sleep(0.2 * settings.lease_ms / 1000)  # the living try every tenth of a lease
        is_kept = await Scripts(client).renew(Delivery(results, NOTIFIERS, "living", entry_id, {}, count=1))
        stop.set()
    await client.aclose()
    assert is_kept
