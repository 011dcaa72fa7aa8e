"""What uploads take, large ones and many slow ones: `python -m benchmarks.upload [--mebibytes N]`.

Prints two tables and writes benchmarks/results/upload.json. A real ingest with a real Redis receives, on
loopback, from the first byte of the request to the reply that there is a job:

1. A large scan, `.nii` and `.nii.gz`, as a form and as a resumable upload (tus), in turns with
   `dd conv=fsync` of the same bytes to the same disk. Also the most memory that ingest took (VmHWM).
2. A small scan, while nobody else uploads, and while many slow clients do. These trickle until the last
   measurement has been taken, then end, and each must get its job.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip

from benchmarks.scaling import RESULTS, answering, running_redis
from corestream.up.ports import free_ports
from tests.support.nifti_files import compressed, good

MEBIBYTE = 1024**2
SLICE_VOXELS = 512
VOXEL_MM = 0.4
SAMPLES = 30
"""Small uploads, of which medians are taken."""
PIECES = 60
PIECE_EVERY_S = 0.5
"""A slow client's; together half a minute."""
TIMEOUT_S = 900.0
BOUNDARY = "benchmark-7d1c3f"
FORM_HEAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="scan.nii"\r\n'
    "Content-Type: application/octet-stream\r\n\r\n"
).encode()
FORM_TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
TUS = {"Tus-Resumable": "1.0.0"}


@dataclass(frozen=True)
class Ingest:
    """A running upload service."""

    pid: int
    port: int

    def memory_mib(self, field: str) -> float:
        """Return a size of its process: VmRSS now, VmHWM at most since the last `forget_peak`."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
        raise KeyError(field)

    def forget_peak(self) -> None:
        """Begin VmHWM anew; see proc(5), clear_refs."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def post_form(self, scan: Path) -> float:
        """Submit a file as a form; return how long it took, seconds."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        before = time.perf_counter()
        _send(
            connection,
            ("POST", "/api/jobs"),
            {"Content-Type": FORM_TYPE},
            scan,
            around=(FORM_HEAD, FORM_TAIL),
        )
        reply = _reply(connection)
        took = time.perf_counter() - before
        self._delete(connection, reply)
        return took

    def post_tus(self, scan: Path) -> float:
        """Upload a file by tus and make a job of it; return how long it took, seconds."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        before = time.perf_counter()
        length = str(scan.stat().st_size)
        connection.request("POST", "/api/uploads", headers=TUS | {"Upload-Length": length})
        address = _expect(connection, 201).headers["Location"]
        headers = TUS | {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
        _send(connection, ("PATCH", address), headers, scan)
        _expect(connection, 204)
        body = json.dumps({"uploads": [address]})
        connection.request("POST", "/api/jobs", body, {"Content-Type": "application/json"})
        reply = _reply(connection)
        took = time.perf_counter() - before
        self._delete(connection, reply)
        return took

    def _delete(self, connection: HTTPConnection, reply: dict[str, Any]) -> None:
        connection.request("DELETE", reply["status_url"])
        _expect(connection, 200)
        connection.close()


def _send(
    connection: HTTPConnection,
    line: tuple[str, str],
    headers: dict[str, str],
    scan: Path,
    around: tuple[bytes, bytes] = (b"", b""),
) -> None:
    """Send a request whose body is a file; the kernel copies it, so that the client costs little."""
    head, tail = around
    connection.putrequest(*line)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(head) + scan.stat().st_size + len(tail)))
    connection.endheaders(head or None)
    with scan.open("rb") as file:
        connection.sock.sendfile(file)
    connection.send(tail)


def _expect(connection: HTTPConnection, status: int) -> HTTPResponse:
    answer = connection.getresponse()
    if answer.status != status:
        raise RuntimeError(f"Expected {status}, received {answer.status}: {answer.read()!r}")
    if status not in {200, 202}:
        answer.read()
    return answer


def _reply(connection: HTTPConnection) -> dict[str, Any]:
    reply: dict[str, Any] = json.loads(_expect(connection, 202).read())
    return reply


@contextmanager
def running_ingest(folder: Path, redis_url: str, largest_bytes: int) -> Iterator[Ingest]:
    """Run an upload service whose limits are beyond what it is sent."""
    port = free_ports(1)
    own = {name: value for name, value in os.environ.items() if not name.startswith("CORESTREAM_")}
    settings = {
        "DATA_DIR": str(folder / "data"),
        "REDIS_URL": redis_url,
        "SECRET_KEY": "uploads-" * 8,
        "INGEST_PORT": str(port),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "MAX_UPLOAD_BYTES": str(largest_bytes),
        "MAX_WAITING_SCANS": "1000000",
        "UPLOADS_PER_MINUTE": "1000000",
        "MIN_FREE_BYTES": "0",
        "LOG_FORMAT": "json",
    }
    with (folder / "ingest.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ingest"],
            env=own | {f"CORESTREAM_{name}": value for name, value in settings.items()},
            stdout=log,
            stderr=log,
        )
    try:
        asyncio.run(answering(f"http://127.0.0.1:{port}/readyz"))
        yield Ingest(process.pid, port)
    finally:
        process.kill()
        process.wait()


def write_scan(path: Path, mebibytes: int) -> None:
    """Write an int16 volume of noise around 40 HU: what compresses to half, as scans do."""
    slices = mebibytes * MEBIBYTE // (SLICE_VOXELS * SLICE_VOXELS * 2)
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((SLICE_VOXELS, SLICE_VOXELS, slices))
    affine = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    # gzip looks back over 32 kB, so that what comes again after 8 MB is new to it.
    noise = np.random.default_rng(0).normal(40, 12, 16 * SLICE_VOXELS**2).astype(np.int16).tobytes()
    opened = igzip.open(path, "wb") if path.suffix == ".gz" else path.open("wb")
    with opened as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(slices // 16):
            file.write(noise)
        file.write(noise[: slices % 16 * SLICE_VOXELS**2 * 2])


def dd(scan: Path) -> float:
    """Write the same bytes to the same disk; return how long it took, seconds."""
    copy = scan.with_name("copy")
    before = time.perf_counter()
    command = ["dd", f"if={scan}", f"of={copy}", "bs=1M", "conv=fsync", "status=none"]
    subprocess.run(command, check=True)
    took = time.perf_counter() - before
    copy.unlink()
    return took


def throughput(ingest: Ingest, scan: Path, rounds: int) -> dict[str, Any]:
    """Return the rates of dd, a form and tus in turns, MB/s, medians, and ingest's peaks of memory."""
    ways: dict[str, Callable[[Path], float]] = {
        "dd": dd,
        "form": ingest.post_form,
        "tus": ingest.post_tus,
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    peak_mib: dict[str, float] = {}
    for _ in range(rounds):
        for way, work in ways.items():
            ingest.forget_peak()
            seconds[way].append(work(scan))
            peak_mib[way] = max(peak_mib.get(way, 0.0), ingest.memory_mib("VmHWM"))
    size_mb = scan.stat().st_size / 1e6
    rate = {way: size_mb / statistics.median(took) for way, took in seconds.items()}
    return {
        "size_mb": size_mb,
        "seconds": seconds,
        "mb_per_s": rate,
        "of_dd": {way: rate[way] / rate["dd"] for way in ("form", "tus")},
        "peak_mib": {way: peak_mib[way] for way in ("form", "tus")},
    }


@dataclass
class Trickle:
    """Slow clients, each with a scan of its own to send.

    Attributes:
        port: Of ingest.
        content: Of the scan.
        clients: How many.
    """

    port: int
    content: bytes
    clients: int

    def __post_init__(self) -> None:
        """Nobody has sent anything yet."""
        self.enough = asyncio.Event()
        self.begun = asyncio.Barrier(self.clients + 1)

    async def send_one(self) -> int:
        """Send the scan in pieces, the last once it is enough; return the status of the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        size = len(FORM_HEAD) + len(self.content) + len(FORM_TAIL)
        writer.write(
            "POST /api/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            f"Content-Type: {FORM_TYPE}\r\nContent-Length: {size}\r\n\r\n".encode()
            + FORM_HEAD
        )
        piece_bytes = -(-len(self.content) // PIECES)
        for start in range(0, len(self.content), piece_bytes):
            writer.write(self.content[start : start + piece_bytes])
            await writer.drain()
            if start == 0:
                await self.begun.wait()
            if not self.enough.is_set():
                await asyncio.sleep(PIECE_EVERY_S)
        await self.enough.wait()
        writer.write(FORM_TAIL)
        answer = await reader.read()
        writer.close()
        return int(answer.split(b" ", 2)[1])


async def company(ingest: Ingest, scan: Path, clients: int) -> dict[str, Any]:
    """Return the median time of a small upload without slow clients and with them, and what these got."""
    small = await asyncio.to_thread(scan.read_bytes)
    ingest.forget_peak()

    async def median_ms() -> float:
        took = [await asyncio.to_thread(ingest.post_form, scan) for _ in range(SAMPLES)]
        return 1000 * statistics.median(took)

    alone_ms = await median_ms()
    slow = Trickle(ingest.port, small, clients)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(slow.send_one()) for _ in range(clients)]
        await slow.begun.wait()
        beside_ms = await median_ms()
        slow.enough.set()
    return {
        "clients": clients,
        "alone_ms": alone_ms,
        "beside_ms": beside_ms,
        "accepted": sum(task.result() == 202 for task in tasks),  # noqa: PLR2004 - Accepted
        "peak_mib": ingest.memory_mib("VmHWM"),
    }


@dataclass(frozen=True)
class Sizes:
    """What is asked for on the command line."""

    mebibytes: int
    rounds: int
    clients: int


def measure(folder: Path, sizes: Sizes) -> dict[str, Any]:
    """Return every figure."""
    scan, packed, small = (folder / name for name in ("scan.nii", "scan.nii.gz", "small.nii.gz"))
    write_scan(scan, sizes.mebibytes)
    write_scan(packed, sizes.mebibytes // 2)
    small.write_bytes(compressed(good()))
    result: dict[str, Any] = {"load_before": os.getloadavg()[0], **asdict(sizes)}
    largest_bytes = 2 * sizes.mebibytes * MEBIBYTE
    with running_redis(folder / "redis") as url, running_ingest(folder, url, largest_bytes) as ingest:
        ingest.post_form(small)
        result["idle_mib"] = ingest.memory_mib("VmRSS")
        for path in (scan, packed):
            print(f"{path.name}, {path.stat().st_size / 1e6:.0f} MB ...", file=sys.stderr)
            result[path.name] = throughput(ingest, path, sizes.rounds)
        print(f"{sizes.clients} slow clients ...", file=sys.stderr)
        result["company"] = asyncio.run(company(ingest, small, sizes.clients))
    return result | {"load_after": os.getloadavg()[0]}


def print_tables(result: dict[str, Any]) -> None:
    """Print the figures for people."""
    loads = f"{result['load_before']:.1f} to {result['load_after']:.1f}"
    print(f"load {loads}, ingest idle {result['idle_mib']:.0f} MiB\n")
    ways = ("form", "tus")
    heads = "".join(f"{way + ' MB/s':>12}{'of dd':>8}" for way in ways)
    print(f"{'':<14}{'MB':>8}{'dd MB/s':>10}{heads}{'peak MiB':>10}")
    for name in ("scan.nii", "scan.nii.gz"):
        row, rate = result[name], result[name]["mb_per_s"]
        cells = "".join(f"{rate[way]:12.0f}{row['of_dd'][way]:8.0%}" for way in ways)
        peak_mib = max(row["peak_mib"].values())
        print(f"{name:<14}{row['size_mb']:8.0f}{rate['dd']:10.0f}{cells}{peak_mib:10.0f}")
    row = result["company"]
    accepted = f"{row['accepted']}/{row['clients']}"
    print(f"\n{'':<14}{'alone ms':>10}{'beside slow ms':>16}{'accepted':>10}{'peak MiB':>10}")
    print(
        f"{'small scan':<14}{row['alone_ms']:10.0f}{row['beside_ms']:16.0f}{accepted:>10}"
        f"{row['peak_mib']:10.0f}"
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--mebibytes", type=int, default=2048, help="of the large scan; compressed, half of it"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of which medians are taken")
    parser.add_argument("--clients", type=int, default=200, help="slow ones at once")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; the system's temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        result = measure(Path(name), Sizes(options.mebibytes, options.rounds, options.clients))
    print_tables(result)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "upload.json").write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
