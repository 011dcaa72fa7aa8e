"""The upload service: builds it from its settings, and runs it."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import structlog
from aiohttp import web

from ingest import parts as service_parts
from ingest.parts import Parts
from ingest.routes import add_routes
from ingest.settings import IngestSettings
from ingest.sweeper import Sweeper
from pipeline import logging
from pipeline.errors import ConfigurationError
from pipeline.keys import NOTIFIERS, PROCESSORS
from pipeline.metrics import InstallationMetrics
from pipeline.service import exit_for
from pipeline.settings import load
from pipeline.storage import Storage
from pipeline.streams import ensure_group, warn_unless_durable
from pipeline.web.app import build_app, run
from pipeline.web.health import Check

log = structlog.get_logger()

SWEEP_EVERY_S = 60.0


def build(settings: IngestSettings, *, sweep_every_s: float = SWEEP_EVERY_S) -> web.Application:
    """Return the upload service.

    Args:
        settings: Of this service.
        sweep_every_s: Between two sweeps, seconds.

    Raises:
        ConfigurationError: DATA_DIR or DROP_DIR cannot be used.
    """
    parts = service_parts.make(settings)
    storage, registry = parts.storage, parts.registry
    app = build_app(
        templates=Path(__file__).parent / "templates",
        checks={"redis": parts.redis, "disk": _disk(storage, settings.min_free_bytes)},
        registry=registry,
        refresh=InstallationMetrics(parts.jobs.read_streams, storage.free_bytes, registry).refresh,
    )

    async def end_streams(_app: web.Application) -> None:
        parts.news.end()

    app.cleanup_ctx.append(partial(_background, parts, sweep_every_s))
    app.on_shutdown.append(end_streams)
    add_routes(app, parts)
    return app


async def _background(parts: Parts, sweep_every_s: float, _app: web.Application) -> AsyncIterator[None]:
    """Run what goes on beside the requests, from the start of the service to its end."""
    client, keys = parts.client, parts.settings.keys

    async def ensure_groups() -> None:
        await ensure_group(client, keys.scans, PROCESSORS)
        await ensure_group(client, keys.results, NOTIFIERS)

    async def check_durability(stop: asyncio.Event) -> None:
        await warn_unless_durable(client, stop)

    sweeper = Sweeper(
        parts.storage, parts.jobs, parts.uploads, parts.settings.audit, ensure_groups, sweep_every_s
    )
    await asyncio.to_thread(parts.ledger.refresh)  # of weeks, perhaps: not while a request waits
    stop = asyncio.Event()
    works = [sweeper.run, check_durability, parts.news.run, *([parts.drop.run] if parts.drop else [])]
    tasks = [asyncio.create_task(work(stop), name=work.__qualname__) for work in works]
    for task in tasks:
        task.add_done_callback(_say_if_broken)
    yield
    stop.set()
    await asyncio.gather(*tasks)
    parts.door.shutdown(cancel_futures=True)
    await client.aclose()


def _say_if_broken(task: asyncio.Task[None]) -> None:
    """Log at once what would else be known at the end of the service only."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("ingest.background_ended", work=task.get_name(), exc_info=error)


def _disk(storage: Storage, min_free_bytes: int) -> Check:
    async def check() -> str | None:
        if not os.access(storage.incoming, os.W_OK | os.X_OK):
            return "Expected a DATA_DIR that can be written, found none."
        free = storage.free_bytes()
        if free < min_free_bytes:
            return f"Expected {min_free_bytes:,} bytes free (MIN_FREE_BYTES), found {free:,}."
        return None

    return check


def _allow_open_files() -> None:
    """Take all the open files that the system grants: shells and systemd begin with 1,024 of them.

    Every connection is one, and so is every slice of a series while its job is made.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    """Run the upload service from the environment until it is told to stop."""
    try:
        _allow_open_files()
        settings = load(IngestSettings)
        logging.configure("ingest", settings.log_format)
        app = build(settings)
        log.info("ingest.starting", host=settings.host, port=settings.ingest_port)
        run(app, host=settings.host, port=settings.ingest_port)
    except ConfigurationError as error:
        exit_for(error)
