"""Every metric of the services, for Prometheus. docs/operations.md has the table.

Each service has a registry of its own and puts into it the groups of metrics that concern it. Labels take
values that the code or this installation's streams name, never identifiers or what a client sends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from pipeline.streams import Delivered, Ended, Observation, RedisError, StreamStats

_QUICK_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Upper bounds for what shall be over at once."""
_SCAN_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
"""Upper bounds for steps of a scan: from milliseconds to an hour in line."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def new_registry() -> CollectorRegistry:
    """Return the registry of a service, with what every process tells of itself: CPU, memory, open files."""
    disable_created_metrics()  # a second series beside each, of which Prometheus makes nothing
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


class HttpMetrics:
    """What a server answers."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._requests = Counter(
            "corestream_http_requests",
            "Answered requests; route is the pattern, never the path.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "corestream_http_request_seconds",
            "Time from a request to the end of its answer.",
            ["route"],
            buckets=_QUICK_S,
            registry=registry,
        )
        self._refusals = Counter(
            "corestream_http_refusals",
            "Answers that refuse, by error code (docs/errors.md).",
            ["code"],
            registry=registry,
        )

    def answered(self, *, method: str, route: str | None, status: int, took_s: float) -> None:
        """Count an answer; what matches no route is one series, whatever its path."""
        known = method if method in _METHODS else "other"
        self._requests.labels(known, route or "none", str(status)).inc()
        self._seconds.labels(route or "none").observe(took_s)

    def refused(self, code: str) -> None:
        """Count a problem document."""
        self._refusals.labels(code).inc()


class UploadMetrics:
    """What comes in at the door; what is refused there counts as HTTP refusals."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._scans = Counter("corestream_uploads", "Scans accepted.", registry=registry)
        self._bytes = Counter(
            "corestream_upload_bytes", "Bytes of the scans accepted, as uploaded.", registry=registry
        )

    def accepted(self, size_bytes: int) -> None:
        """Count an accepted scan."""
        self._scans.inc()
        self._bytes.inc(size_bytes)


class DeliveryMetrics:
    """What a consumer does; an observer of `pipeline.streams.Consumer`.

    Args:
        prefix: Of the streams' names, left out in labels.
        registry: Where the metrics go.
    """

    def __init__(self, prefix: str, registry: CollectorRegistry | None = None) -> None:
        self._prefix = prefix
        self._started = Counter(
            "corestream_deliveries",
            "Entries that came into this consumer's hands: new, handed_back, reclaimed, recovered.",
            ["stream", "source"],
            registry=registry,
        )
        self._ended = Counter(
            "corestream_deliveries_ended",
            "Deliveries by what became of them; lost is a lost lease.",
            ["stream", "outcome"],
            registry=registry,
        )
        self._seconds = Histogram(
            "corestream_delivery_seconds",
            "Time from a delivery to its end.",
            ["stream"],
            buckets=_SCAN_S,
            registry=registry,
        )

    def __call__(self, observation: Observation) -> None:
        """Count what a consumer tells."""
        stream = observation.delivery.stream.removeprefix(self._prefix)
        match observation:
            case Delivered():
                self._started.labels(stream, observation.delivery.source).inc()
            case Ended():
                self._ended.labels(stream, observation.outcome).inc()
                self._seconds.labels(stream).observe(observation.seconds)


class StageMetrics:
    """How long scans take, as whoever sees the end of a stage tells it."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._seconds = Histogram(
            "corestream_scan_seconds",
            "Time a scan spent in a stage: those of the time ledger, and each step that report.json names.",
            ["stage"],
            buckets=_SCAN_S,
            registry=registry,
        )

    def spent(self, stages_s: Mapping[str, float | None]) -> None:
        """Record the seconds of stages; of what is not known nothing."""
        for stage, seconds in stages_s.items():
            if seconds is not None:
                self._seconds.labels(stage).observe(seconds)


class ScanMetrics(StageMetrics):
    """How long scans take and how they end."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        super().__init__(registry)
        self._scans = Counter(
            "corestream_scans",
            "Scans that ended here: done, or the error code of their failure.",
            ["outcome"],
            registry=registry,
        )

    def ended(self, outcome: str) -> None:
        """Count an end: `done`, or an error code."""
        self._scans.labels(outcome).inc()


class MailMetrics:
    """What becomes of mails."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._mails = Counter(
            "corestream_mails",
            "Attempts to hand in a mail: accepted, deferred (tried again), failed (given up).",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("accepted", "deferred", "failed"):
            self._mails.labels(outcome)

    def ended(self, outcome: str) -> None:
        """Count an attempt: `accepted`, `deferred` or `failed`."""
        self._mails.labels(outcome).inc()


class InstallationMetrics:
    """What waits, runs and lies dead in the streams, and the room on the disk, as of the last `refresh`.

    One service tells it for all, or sums over services would count twice.

    Args:
        read_streams: Reads the stream's numbers, by the stream's name.
        free_bytes: Reads what the disk has left.
        registry: Where the metrics go.
    """

    def __init__(
        self,
        read_streams: Callable[[], Awaitable[Mapping[str, StreamStats]]],
        free_bytes: Callable[[], int],
        registry: CollectorRegistry,
    ) -> None:
        self._read_streams = read_streams
        self._free_bytes = free_bytes

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(f"corestream_{name}", meaning, labels, registry=registry)

        self._redis_up = gauge("redis_up", "1 while Redis answers.")
        self._waiting = gauge("stream_waiting", "Entries that nobody runs.", "stream")
        self._running = gauge("stream_running", "Entries held by a consumer.", "stream")
        self._oldest = gauge("stream_oldest_seconds", "Age of the oldest entry that is not done.", "stream")
        self._silent = gauge(
            "stream_silence_seconds", "Longest time since a delivered entry was renewed.", "stream"
        )
        self._dead = gauge("dead_letters", "Entries that were given up and wait for a decision.")
        self._disk = gauge("disk_free_bytes", "Room left where the scans lie.")

    async def refresh(self) -> None:
        """Read the numbers; those of an absent Redis are left out."""
        self._disk.set(self._free_bytes())
        try:
            streams = await self._read_streams()
        except (RedisError, OSError):
            self._redis_up.set(0)
            for gauge in (self._waiting, self._running, self._oldest, self._silent):
                gauge.clear()
            self._dead.set(float("nan"))
            return
        self._redis_up.set(1)
        for name, stats in streams.items():
            self._waiting.labels(name).set(stats.waiting)
            self._running.labels(name).set(stats.running)
            self._oldest.labels(name).set(stats.oldest_ms / 1000)
            self._silent.labels(name).set(stats.oldest_idle_ms / 1000)
            self._dead.set(stats.dead)
