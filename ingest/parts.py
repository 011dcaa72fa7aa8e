"""What the upload service is made of: each part once, made from the settings; nothing connects here."""

from __future__ import annotations

import os
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from prometheus_client import CollectorRegistry

from ingest.access import Access
from ingest.drop import DropFolder
from ingest.intake import Intake
from ingest.settings import IngestSettings
from ingest.status import Status
from ingest.uploads.store import LONGEST_SILENCE, UploadStore
from ingest.uploads.writers import Writers
from pipeline.job_news import JobNews
from pipeline.jobs import Jobs
from pipeline.ledger import LedgerReader
from pipeline.metrics import UploadMetrics, new_registry
from pipeline.settings import needed_folder
from pipeline.storage import Storage
from pipeline.streams import DeadLetters, Redis, connect, why_unavailable
from pipeline.web.health import Check


@dataclass(frozen=True)
class Parts:
    """The parts that more than one route or task of the service stands on.

    Attributes:
        settings: Of this service.
        storage: Where jobs lie.
        client: To Redis.
        redis: Says what is wrong with Redis.
        jobs: State of jobs.
        dead: What was given up.
        ledger: When what happened.
        news: Tells open pages of changes.
        access: Knows whose request may see a job.
        status: Tells how jobs stand.
        uploads: Resumable uploads.
        writers: Who is writing to which of them.
        door: Threads in which uploads are checked.
        intake: Makes jobs of submissions.
        drop: The drop folder; None without one.
        registry: Of the metrics.
    """

    settings: IngestSettings
    storage: Storage
    client: Redis
    redis: Check
    jobs: Jobs
    dead: DeadLetters
    ledger: LedgerReader
    news: JobNews
    access: Access
    status: Status
    uploads: UploadStore
    writers: Writers
    door: Executor
    intake: Intake
    drop: DropFolder | None
    registry: CollectorRegistry


def make(settings: IngestSettings) -> Parts:
    """Return the parts, and make the folders they need.

    Raises:
        ConfigurationError: DATA_DIR or DROP_DIR cannot be used.
    """
    storage = settings.storage
    with needed_folder("DATA_DIR", settings.data_dir):
        storage.create_folders()
    client, keys = connect(settings.redis_url), settings.keys
    redis, jobs, registry = partial(why_unavailable, client), Jobs(client, keys), new_registry()
    ledger = LedgerReader(storage.ledger, settings.retention + timedelta(days=1))
    door = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="door")
    intake = Intake(
        settings, storage=storage, jobs=jobs, redis=redis, door=door, metrics=UploadMetrics(registry)
    )
    return Parts(
        settings=settings,
        storage=storage,
        client=client,
        redis=redis,
        jobs=jobs,
        dead=DeadLetters(client, keys.dead),
        ledger=ledger,
        news=JobNews(client, keys),
        access=Access(settings.tokens, storage),
        status=Status(settings, storage, jobs, ledger),
        uploads=UploadStore(storage, min(LONGEST_SILENCE, settings.retention)),
        writers=Writers(storage),
        door=door,
        intake=intake,
        drop=_drop_folder(settings, intake, door),
        registry=registry,
    )


def _drop_folder(settings: IngestSettings, intake: Intake, door: Executor) -> DropFolder | None:
    if settings.drop_dir is None:
        return None
    drop = DropFolder(settings.drop_dir, intake, settings, door)
    with needed_folder("DROP_DIR", settings.drop_dir):
        drop.create_folders()
    return drop
