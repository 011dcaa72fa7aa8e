"""How the pipeline scales: `python benchmarks/scaling.py [--seconds S] [--waiting N]`.

Prints two tables and writes benchmarks/results/scaling.json. The processors are real but for the network: a
stand-in that sleeps takes its place (`tests.support.chaos.stand_in`), so that two cores are enough for eight.

1. Scans per second with 1, 2, 4 and 8 processors, each a process of its own, from the first start to the last
   end.
2. How long after the reply to an upload an idle processor's detection starts.
3. What 50,000 waiting scans slow down: the acceptance of an upload, the status of a job, the numbers of the
   streams, and the rate of a processor, each beside the same with an empty line.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp

from corestream.up import redis_server
from corestream.up.ports import free_ports
from pipeline.clock import now
from pipeline.ids import new_id
from pipeline.jobs import Jobs
from pipeline.keys import PROCESSORS, Keys
from pipeline.storage import JobRecord, ScanRecord, Storage
from pipeline.streams import connect, ensure_group, wait_until_ready
from tests.support.chaos import stand_in
from tests.support.chaos.prepared import prepare
from tests.support.chaos.stand_in import StandIn

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
KEYS = Keys("corestream:")
PROCESSOR_COUNTS = (1, 2, 4, 8)
SCANS_EACH = 10
SCANS_PER_JOB = 4
SAMPLES = 60
"""Of every latency."""
SHORT_S = 0.05
"""The stand-in's time where the rate of one processor is measured: what is around it shall count."""
START_LIMIT_S = 180.0


@dataclass(frozen=True)
class Place:
    """One installation: a folder, a Redis, and what is known of both."""

    folder: Path
    url: str
    storage: Storage
    record: Path

    def environment(self, seconds: float) -> dict[str, str]:
        """Return the environment of a service."""
        standing_in = StandIn(str(self.folder / "prepared"), str(self.record), seconds, seconds)
        own = {name: value for name, value in os.environ.items() if not name.startswith("CORESTREAM_")}
        return own | {
            "CORESTREAM_DATA_DIR": str(self.folder / "data"),
            "CORESTREAM_REDIS_URL": self.url,
            "CORESTREAM_SECRET_KEY": "scaling-" * 8,
            "CORESTREAM_LOG_FORMAT": "json",
            "CORESTREAM_MAX_WAITING_SCANS": "1000000",
            stand_in.VARIABLE: json.dumps(asdict(standing_in)),
            "PYTHONPATH": str(ROOT),
        }

    @contextmanager
    def service(
        self, module: str, seconds: float = 0.0, settings: dict[str, str] | None = None
    ) -> Iterator[Path]:
        """Run a service; gives its log."""
        log = self.folder / f"{new_id()}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", module],
                env=self.environment(seconds) | (settings or {}),
                stdout=output,
                stderr=output,
            )
        try:
            yield log
        finally:
            process.kill()
            process.wait()

    def times(self) -> tuple[list[float], list[float]]:
        """Return when detections started and when they ended."""
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        notes = [json.loads(line) for line in lines]
        starts, ends = ([note["at"] for note in notes if note["what"] == what] for what in ("start", "end"))
        return starts, ends

    def accept(self, scans: int, content: bytes) -> JobRecord:
        """Write a job's files as ingest does."""
        parts = [self.storage.part_path(new_id()) for _ in range(scans)]
        for part in parts:
            part.write_bytes(content)
        record = JobRecord(
            job_id=new_id(),
            created_at=now(),
            links_expire_at=now() + timedelta(hours=24),
            expires_at=now() + timedelta(hours=24),
            scans=tuple(
                ScanRecord(scan_id=new_id(), sha256="ab" * 32, size_bytes=len(content)) for _ in range(scans)
            ),
        )
        self.storage.accept(record, parts)
        return record

    async def enqueue(self, scans: int, content: bytes) -> None:
        """Accept jobs of four scans and put them in line."""
        client = connect(self.url)
        jobs = Jobs(client, KEYS)
        for _ in range(scans // SCANS_PER_JOB):
            await jobs.enqueue(self.accept(SCANS_PER_JOB, content), self.storage)
        await client.aclose()


@contextmanager
def running_redis(home: Path) -> Iterator[str]:
    """Run a Redis on a socket in a new folder; gives its address."""
    home.mkdir()
    with redis_server.socket_path(home) as socket:
        process = subprocess.Popen(redis_server.command(redis_server.find_server(), home, socket))
        try:
            yield f"unix://{socket}"
        finally:
            process.kill()
            process.wait()


@contextlib.asynccontextmanager
async def place() -> AsyncIterator[Place]:
    """Give an empty installation with a Redis."""
    with tempfile.TemporaryDirectory() as name, running_redis(Path(name) / "redis") as url:
        folder = Path(name)
        prepare(folder / "prepared")
        storage = Storage(folder / "data")
        storage.create_folders()
        client = connect(url)
        await wait_until_ready(client, asyncio.Event())
        await ensure_group(client, KEYS.scans, PROCESSORS)
        await client.aclose()
        yield Place(folder, url, storage, folder / "starts.jsonl")


async def until(condition: Callable[[], bool], limit_s: float) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: It did not come true.
    """
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - another process's event
            await asyncio.sleep(0.02)


async def answering(url: str) -> None:
    """Wait until a service is ready."""
    async with asyncio.timeout(START_LIMIT_S), aiohttp.ClientSession() as http:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(url) as answer:
                    if answer.ok:
                        return
            await asyncio.sleep(0.05)


async def scans_per_s(processors: int, seconds: float, content: bytes) -> float:
    """Return the rate of so many processors, each detection taking so long."""
    async with place() as here:
        with ExitStack() as stack:
            logs = [
                stack.enter_context(here.service(stand_in.__name__, seconds=seconds))
                for _ in range(processors)
            ]
            await until(lambda: all(b"processor.ready" in log.read_bytes() for log in logs), START_LIMIT_S)
            # Whole rounds: each processor has the same number of scans.
            count = SCANS_EACH * max(processors, SCANS_PER_JOB)
            await here.enqueue(count, content)
            await until(lambda: len(here.times()[1]) == count, START_LIMIT_S + 2 * SCANS_EACH * seconds * 4)
            starts, ends = here.times()
    return count / (max(ends) - min(starts))


async def latency_ms(work: Callable[[], Awaitable[object]]) -> float:
    """Return the median time of a piece of work."""
    took = []
    for _ in range(SAMPLES):
        before = time.perf_counter()
        await work()
        took.append(1000 * (time.perf_counter() - before))
    return statistics.median(took)


async def start_after_reply_ms(here: Place, url: str, content: bytes) -> float:
    """Return the median time from the reply to an upload to the start of its detection, one at a time."""
    took = []
    async with aiohttp.ClientSession() as http:
        with here.service(stand_in.__name__) as log:
            await until(lambda: b"processor.ready" in log.read_bytes(), START_LIMIT_S)
            for number in range(1, SAMPLES + 1):
                await submit(http, url, content)
                replied_at = time.time()
                await until(lambda number=number: len(here.times()[1]) == number, START_LIMIT_S)  # type: ignore[misc]  # lambdas have no types
                took.append(1000 * (here.times()[0][-1] - replied_at))
    return statistics.median(took)


async def submit(http: aiohttp.ClientSession, url: str, content: bytes) -> str:
    """Submit a scan; returns where to ask for its job."""
    form = aiohttp.FormData()
    form.add_field("file", content, filename="scan.nii.gz")
    async with http.post(f"{url}/api/jobs", data=form) as answer:
        document = await answer.json()
        if not answer.ok:
            raise RuntimeError(document)
        return str(document["status_url"])


async def figures_of_line(here: Place, url: str, content: bytes) -> dict[str, float]:
    """Return what a long line could slow down: three latencies in ms, and a processor's scans per second."""
    client = connect(here.url)
    jobs = Jobs(client, KEYS)
    async with aiohttp.ClientSession() as http:
        status_urls = []

        async def send() -> None:
            status_urls.append(await submit(http, url, content))

        async def ask() -> None:
            async with http.get(status_urls[-1]) as answer:
                await answer.json()

        figures = {
            "accept_ms": await latency_ms(send),
            "status_ms": await latency_ms(ask),
            "stats_ms": await latency_ms(jobs.read_streams),
        }
    with here.service(stand_in.__name__, seconds=SHORT_S):
        before = len(here.times()[1])
        await until(lambda: len(here.times()[1]) >= before + SAMPLES, START_LIMIT_S)
    await client.aclose()
    ends = sorted(here.times()[1])[before : before + SAMPLES]
    return figures | {"scans_per_s": (len(ends) - 1) / (ends[-1] - ends[0])}


async def long_line(waiting: int, content: bytes) -> dict[str, Any]:
    """Return the figures of an empty line and of a long one, and their ratios."""
    async with place() as here:
        port = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        ports = {"CORESTREAM_INGEST_PORT": str(port), "CORESTREAM_PUBLIC_URL": url}
        with here.service("ingest", settings=ports):
            await answering(f"{url}/readyz")
            started_ms = await start_after_reply_ms(here, url, content)
            empty = await figures_of_line(here, url, content)
            print(f"filling the line with {waiting} scans ...", file=sys.stderr)
            await here.enqueue(waiting, content)
            full = await figures_of_line(here, url, content)
    ratios = {name: full[name] / empty[name] for name in empty}
    return {
        "start_after_reply_ms": started_ms,
        "waiting": waiting,
        "empty": empty,
        "full": full,
        "ratio": ratios,
    }


def small_scan() -> bytes:
    """Return a NIfTI file on the network's grid that compresses to a few kilobytes."""
    import numpy as np  # noqa: PLC0415 - with the next, what few need

    from tests.support.results import AFFINE, SHAPE  # noqa: PLC0415

    from processor.outputs import nifti_gz  # noqa: PLC0415 # isort: skip

    volume = np.full(SHAPE, -1000, np.int16)
    volume[30:110, 30:150, 20:110] = 40
    return gzip.compress(gzip.decompress(nifti_gz(volume, AFFINE, 4, "")), 9)


async def measure(seconds: float, waiting: int) -> dict[str, Any]:
    """Return every figure."""
    content = small_scan()
    load = os.getloadavg()[0]
    rates = {}
    for processors in PROCESSOR_COUNTS:
        rates[processors] = await scans_per_s(processors, seconds, content)
        print(f"{processors} processors: {rates[processors]:.3f} scans/s", file=sys.stderr)
    return {
        "load_before": load,
        "seconds": seconds,
        "scans_per_s": rates,
        "speed_up": {processors: rate / rates[1] for processors, rate in rates.items()},
        "line": await long_line(waiting, content),
    }


def print_table(result: dict[str, Any]) -> None:
    """Print the figures for people."""
    print(f"{'processors':<12}{'scans/s':>10}{'times one':>11}")
    for processors, rate in result["scans_per_s"].items():
        print(f"{processors:<12}{rate:10.3f}{result['speed_up'][processors]:11.2f}")
    line = result["line"]
    print(f"\nan idle processor starts {line['start_after_reply_ms']:.1f} ms after the reply (median)")
    print(f"\n{'':<14}{'empty line':>12}{'waiting':>10}{'ratio':>8}   ({line['waiting']} waiting)")
    for name, ratio in line["ratio"].items():
        print(f"{name:<14}{line['empty'][name]:12.2f}{line['full'][name]:10.2f}{ratio:8.2f}")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="that a detection takes")
    parser.add_argument("--waiting", type=int, default=50_000)
    options = parser.parse_args()
    result = asyncio.run(measure(options.seconds, options.waiting))
    print_table(result)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scaling.json").write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
