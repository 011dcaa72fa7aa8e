"""A whole installation in the process of a test: every service, a stand-in for the network alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from aiohttp import ClientSession, FormData
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from redis.asyncio import Redis

from ingest.app import build
from ingest.settings import IngestSettings
from notifier.settings import NotifierSettings
from notifier.worker import serve
from pipeline.errors import ScanRefusedError
from pipeline.jobs import Jobs
from pipeline.keys import PROCESSORS, Keys
from pipeline.metrics import DeliveryMetrics, ScanMetrics, new_registry
from pipeline.storage import Storage
from pipeline.streams import Consumer, DeadLetters, Presence, TransientError, connect
from pipeline.web.health import listening
from processor.child import DetectionChild
from processor.scans import ScanHandler
from tests.support.nifti_files import compressed, good
from tests.support.ports import free_ports
from tests.support.results import REFUSAL, report, write_result
from tests.support.smtp_server import SmtpServer, running_smtp
from tests.support.viewing import running_viewer
from tests.support.waiting import eventually

ADDRESS = "reader@hospital.example"
SECRET = SecretStr("s" * 64)
ADMIN = SecretStr("the-administrator's-own")


@dataclass
class StandIn:
    """Stands in for the child process: refuses while it is told to, waits while it is held.

    Attributes:
        refuses: Whether the next scans are refused.
        breaks: How many of the next detections break down.
        let_go: Detections end once it is set.
    """

    refuses: bool = False
    breaks: int = 0
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def detect(self, _scan: Path, stage: Path, *, job_id: str, scan_id: str) -> None:
        """Detect as the child does."""
        await self.let_go.wait()
        if self.breaks:
            self.breaks -= 1
            raise TransientError("The stand-in was told to break down.")
        if self.refuses:
            raise ScanRefusedError(**REFUSAL.model_dump())
        write_result(stage, report(job_id, scan_id))


@dataclass(frozen=True)
class System:
    """What a test talks to.

    Attributes:
        settings: Of ingest.
        origin: Where ingest listens.
        client: Past the services, into Redis.
        http: A client of ingest; paths are enough.
        smtp: Where mails arrive.
        network: Stands in for the network.
        processor: The name of the consumer that runs scans.
        workers: Where processor and notifier tell of themselves.
    """

    settings: IngestSettings
    origin: str
    client: Redis
    http: ClientSession
    smtp: SmtpServer
    network: StandIn
    processor: str
    workers: Mapping[str, str]

    @property
    def storage(self) -> Storage:
        """Where jobs lie."""
        return self.settings.storage

    @property
    def keys(self) -> Keys:
        """The names in Redis."""
        return self.settings.keys

    @property
    def dead(self) -> DeadLetters:
        """What was given up."""
        return DeadLetters(self.client, self.keys.dead)

    async def submit(self, *, email: str | None = None) -> dict[str, Any]:
        """Submit one scan; returns the reply."""
        data = FormData()
        data.add_field("file", compressed(good()), filename="scan.nii.gz")
        if email:
            data.add_field("email", email)
        async with self.http.post("/api/jobs", data=data) as answer:
            assert answer.status == 202, await answer.text()
            return cast("dict[str, Any]", await answer.json())

    async def status(self, submitted: dict[str, Any]) -> dict[str, Any]:
        """Return the job's document."""
        token = submitted["status_url"].partition("token=")[2]
        async with self.http.get(f"/api/jobs/{submitted['job_id']}", params={"token": token}) as answer:
            assert answer.status == 200, await answer.text()
            return cast("dict[str, Any]", await answer.json())

    async def until_idle(self) -> None:
        """Wait until nothing waits or runs, mails included."""

        async def idle() -> bool:
            return not (await self.client.xlen(self.keys.scans) or await self.client.xlen(self.keys.results))

        await eventually(idle)


@asynccontextmanager
async def running_system(folder: Path, redis_url: str, **changed: Any) -> AsyncIterator[System]:  # noqa: ANN401 - any setting
    """Run an installation until the block ends; detections end at once unless `network.let_go` is cleared.

    Args:
        folder: For its data.
        redis_url: Of an empty Redis.
        changed: Settings of ingest that differ.
    """
    viewer_port = free_ports()
    known = {"viewer_url": f"http://127.0.0.1:{viewer_port}"} | changed
    settings = IngestSettings(secret_key=SECRET, redis_url=redis_url, data_dir=folder / "data", **known)
    client, network, stop = connect(redis_url), StandIn(), asyncio.Event()
    network.let_go.set()
    registry, mails_port, scans_port = new_registry(), free_ports(), free_ports()
    server = TestServer(build(settings))
    await server.start_server()
    async with running_smtp() as smtp, ClientSession(server.make_url("/")) as http:
        mails = NotifierSettings(
            secret_key=SECRET,
            redis_url=redis_url,
            data_dir=settings.data_dir,
            smtp_url=SecretStr(smtp.url),
            lease_ms=300,
            metrics_port=mails_port,
        )
        handler = ScanHandler(
            Jobs(client, settings.keys),
            settings.storage,
            cast("DetectionChild", network),
            ScanMetrics(registry),
        )
        processor = Consumer(
            client,
            stream=settings.keys.scans,
            group=PROCESSORS,
            dead_stream=settings.keys.dead,
            handler=handler.process,
            on_dead=handler.give_up,
            lease_ms=300,
            observers=(DeliveryMetrics(settings.keys.prefix, registry),),
        )
        tasks = [asyncio.create_task(work(stop)) for work in (processor.run, lambda s: serve(mails, s))]
        workers = {
            "processor": f"http://127.0.0.1:{scans_port}",
            "notifier": f"http://127.0.0.1:{mails_port}",
        }
        try:
            presence = Presence(client, settings.keys.workers)
            origin = str(server.make_url("/")).rstrip("/")
            async with (
                running_viewer(settings.data_dir, port=viewer_port, public_url=origin),
                listening(host="127.0.0.1", port=scans_port, checks={}, registry=registry),
                presence.announced(f"processor:{processor.name}", settings.lease_ms),
            ):
                yield System(settings, origin, client, http, smtp, network, processor.name, workers)
        finally:
            network.let_go.set()
            stop.set()
            await asyncio.gather(*tasks)
            await server.close()
            await client.aclose()
