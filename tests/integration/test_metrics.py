"""What the services tell Prometheus, read by Prometheus's own parser."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from prometheus_client.parser import text_string_to_metric_families

from ingest.app import build
from ingest.settings import IngestSettings
from pipeline.keys import PROCESSORS
from pipeline.metrics import new_registry
from pipeline.streams import ensure_group, publish, read_stats
from pipeline.web.health import listening
from tests.support.ports import free_ports
from tests.support.redis_server import RedisServer
from tests.support.system import ADDRESS, SECRET, System, running_system
from tests.support.viewing import running_viewer
from tests.support.waiting import eventually

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(url: str) -> Samples:
    """Return every sample of a service by its name and labels."""
    async with ClientSession() as http, http.get(f"{url}/metrics") as answer:
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        families = text_string_to_metric_families(await answer.text())
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }


def value(samples: Samples, name: str, **labels: str) -> float:
    """Return the value of one sample."""
    return samples[f"corestream_{name}", frozenset(labels.items())]


async def lifetimes(system: System) -> None:
    """One scan that goes well and is mailed, one that is refused."""
    await system.submit(email=ADDRESS)
    await system.until_idle()
    system.network.refuses = True
    await system.submit()
    await system.until_idle()


async def test_the_metrics_of_every_service_tell_what_happened(tmp_path: Path, redis_url: str) -> None:
    """Two scans, one of them refused, one mail: each is counted where it happened, once."""
    async with running_system(tmp_path, redis_url) as system:
        await lifetimes(system)
        async with system.http.get("/api/jobs/nothing") as refused:
            assert refused.status == 401
        ingest = await scrape(system.origin)
        processor, notifier = [await scrape(system.workers[name]) for name in ("processor", "notifier")]
        stats = await read_stats(
            system.client, stream=system.keys.scans, group=PROCESSORS, dead_stream=system.keys.dead
        )
        records = [system.storage.read_job(job_id) for job_id in system.storage.job_ids()]
    assert value(ingest, "uploads_total") == 2
    sizes_bytes = sum(scan.size_bytes for record in records for scan in record.scans)
    assert value(ingest, "upload_bytes_total") == sizes_bytes
    assert value(ingest, "http_refusals_total", code="token-missing") == 1
    assert value(ingest, "http_requests_total", method="POST", route="/api/jobs", status="202") == 2
    assert value(ingest, "http_request_seconds_count", route="/api/jobs") == 2
    assert value(ingest, "dead_letters") == stats.dead == 1
    assert value(ingest, "redis_up") == 1
    assert value(ingest, "disk_free_bytes") > 0
    assert value(processor, "scans_total", outcome="done") == 1
    assert value(processor, "scans_total", outcome="not-a-head") == 1
    assert value(processor, "deliveries_total", stream="scans", source="new") == 2
    assert value(processor, "deliveries_ended_total", stream="scans", outcome="finished") == 1
    assert value(processor, "deliveries_ended_total", stream="scans", outcome="dead") == 1
    assert value(processor, "scan_seconds_count", stage="waiting") == 2
    assert value(processor, "scan_seconds_count", stage="processing") == 1
    assert value(processor, "scan_seconds_sum", stage="network") == pytest.approx(2.31)  # the stand-in's
    for span in ("upload", "queueing", "total"):
        assert value(processor, "scan_seconds_count", stage=span) == 1
    assert value(notifier, "scan_seconds_count", stage="mail") == 1
    assert value(notifier, "mails_total", outcome="accepted") == 1
    assert value(notifier, "mails_total", outcome="failed") == 0
    assert ("process_resident_memory_bytes", frozenset()) in notifier


async def test_what_waits_and_runs_is_read_at_the_scrape(tmp_path: Path, redis_url: str) -> None:
    """One scan is held by the processor, two stand in line behind it."""
    async with running_system(tmp_path, redis_url) as system:
        system.network.let_go.clear()
        for _ in range(3):
            await system.submit()

        async def one_runs() -> bool:
            samples = await scrape(system.origin)
            return value(samples, "stream_running", stream="scans") == 1

        await eventually(one_runs)
        samples = await scrape(system.origin)
        assert value(samples, "stream_waiting", stream="scans") == 2
        assert 0 < value(samples, "stream_oldest_seconds", stream="scans") < 30
        assert value(samples, "stream_waiting", stream="results") == 0


async def test_without_redis_the_metrics_say_so(tmp_path: Path, redis_server: RedisServer) -> None:
    """A number that is not known is left out, not shown as zero."""
    settings = IngestSettings(secret_key=SECRET, redis_url=redis_server.url, data_dir=tmp_path / "data")
    server = TestServer(build(settings))
    await server.start_server()
    redis_server.kill()
    try:
        samples = await scrape(str(server.make_url("/")).rstrip("/"))
    finally:
        await server.close()
    assert value(samples, "redis_up") == 0
    assert ("corestream_stream_waiting", frozenset({("stream", "scans")})) not in samples


async def test_a_mail_server_that_is_busy_counts_as_deferred(tmp_path: Path, redis_url: str) -> None:
    """Every try is counted, and the one that went well too."""
    async with running_system(tmp_path, redis_url) as system:
        taken, system.smtp.mail_reply = system.smtp.mail_reply, "451 later"
        await system.submit(email=ADDRESS)

        async def tried() -> bool:
            return system.smtp.tries > 0

        await eventually(tried)
        system.smtp.mail_reply = taken
        await system.until_idle()
        samples = await scrape(system.workers["notifier"])
    assert value(samples, "mails_total", outcome="deferred") == system.smtp.tries - 1
    assert value(samples, "mails_total", outcome="accepted") == 1


async def test_a_reclaimed_entry_is_counted_by_who_took_over(tmp_path: Path, redis_url: str) -> None:
    """That workers die at their scans can be seen without reading logs."""
    async with running_system(tmp_path, redis_url) as system:
        system.network.let_go.clear()
        await ensure_group(system.client, system.keys.scans, PROCESSORS)
        await system.submit()  # occupies the only slot
        entry_id = await publish(system.client, system.keys.scans, {"type": "of a dead worker"})
        await system.client.xreadgroup(PROCESSORS, "dead", {system.keys.scans: ">"}, count=1)

        async def silent_beyond_the_lease() -> bool:
            pending = await system.client.xpending_range(system.keys.scans, PROCESSORS, entry_id, entry_id, 1)
            return bool(pending) and int(pending[0]["time_since_delivered"]) > 300

        await eventually(silent_beyond_the_lease)
        system.network.let_go.set()
        await system.until_idle()
        samples = await scrape(system.workers["processor"])
    assert value(samples, "deliveries_total", stream="scans", source="reclaimed") == 1


async def test_the_viewer_measures_when_a_link_is_first_opened(tmp_path: Path, redis_url: str) -> None:
    """Once for each scan, however often its page is looked at, also by another process."""
    async with running_system(tmp_path, redis_url) as system:
        submitted = await system.submit()
        await system.until_idle()
        record = system.storage.read_job(submitted["job_id"])
        counts = []
        for _ in range(2):
            async with running_viewer(system.settings.data_dir) as viewer, ClientSession() as http:
                for _ in range(2):
                    async with http.get(viewer.result(record)) as page:
                        assert page.status == 200
                samples = await scrape(viewer.origin)
            counts.append(samples.get(("corestream_scan_seconds_count", frozenset({("stage", "opening")}))))
    assert counts == [1, None]


async def test_the_viewer_serves_metrics_without_tokens_in_them(tmp_path: Path) -> None:
    """A route is its pattern; a path would be one series a link, and each a key to a result."""
    async with running_viewer(tmp_path) as viewer, ClientSession() as http:
        async with http.get(f"{viewer.origin}/r/a-token") as answer:
            assert answer.status == 403
        samples = await scrape(viewer.origin)
    assert value(samples, "http_requests_total", method="GET", route="/r/{token}", status="403") == 1
    assert value(samples, "http_refusals_total", code="link-invalid") == 1
    assert not any("a-token" in text for _, labels in samples for _, text in labels)


async def test_two_workers_with_one_port_both_work() -> None:
    """The second is without metrics, not without work."""
    port = free_ports()
    one, two = new_registry(), new_registry()
    async with (
        listening(host="127.0.0.1", port=port, checks={}, registry=one),
        listening(host="127.0.0.1", port=port, checks={}, registry=two),
    ):
        assert await scrape(f"http://127.0.0.1:{port}")


async def test_a_worker_says_whether_it_is_ready() -> None:
    """503 with the reason while a check fails, 200 when none does."""
    port, loaded = free_ports(), asyncio.Event()

    async def network() -> str | None:
        return None if loaded.is_set() else "It is being loaded."

    url = f"http://127.0.0.1:{port}/readyz"
    async with (
        listening(host="127.0.0.1", port=port, checks={"network": network}, registry=new_registry()),
        ClientSession() as http,
    ):
        async with http.get(url) as answer:
            assert answer.status == 503
            assert (await answer.json())["checks"] == {"network": "It is being loaded."}
        loaded.set()
        async with http.get(url) as answer:
            assert answer.status == 200
