"""The stream runtime beside others: `python benchmarks/streams.py [--peers NAME ...] [--rounds N]`.

Prints a table and writes benchmarks/results/streams.json. Every peer runs as it comes, in an environment of
its own (`.local/peers/`, made at the first run), on a Redis of its own with an append-only file (everysec).
A job pushes one line to Redis when it starts, so all pay the same for being measured. What is measured:

- jobs/s: from the first start to the last, all jobs waiting before the worker starts, one at a time and ten.
- CPU ms: what the worker's processes spend on each of these jobs, which a busy machine distorts less.
- pick-up: from sending to the start, one job at a time on an idle worker that runs up to ten.
- recovery: two idle workers, SIGKILL of the one that runs a job of three seconds; until it runs again.
- memory: what Redis holds for each of 10,000 waiting jobs.

Medians over rounds, in which the peers take turns. Recovery is measured once, all peers at a time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from corestream.up.ports import free_ports
from corestream.up.redis_server import command as redis_command
from corestream.up.redis_server import find_server
from pipeline.events import ScanUploaded

HERE = Path(__file__).parent
RESULTS = HERE / "results"
ENVIRONMENTS = HERE.parent / ".local" / "peers"
STARTED = "bench:started"
"""As in peers/work.py."""
PATIENCE_S = 60.0
THROUGHPUT_LIMIT_S = 20.0
"""A slow peer is judged by what it did until then."""
LONG_JOB_S = 3.0
WAITING = 10_000
OWN_WAITING = 100_000


@dataclass(frozen=True)
class Peer:
    """A way to run jobs from Redis.

    Attributes:
        name: Of `peers/NAME_peer.py`.
        worker: Command of a worker; `{n}` is how many jobs it runs at once, `{url}` is Redis.
        packages: What its environment holds; empty for this project's own.
        jobs: Sent for one measurement of jobs/s.
        pick_ups: Sent for one measurement of pick-up.
    """

    name: str
    worker: str
    packages: tuple[str, ...] = ()
    jobs: int = 3000
    pick_ups: int = 200

    @property
    def bin(self) -> Path:
        """Where its programs are."""
        return ENVIRONMENTS / self.name / "bin" if self.packages else Path(sys.executable).parent

    def command(self, concurrency: int, url: str) -> list[str]:
        """Return the command of a worker."""
        program, *arguments = self.worker.format(n=concurrency, url=url).split()
        return [str(self.bin / program), *arguments]


PEERS = (
    Peer("floor", "python floor_peer.py worker"),
    Peer("corestream", "python corestream_peer.py worker"),
    Peer("celery", "celery -A celery_peer worker -c {n} -l ERROR", ("celery[redis]==5.7.0",)),
    Peer("rq", "rq worker-pool -q -n {n} -u {url}", ("rq==3.0.0",), jobs=300, pick_ups=50),
    Peer("dramatiq", "dramatiq dramatiq_peer -p 1 -t {n}", ("dramatiq[redis]==2.2.1",)),
    Peer(
        "taskiq",
        "taskiq worker taskiq_peer:broker --workers 1 --max-async-tasks {n} --log-level ERROR",
        ("taskiq==0.13.0", "taskiq-redis==1.2.4"),
    ),
    Peer("streaq", "streaq run streaq_peer:worker", ("streaq==7.2.0", "redis==8.1.0")),
    Peer("arq", "arq arq_peer.WorkerSettings", ("arq==0.28.0",), jobs=1000, pick_ups=24),
)


class Bench:
    """One Redis, and the workers and senders of one peer on it."""

    def __init__(self, peer: Peer, folder: Path) -> None:
        self.peer = peer
        port = free_ports()
        self.url = f"redis://127.0.0.1:{port}/0"
        command = redis_command(find_server(), folder, folder / "redis.sock")
        # Not every peer can use a socket that is a file.
        self._process = subprocess.Popen([*command, "--bind", "127.0.0.1", "--port", str(port)])
        self.client = redis.Redis(port=port, decode_responses=True)
        until(self._answers, PATIENCE_S)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def close(self) -> None:
        """End Redis."""
        self.client.close()
        self._process.kill()
        self._process.wait()

    def _environment(self, concurrency: int) -> dict[str, str]:
        return os.environ | {"PEER_REDIS_URL": self.url, "PEER_CONCURRENCY": str(concurrency)}

    def send(self, count: int, seconds: float = 0.0, pause: float = 0.0) -> None:
        """Send jobs; with a pause one at a time, each that long after the start of the one before."""
        script = [str(self.peer.bin / "python"), f"{self.peer.name}_peer.py"]
        numbers = [str(count), str(seconds), str(pause)]
        subprocess.run([*script, *numbers], cwd=HERE / "peers", env=self._environment(1), check=True)

    @contextmanager
    def worker(self, concurrency: int) -> Iterator[subprocess.Popen[bytes]]:
        """Run a worker; it is killed in the end, with all it has started."""
        process = subprocess.Popen(
            self.peer.command(concurrency, self.url),
            cwd=HERE / "peers",
            env=self._environment(concurrency),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            kill_tree(process)

    def starts(self) -> list[tuple[int, float, float, int]]:
        """Return number, time of start, time of sending and process of every start."""
        lines = [line.split() for line in self.client.lrange(STARTED, 0, -1)]
        return [(int(number), float(at), float(sent), int(pid)) for number, at, sent, pid in lines]

    def started(self, count: int) -> bool:
        """Return whether so many starts were told."""
        return int(self.client.llen(STARTED)) >= count


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """End a process and all it started, those in groups of their own too."""
    for pid in [process.pid, *descendants(process.pid)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those they have."""
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text(encoding="ascii").split():
                found += [int(child), *descendants(int(child))]
    return found


def cpu_s(process: subprocess.Popen[bytes]) -> float:
    """Return the CPU-seconds of a process and all it has started, those that have ended too."""
    ticks = 0
    for pid in [process.pid, *descendants(process.pid)]:
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # its own, and those of children that it has waited for
    return ticks / os.sysconf("SC_CLK_TCK")


def until(condition: Any, limit_s: float) -> bool:  # noqa: ANN401 - anything that can be called
    """Wait for a condition; return whether it came true in time."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@contextmanager
def bench_of(peer: Peer) -> Iterator[Bench]:
    """Give a peer a Redis."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(peer, Path(folder))
        try:
            yield bench
        finally:
            bench.close()


def throughput(peer: Peer, concurrency: int) -> tuple[float, float]:
    """Return how many waiting jobs are started in a second, and the CPU milliseconds that each takes."""
    with bench_of(peer) as bench:
        bench.send(peer.jobs)
        with bench.worker(concurrency) as worker:
            until(lambda: bench.started(1), PATIENCE_S)
            spent_s, done = cpu_s(worker), int(bench.client.llen(STARTED))
            until(lambda: bench.started(peer.jobs), THROUGHPUT_LIMIT_S)
            spent_s, done = cpu_s(worker) - spent_s, int(bench.client.llen(STARTED)) - done
        at = sorted(at for _, at, _, _ in bench.starts())
    rate = (len(at) - 1) / (at[-1] - at[0]) if len(at) > 1 else 0.0
    return rate, 1000 * spent_s / max(done, 1)


def pick_up_ms(peer: Peer) -> tuple[float, float]:
    """Return median and 99th percentile of the time from sending to the start."""
    with bench_of(peer) as bench:
        bench.send(1)  # the worker has met a job, and its queue is there
        with bench.worker(10):
            until(lambda: bench.started(1), PATIENCE_S)
            bench.client.delete(STARTED)
            bench.send(peer.pick_ups, pause=0.02)
            took_ms = sorted(1000 * (at - sent) for _, at, sent, _ in bench.starts())
    return statistics.median(took_ms), took_ms[math.ceil(0.99 * len(took_ms)) - 1]


def bytes_per_waiting(peer: Peer) -> float:
    """Return what Redis holds for each waiting job."""
    with bench_of(peer) as bench:
        bench.send(1)
        before = int(bench.client.info("memory")["used_memory"])
        bench.send(WAITING)
        return (int(bench.client.info("memory")["used_memory"]) - before) / WAITING


def recovery(peer: Peer, limit_s: float) -> dict[str, float | int | None]:
    """Return after how many seconds a killed worker's job ran again, and how often it started in all."""
    with bench_of(peer) as bench, ExitStack() as stack:
        bench.send(1)
        workers = [stack.enter_context(bench.worker(1)) for _ in range(2)]
        until(lambda: bench.started(1), PATIENCE_S)
        time.sleep(5)  # until both are idle: nothing tells that of a peer
        bench.client.delete(STARTED)
        bench.send(1, seconds=LONG_JOB_S)
        if not until(lambda: bench.started(1), PATIENCE_S):
            return {"recovery_s": None, "starts": 0}
        time.sleep(0.5)
        pid = bench.starts()[0][3]
        kill_tree(next(w for w in workers if pid in [w.pid, *descendants(w.pid)]))
        killed_at = time.time()
        recovered = until(lambda: bench.started(2), limit_s)
        time.sleep(LONG_JOB_S + 1)
        starts = bench.starts()
    return {"recovery_s": starts[1][1] - killed_at if recovered else None, "starts": len(starts)}


def own_memory() -> dict[str, float]:
    """Return what Redis holds for 100,000 waiting scans, and when they are gone, MiB."""
    job, scan = "019500000000700080000000000000ab", "019500000000700080000000000000cd"
    event: Any = ScanUploaded(job_id=job, scan_id=scan, path=f"jobs/{job}/{scan}/scan.nii.gz").to_fields()
    with bench_of(PEERS[1]) as bench:

        def used_mib() -> float:
            return int(bench.client.info("memory")["used_memory"]) / 2**20

        bench.client.xgroup_create("scans", "processors", id="0", mkstream=True)
        before = used_mib()
        with bench.client.pipeline(transaction=False) as pipe:
            for _ in range(OWN_WAITING):
                pipe.xadd("scans", event)
            entry_ids: Any = pipe.execute()
            full = used_mib()
            for entry_id in entry_ids:
                pipe.xdel("scans", entry_id)
            pipe.execute()
        return {"waiting": OWN_WAITING, "mib": full - before, "mib_when_done": used_mib() - before}


def prepare(peers: Sequence[Peer]) -> None:
    """Make the environments that are missing."""
    for peer in peers:
        if peer.packages and not (peer.bin / "python").exists():
            print(f"making the environment of {peer.name} ...", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", ENVIRONMENTS / peer.name], check=True)
            subprocess.run([peer.bin / "pip", "install", "--quiet", *peer.packages], check=True)


def measure(peers: Sequence[Peer], rounds: int, recovery_limit_s: float) -> dict[str, Any]:
    """Return every figure."""
    load = os.getloadavg()[0]
    taken: dict[str, dict[str, list[float]]] = {peer.name: {} for peer in peers}
    for number in range(rounds):
        for peer in peers:
            print(f"round {number + 1} of {rounds}: {peer.name}", file=sys.stderr)
            rate_1, cpu_ms_1 = throughput(peer, 1)
            rate_10, cpu_ms_10 = throughput(peer, 10)
            p50, p99 = pick_up_ms(peer)
            figures = {
                "jobs_per_s_1": rate_1,
                "jobs_per_s_10": rate_10,
                "cpu_ms_1": cpu_ms_1,
                "cpu_ms_10": cpu_ms_10,
                "pick_up_p50_ms": p50,
                "pick_up_p99_ms": p99,
                "bytes_per_waiting": bytes_per_waiting(peer),
            }
            for name, figure in figures.items():
                taken[peer.name].setdefault(name, []).append(figure)
    result: dict[str, dict[str, Any]] = {
        peer: {name: statistics.median(figures) for name, figures in of_peer.items()}
        for peer, of_peer in taken.items()
    }
    print("recovery, all at a time", file=sys.stderr)
    recovering = [peer for peer in peers if peer.name != "floor"]
    with ThreadPoolExecutor(len(recovering)) as pool:
        recovered = pool.map(lambda peer: recovery(peer, recovery_limit_s), recovering)
        for peer, times in zip(recovering, recovered, strict=True):
            result[peer.name] |= times
    return {
        "load_before": load,
        "rounds": rounds,
        "recovery_limit_s": recovery_limit_s,
        "peers": result,
        "own_memory": own_memory(),
    }


def print_table(result: dict[str, Any]) -> None:
    """Print the figures for people."""
    heads = (
        *("jobs/s c1", "jobs/s c10", "CPU ms c1", "CPU ms c10"),
        *("p50 ms", "p99 ms", "B/waiting", "recovery s", "starts"),
    )
    print(f"{'':<12}" + "".join(f"{head:>12}" for head in heads))
    for peer, figures in result["peers"].items():
        recovered = figures.get("recovery_s")
        none = "-" if "starts" not in figures else f"> {result['recovery_limit_s']:.0f}"
        cells = (
            f"{figures['jobs_per_s_1']:.0f}",
            f"{figures['jobs_per_s_10']:.0f}",
            f"{figures['cpu_ms_1']:.2f}",
            f"{figures['cpu_ms_10']:.2f}",
            f"{figures['pick_up_p50_ms']:.1f}",
            f"{figures['pick_up_p99_ms']:.1f}",
            f"{figures['bytes_per_waiting']:.0f}",
            none if recovered is None else f"{recovered:.1f}",
            str(figures.get("starts", "-")),
        )
        print(f"{peer:<12}" + "".join(f"{cell:>12}" for cell in cells))
    if {"floor", "corestream"} <= result["peers"].keys():
        floor, own = result["peers"]["floor"], result["peers"]["corestream"]
        for concurrency in (1, 10):
            rate, cpu = f"jobs_per_s_{concurrency}", f"cpu_ms_{concurrency}"
            print(
                f"corestream, {concurrency} at a time: {own[rate] / floor[rate]:.0%} of the floor's jobs/s, "
                f"{own[cpu] / floor[cpu]:.2f} times its CPU"
            )
    memory = result["own_memory"]
    print(
        f"{memory['waiting']} waiting scans take {memory['mib']:.0f} MiB, "
        f"{memory['mib_when_done']:.1f} MiB when done"
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [peer.name for peer in PEERS]
    parser.add_argument("--peers", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--recovery-limit", type=float, default=150.0, help="seconds, then it counts as never"
    )
    options = parser.parse_args()
    peers = [peer for peer in PEERS if peer.name in options.peers]
    prepare(peers)
    result = measure(peers, options.rounds, options.recovery_limit)
    print_table(result)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "streams.json").write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
