"""The upload service: builds it from its settings, and runs it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog
from aiohttp import web

from ingest import api_keys, reference
from ingest.access import Access
from ingest.admin.access import Admin
from ingest.admin.letters import Letters
from ingest.admin.numbers import Inspection, Numbers
from ingest.admin.page import MonitorPage
from ingest.deletion import Deletion
from ingest.documents import JobDocument, json_response
from ingest.drop import DropFolder
from ingest.feedback import FeedbackDesk
from ingest.intake import Intake
from ingest.live import Live
from ingest.pages import Pages
from ingest.rates import Rates
from ingest.retrying import Retrying
from ingest.settings import IngestSettings
from ingest.status import Status
from ingest.submission import Submissions
from ingest.sweeper import Sweeper
from ingest.uploads.handlers import Uploads
from ingest.uploads.joining import Joining
from ingest.uploads.store import LONGEST_SILENCE, UploadStore
from ingest.uploads.writers import Writers
from pipeline import logging
from pipeline.audit import Action
from pipeline.errors import ConfigurationError
from pipeline.job_news import JobNews
from pipeline.jobs import Jobs
from pipeline.keys import NOTIFIERS, PROCESSORS
from pipeline.ledger import LedgerReader
from pipeline.metrics import InstallationMetrics, UploadMetrics, new_registry
from pipeline.service import exit_for
from pipeline.settings import load
from pipeline.storage import Storage
from pipeline.streams import (
    DeadLetters,
    Presence,
    connect,
    durability_warnings,
    ensure_group,
    read_pending,
    read_server,
    wait_until_ready,
    warn_unless_durable,
    why_unavailable,
)
from pipeline.web import auditing
from pipeline.web.app import build_app, run
from pipeline.web.health import Check
from pipeline.web.openapi import Operation, described

log = structlog.get_logger()

_HERE = Path(__file__).parent

SWEEP_EVERY_S = 60.0


def build(settings: IngestSettings, *, sweep_every_s: float = SWEEP_EVERY_S) -> web.Application:
    """Return the upload service.

    Args:
        settings: Of this service.
        sweep_every_s: Between two sweeps, seconds.

    Raises:
        ConfigurationError: DATA_DIR cannot be used.
    """
    storage = _storage(settings)
    client = connect(settings.redis_url)
    keys = settings.keys
    jobs = Jobs(client, keys)
    ledger = LedgerReader(storage.ledger, settings.retention + timedelta(days=1))
    news = JobNews(client, keys)
    door = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="door")
    uploads = UploadStore(storage, min(LONGEST_SILENCE, settings.retention))

    redis = partial(why_unavailable, client)
    registry = new_registry()
    metrics = UploadMetrics(registry)
    intake = Intake(settings, storage=storage, jobs=jobs, redis=redis, door=door, metrics=metrics)
    drop = _drop_folder(settings, intake, door)

    async def ensure_groups() -> None:
        await ensure_group(client, keys.scans, PROCESSORS)
        await ensure_group(client, keys.results, NOTIFIERS)

    async def check_durability(stop: asyncio.Event) -> None:
        await wait_until_ready(client, stop)
        await warn_unless_durable(client)

    async def end_streams(_app: web.Application) -> None:
        news.end()

    async def lifetime(_app: web.Application) -> AsyncIterator[None]:
        sweeper = Sweeper(storage, jobs, uploads, settings.audit, ensure_groups, sweep_every_s)
        await asyncio.to_thread(ledger.refresh)  # of weeks, perhaps: not while a request waits
        stop = asyncio.Event()
        works = [sweeper.run, check_durability, news.run, *([drop.run] if drop else [])]
        tasks = [asyncio.create_task(work(stop)) for work in works]
        yield
        stop.set()
        await asyncio.gather(*tasks)
        door.shutdown(cancel_futures=True)
        await client.aclose()

    app = build_app(
        templates=_HERE / "templates",
        checks={"redis": redis, "disk": _disk(storage, settings.min_free_bytes)},
        registry=registry,
        refresh=InstallationMetrics(jobs.read_streams, storage.free_bytes, registry).refresh,
    )
    app.cleanup_ctx.append(lifetime)
    app.on_shutdown.append(end_streams)
    admin, dead = Admin(settings), DeadLetters(client, keys.dead)
    inspection = Inspection(
        pending=partial(read_pending, client, stream=keys.scans, group=PROCESSORS),
        server=partial(read_server, client),
        warnings=partial(durability_warnings, client),
        presence=Presence(client, keys.workers),
    )
    numbers = Numbers(settings, jobs, dead, ledger, inspection)
    _add_admin_routes(app, MonitorPage(admin, numbers, Letters(admin, dead, jobs, storage)))
    access = Access(settings.tokens, storage)
    status = Status(settings, storage, jobs, ledger)
    _add_changes(
        app,
        Deletion(access, storage, jobs),
        FeedbackDesk(settings, access, storage),
        Retrying(access, storage, jobs, dead),
    )
    writers = Writers(storage)
    rates = Rates(settings.uploads_per_minute, settings.trusted_proxies)
    Uploads(settings, storage, uploads, writers, intake.limits, rates).add_routes(app)
    _add_watch(app, settings)
    _add_routes(
        app,
        Submissions(settings, storage, intake, Joining(uploads, writers, intake.limits, door), rates),
        Pages(settings, access, status, news),
        Live(access, status, news),
    )
    reference.add_routes(app)
    return app


_AUDITED: dict[tuple[str, str], Action] = {
    ("POST", "/api/jobs"): "submit",
    ("GET", "/api/jobs/{job_id}"): "view",
    ("GET", "/jobs/{job_id}"): "view",
    ("DELETE", "/api/jobs/{job_id}"): "delete",
    ("POST", "/jobs/{job_id}/delete"): "delete",
}


def _add_watch(app: web.Application, settings: IngestSettings) -> None:
    """Write down who does what, and let nobody submit without a key where keys are asked for."""
    auditing.setup(app, settings.audit, _AUDITED)
    if settings.api_keys:
        app.middlewares.append(api_keys.required(api_keys.ApiKeys(settings.storage.root)))


def _add_changes(
    app: web.Application, deletion: Deletion, feedback: FeedbackDesk, retrying: Retrying
) -> None:
    """Add what changes a job that is there."""
    app.router.add_get("/jobs/{job_id}/delete", deletion.ask)
    app.router.add_post("/jobs/{job_id}/delete", deletion.confirm)
    app.router.add_delete("/api/jobs/{job_id}", deletion.delete)
    app.router.add_post("/api/jobs/{job_id}/scans/{scan_id}/feedback", feedback.post)
    app.router.add_post("/api/jobs/{job_id}/scans/{scan_id}/retry", retrying.post)


def _add_routes(app: web.Application, submissions: Submissions, pages: Pages, live: Live) -> None:
    @described(
        Operation(
            summary="Ask how a job stands",
            tag="jobs",
            answers={200: JobDocument},
            problems=(401, 403, 410),
            access="job token",
        )
    )
    async def read_job(request: web.Request) -> web.Response:
        """Every scan with its state, its result and the addresses of its files, or why it has none."""
        return json_response(await pages.status.read(pages.access.job(request)))

    app.router.add_get("/", pages.upload)
    app.router.add_get("/api/sample", pages.sample)
    app.router.add_get("/jobs/{job_id}", pages.job)
    app.router.add_post("/api/jobs", submissions.post)
    app.router.add_get("/api/jobs/{job_id}", read_job)
    app.router.add_get("/api/jobs/{job_id}/events", live.events)


def _add_admin_routes(app: web.Application, page: MonitorPage) -> None:
    letters = page.letters
    app.router.add_get("/api/dead", letters.get_list)
    app.router.add_post("/api/dead/retry", letters.post_retry_all)
    app.router.add_get("/api/dead/{dead_id}", letters.get)
    app.router.add_post("/api/dead/{dead_id}/retry", letters.post_retry)
    app.router.add_delete("/api/dead/{dead_id}", letters.delete)
    app.router.add_get("/api/monitor", page.get_numbers)
    app.router.add_get("/monitor", page.get)
    app.router.add_get("/monitor/parts", page.get_parts)
    app.router.add_get("/monitor/login", page.get_login)
    app.router.add_post("/monitor/login", page.post_login)
    app.router.add_post("/monitor/logout", page.post_logout)
    app.router.add_post("/monitor/dead/retry", page.post_retry_all)
    app.router.add_post("/monitor/dead/{dead_id}/retry", page.post_retry)
    app.router.add_post("/monitor/dead/{dead_id}/drop", page.post_drop)
    app.router.add_static("/assets/", _HERE / "static")


def _storage(settings: IngestSettings) -> Storage:
    storage = settings.storage
    try:
        storage.create_folders()
    except OSError as error:
        raise ConfigurationError(
            f"CORESTREAM_DATA_DIR is {str(settings.data_dir)!r}: expected a folder that can be written, "
            f"but: {error.strerror}. Name another, or change its owner."
        ) from error
    return storage


def _drop_folder(settings: IngestSettings, intake: Intake, door: ThreadPoolExecutor) -> DropFolder | None:
    if settings.drop_dir is None:
        return None
    drop = DropFolder(settings.drop_dir, intake, settings, door)
    try:
        drop.create_folders()
    except OSError as error:
        raise ConfigurationError(
            f"CORESTREAM_DROP_DIR is {str(settings.drop_dir)!r}: expected a folder that can be written, "
            f"but: {error.strerror}. Name another, or change its owner."
        ) from error
    return drop


def _disk(storage: Storage, min_free_bytes: int) -> Check:
    async def check() -> str | None:
        if not os.access(storage.incoming, os.W_OK | os.X_OK):
            return "Expected a DATA_DIR that can be written, found none."
        free = storage.free_bytes()
        if free < min_free_bytes:
            return f"Expected {min_free_bytes:,} bytes free (MIN_FREE_BYTES), found {free:,}."
        return None

    return check


def main() -> None:
    """Run the upload service from the environment until it is told to stop."""
    try:
        settings = load(IngestSettings)
        logging.configure("ingest", settings.log_format)
        app = build(settings)
        log.info("ingest.starting", host=settings.host, port=settings.ingest_port)
        run(app, host=settings.host, port=settings.ingest_port)
    except ConfigurationError as error:
        exit_for(error)
