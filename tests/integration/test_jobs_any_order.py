"""A job of several scans ends once, in whatever order its scans end and whatever crashes or is repeated."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pipeline.clock import now
from pipeline.errors import Failure
from pipeline.events import Event, JobFinished, ScanFailed, ScanProcessed, ScanUploaded, parse_event
from pipeline.ids import new_id
from pipeline.jobs import Jobs
from pipeline.keys import NOTIFIERS, PROCESSORS, Keys
from pipeline.storage import JobRecord, ScanRecord, Storage
from pipeline.streams import Delivery, Effect, Reason, connect, ensure_group, publish
from pipeline.streams.scripts import FROM_START, HANDED_BACK, Scripts
from tests.support.redis_server import RedisServer, running_redis

KEYS = Keys("test:")
FAILURE = Failure(code="c", title="t", detail="d")
T = TypeVar("T")
consumers = st.sampled_from(["first", "second"])
any_delivery = st.integers(0, 1000)
"""Picks one of all deliveries ever made, those of consumers that lost theirs long ago included."""


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis for all examples."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


class JobInAnyOrder(RuleBasedStateMachine):
    """One job, two processors that die, stall, repeat themselves, and a sweeper."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.storage = Storage(Path(self.folder.name))
        self.storage.create_folders()
        self.client = connect(self.url)
        self.jobs = Jobs(self.client, KEYS)
        self.scripts = Scripts(self.client)
        self.deliveries: list[Delivery] = []

    def do(self, work: Awaitable[T]) -> T:
        """Wait for what is asynchronous."""

        async def wait() -> T:
            return await work

        return self.runner.run(wait())

    @initialize(scans=st.integers(1, 4))
    def submit(self, scans: int) -> None:
        """A job comes in."""
        self.do(self.client.flushall())
        parts = [self.storage.part_path(new_id()) for _ in range(scans)]
        for part in parts:
            part.write_bytes(b"voxels")
        later = now() + timedelta(hours=1)
        self.job = JobRecord(
            job_id=new_id(),
            created_at=now(),
            links_expire_at=later,
            expires_at=later,
            email="reader@hospital.example",
            scans=tuple(ScanRecord(scan_id=new_id(), sha256="0" * 64, size_bytes=6) for _ in parts),
        )
        self.storage.accept(self.job, parts)
        self.do(ensure_group(self.client, KEYS.scans, PROCESSORS))
        self.do(ensure_group(self.client, KEYS.results, NOTIFIERS))
        self.sweep()

    @rule()
    def sweep(self) -> None:
        """The sweeper, or the submission's retry, looks whether all is in order."""
        self.do(self.jobs.enqueue(self.job, self.storage))

    @rule(consumer=consumers)
    def read(self, consumer: str) -> None:
        """A processor takes a new entry."""
        reply: Any = self.do(self.client.xreadgroup(PROCESSORS, consumer, {KEYS.scans: ">"}, count=1))
        for _, entries in reply:
            for entry_id, fields in entries:
                self.deliveries.append(Delivery(KEYS.scans, PROCESSORS, consumer, entry_id, fields, count=1))

    @rule(consumer=consumers)
    def reclaim(self, consumer: str) -> None:
        """Every lease has run out, and a processor takes what it finds."""
        claim = self.scripts.claim(KEYS.scans, PROCESSORS, consumer, lease_ms=0, cursor=FROM_START, most=2)
        self.deliveries += self.do(claim).deliveries

    @rule(number=any_delivery, well=st.booleans(), dies=st.booleans())
    def end(self, number: int, *, well: bool, dies: bool) -> None:
        """A handler, its lease long lost perhaps, writes an outcome; it may die before it can say so."""
        if not self.deliveries:
            return
        delivery = self.deliveries[number % len(self.deliveries)]
        effect = self._outcome(delivery, well=well)
        if dies:
            return
        if well:
            self.do(self.scripts.finish(delivery, effect))
        else:
            self.do(self.scripts.bury(delivery, KEYS.dead, Reason("as it happens", delivery.count), effect))

    @rule(number=any_delivery)
    def hand_back(self, number: int) -> None:
        """A processor is told to stop."""
        if self.deliveries:
            delivery = self.deliveries[number % len(self.deliveries)]
            self.do(self.scripts.hand_back(delivery, idle_ms=0, counted=False))

    @rule(number=st.integers(0, 3))
    def repeat_event(self, number: int) -> None:
        """A producer's reply was lost, and it publishes again."""
        scan_id = self.job.scans[number % len(self.job.scans)].scan_id
        event = ScanUploaded(job_id=self.job.job_id, scan_id=scan_id, path="p")
        self.do(publish(self.client, KEYS.scans, event.to_fields()))

    @rule()
    def lose_the_stream(self) -> None:
        """Somebody deletes the stream of scans."""
        self.do(self.client.delete(KEYS.scans))
        self.do(ensure_group(self.client, KEYS.scans, PROCESSORS))

    @invariant()
    def nothing_is_said_twice(self) -> None:
        """At most one outcome a scan, one end a job, and the end only when all scans have one."""
        if not hasattr(self, "job"):
            return
        said = [event for event in self._results() if not isinstance(event, JobFinished)]
        scans = [event.scan_id for event in said if isinstance(event, ScanProcessed | ScanFailed)]
        assert len(scans) == len(set(scans))
        state = self.do(self.jobs.read(self.job.job_id))
        assert state is not None
        ended = [scan.state in {"done", "failed"} for scan in state.scans.values()]
        assert (state.state == "finished") == all(ended)
        assert self._finished() == (state.state == "finished")

    def teardown(self) -> None:
        """In the end a living processor does what is left, and the job has ended once."""
        if hasattr(self, "job"):
            self.sweep()
            while self.do(self.client.xlen(KEYS.scans)):
                self.deliveries.clear()
                self.read("last")
                self.reclaim("last")
                for delivery in self.deliveries:
                    assert delivery.consumer != HANDED_BACK
                    self.do(self.scripts.finish(delivery, self._outcome(delivery, well=True)))
            assert self._finished() == 1
            self.nothing_is_said_twice()
        self.do(self.client.aclose())
        self.runner.close()
        self.folder.cleanup()

    def _outcome(self, delivery: Delivery, *, well: bool) -> Effect:
        """Write an outcome where the processor writes it first, and return what it then tells Redis."""
        event = parse_event(delivery.fields)
        assert isinstance(event, ScanUploaded)
        ids = {"job_id": event.job_id, "scan_id": event.scan_id}
        if well or self.storage.result_dir(event.job_id, event.scan_id).exists():
            with self.storage.staged_result(event.job_id, event.scan_id):
                pass
            return self.jobs.scan_ended(ScanProcessed(**ids, path="p"))
        self.storage.write_failure(event.job_id, event.scan_id, FAILURE)
        return self.jobs.scan_ended(ScanFailed(**ids, path="p", **FAILURE.model_dump()))

    def _results(self) -> list[Event]:
        entries = self.do(self.client.xrange(KEYS.results))
        return [parse_event(cast("dict[str, str]", fields)) for _, fields in entries or ()]

    def _finished(self) -> int:
        return sum(isinstance(event, JobFinished) for event in self._results())


def test_a_job_ends_once_whatever_happens(shared_server: RedisServer) -> None:
    """Exactly one `job.finished`, and at most one outcome a scan; a failed scan holds back no other."""

    class OnTheServer(JobInAnyOrder):
        url = shared_server.url

    run_state_machine_as_test(
        OnTheServer,
        settings=settings(
            max_examples=30,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )
