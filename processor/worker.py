"""The processor: claims uploaded scans, runs the detection, publishes results."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import structlog

from pipeline import logging
from pipeline.errors import ConfigurationError
from pipeline.jobs import Jobs
from pipeline.keys import PROCESSORS
from pipeline.metrics import DeliveryMetrics, ScanMetrics, new_registry
from pipeline.service import exit_for, run_worker
from pipeline.settings import load, needed_folder
from pipeline.storage import Storage
from pipeline.streams import (
    Consumer,
    Presence,
    connect,
    why_unavailable,
)
from pipeline.web.health import Check, listening
from processor.child import Detection, DetectionChild, DetectionDiedError, NetworkDetection
from processor.models import resolve_model
from processor.precision import usable
from processor.scans import ScanHandler
from processor.settings import ProcessorSettings
from processor.synthetic.samples import write_sample

log = structlog.get_logger()


async def serve(settings: ProcessorSettings, stop: asyncio.Event, detection: Detection) -> None:
    """Process scans until asked to stop; then finish the running one, or hand it back.

    Raises:
        ConfigurationError: The model is not what it should be, or DATA_DIR cannot be used.
        DetectionDiedError: The child died while it loaded the network.
    """
    started = time.perf_counter()
    with needed_folder("DATA_DIR", settings.data_dir):
        settings.storage.create_folders()
    child = DetectionChild(detection, settings.scan_timeout_s)
    client = connect(settings.redis_url)
    registry, loaded = new_registry(), asyncio.Event()
    handler = ScanHandler(
        Jobs(client, settings.keys),
        settings.storage,
        child,
        ScanMetrics(registry),
        keep_originals=settings.keep_originals,
        retention=settings.retention,
    )
    consumer = Consumer(
        client,
        stream=settings.keys.scans,
        group=PROCESSORS,
        dead_stream=settings.keys.dead,
        handler=handler.process,
        on_dead=handler.give_up,
        lease_ms=settings.lease_ms,
        max_deliveries=settings.max_deliveries,
        grace_s=settings.grace_s,
        log_fields=("job_id", "scan_id"),
        observers=(DeliveryMetrics(settings.keys.prefix, registry),),
    )
    checks: dict[str, Check] = {"network": _check(loaded), "redis": partial(why_unavailable, client)}
    try:
        async with listening(
            host=settings.host, port=settings.metrics_port, checks=checks, registry=registry
        ):
            if not await _warmed(child, stop):
                return
            await _offer_sample(settings.storage)
            loaded.set()
            took_s = round(time.perf_counter() - started, 1)
            log.info("processor.ready", model=settings.model, took_s=took_s)
            presence = Presence(client, settings.keys.workers)
            async with presence.announced(f"processor:{consumer.name}", settings.lease_ms):
                await consumer.run(stop)
    finally:
        child.close()
        await client.aclose()


def _check(loaded: asyncio.Event) -> Check:
    async def check() -> str | None:
        return None if loaded.is_set() else "Expected the network to be loaded; it is being loaded."

    return check


async def _offer_sample(storage: Storage) -> None:
    """Write the sample that the upload page offers, unless it is there."""
    try:
        await asyncio.to_thread(write_sample, storage.sample)
    except OSError as error:  # nobody's scan depends on it
        log.warning("sample.not_written", error=str(error))


async def _warmed(child: DetectionChild, stop: asyncio.Event) -> bool:
    """Return whether the network is loaded; False as soon as this worker is to stop."""
    warming, stopping = asyncio.create_task(child.warm()), asyncio.create_task(stop.wait())
    await asyncio.wait({warming, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if warming.done():
        warming.result()
        return True
    warming.cancel()
    return False


def main() -> None:
    """Run the processor from the environment until it is told to stop."""
    try:
        settings = load(ProcessorSettings)
        logging.configure("processor", settings.log_format)
        model = resolve_model(settings.model, settings.model_dir)
        if reason := usable(settings.precision, model).reason:
            log.warning("precision.not_usable", wanted=settings.precision, reason=reason)
        run_worker(lambda stop: serve(settings, stop, NetworkDetection(model, settings.precision)))
    except ConfigurationError as error:
        exit_for(error)
    except DetectionDiedError as error:  # while it loaded: later ones cost their scan one delivery
        raise SystemExit(
            f"Expected the network to load, which takes 1.2 GB of memory. {error} The system's log says "
            "whether it was ended for lack of memory: give this service more, then start it again."
        ) from error
