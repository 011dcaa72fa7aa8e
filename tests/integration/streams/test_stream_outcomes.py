"""What becomes of an entry: finished, handed back, dead-lettered; each in one step with its effect."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog

from pipeline.streams import (
    Delivered,
    Delivery,
    Effect,
    Ended,
    Observation,
    PermanentError,
    Reason,
    UnavailableError,
)
from tests.support.stream_bench import DEAD, GROUP, SLACK_S, STREAM, Bench
from tests.support.waiting import eventually


async def test_what_is_done_is_deleted(stream_bench: Bench) -> None:
    """Rule 13: 300 entries over many slots have one start and one effect each, and leave nothing behind."""
    stream_bench.lease_ms = 30_000
    ids = [await stream_bench.add(number=str(number)) for number in range(300)]
    async with stream_bench.consuming(stream_bench.consumer(slots=5), stream_bench.consumer(slots=5)):
        await stream_bench.until_empty()
    assert sorted(await stream_bench.finished()) == sorted(ids)
    assert [len(await stream_bench.starts(entry_id)) for entry_id in ids] == [1] * 300
    assert await stream_bench.client.xlen(STREAM) == 0
    assert await stream_bench.client.xpending_range(STREAM, GROUP, "-", "+", 1) == []


async def test_no_more_is_read_than_can_start(stream_bench: Bench) -> None:
    """Rule 3: an entry that waits stays with Redis, where any consumer can take it."""
    for number in range(6):
        await stream_bench.add(number=str(number), seconds="0.3")
    consumer = stream_bench.consumer(slots=2)
    async with stream_bench.consuming(consumer):
        for _ in range(20):
            stats = await stream_bench.stats()
            assert stats.running <= 2
            assert len(consumer.running) <= 2
            await asyncio.sleep(0.02)
        await stream_bench.until_empty()


async def test_a_permanent_error_is_dead_lettered_at_once(stream_bench: Bench) -> None:
    """What can never succeed is started once; its submitter is told in the step that buries it."""
    entry_id = await stream_bench.add(**{"raise": "permanent"})
    async with stream_bench.consuming(stream_bench.consumer()):
        await stream_bench.until_empty()
    (letter,) = await stream_bench.dead.list()
    assert (letter.entry_id, letter.deliveries) == (entry_id, 1)
    assert letter.error == "PermanentError: as the entry says"
    assert await stream_bench.told() == [f"{entry_id} {letter.error}"]
    assert await stream_bench.finished() == []


@pytest.mark.parametrize("kind", ["transient", "bug"])
async def test_a_retry_is_delayed_without_sleeping(stream_bench: Bench, kind: str) -> None:
    """Rule 11: an entry rests for its back-off (1/16 lease, doubling), and its slot is free meanwhile."""
    stream_bench.lease_ms = 6400
    entry_id = await stream_bench.add(**{"raise": kind, "until": "2"})
    other = await stream_bench.add(seconds="0")
    async with stream_bench.consuming(stream_bench.consumer()):
        await stream_bench.until_empty()
    first, second, third = await stream_bench.started_at(entry_id)
    (meanwhile,) = await stream_bench.started_at(other)
    assert meanwhile < second
    # A back-off of 0.4 and of 0.8 s; then a sweep, every 1.28 s, finds the entry.
    assert 0.4 <= second - first <= 0.4 + 1.28 + SLACK_S < stream_bench.lease_s
    assert 0.8 <= third - second <= 0.8 + 1.28 + SLACK_S < stream_bench.lease_s
    assert [count for count, _ in await stream_bench.starts(entry_id)] == [1, 2, 3]
    assert await stream_bench.finished() == [other, entry_id]


async def test_what_says_nothing_of_the_entry_is_not_counted(stream_bench: Bench) -> None:
    """A full disk, say, fails every entry: each is started again until there is room, and none is buried."""

    async def fail_six_times(delivery: Delivery) -> Effect:
        starts.append(delivery.count)
        if len(starts) <= 6:
            raise UnavailableError("no room")
        return Effect.none()

    starts: list[int] = []
    await stream_bench.add(number="1")
    async with stream_bench.consuming(stream_bench.consumer(handler=fail_six_times)):
        await stream_bench.until_empty()
    assert starts == [1] * 7
    assert await stream_bench.dead.list() == []


async def test_an_entry_is_not_buried_while_its_submitter_cannot_be_told(stream_bench: Bench) -> None:
    """Where the reason of a death cannot be recorded for want of room, the entry stays until it can."""

    async def tell_at_the_third_try(_: Delivery, reason: Reason) -> Effect:
        tries.append(reason.starts)
        if len(tries) < 3:
            raise UnavailableError("no room")
        return Effect.none()

    tries: list[int] = []
    entry_id = await stream_bench.add(**{"raise": "permanent"})
    async with stream_bench.consuming(stream_bench.consumer(on_dead=tell_at_the_third_try)):
        await stream_bench.until_empty()
    assert tries == [1, 1, 1]
    assert [letter.entry_id for letter in await stream_bench.dead.list()] == [entry_id]


async def test_the_last_failure_is_the_reason_of_death(stream_bench: Bench) -> None:
    """After MAX_DELIVERIES failures the entry is buried with what was raised, without a fourth start."""
    entry_id = await stream_bench.add(**{"raise": "bug"})
    async with stream_bench.consuming(stream_bench.consumer()):
        await stream_bench.until_empty()
    (letter,) = await stream_bench.dead.list()
    assert letter.deliveries == len(await stream_bench.starts(entry_id)) == 3
    assert letter.error == "ZeroDivisionError: as the entry says"


async def test_a_dead_letter_has_the_bytes_of_its_entry(stream_bench: Bench) -> None:
    """Bytes that are no UTF-8 neither stop the consumer nor change on their way to the dead letters."""
    raw = b"\xff\x00\xfe'\r\n"
    await stream_bench.add(payload=raw.decode("utf-8", "surrogateescape"), **{"raise": "permanent"})
    async with stream_bench.consuming(stream_bench.consumer()):
        await stream_bench.until_empty()
    (letter,) = await stream_bench.dead.list()
    assert letter.fields["payload"].encode("utf-8", "surrogateescape") == raw
    await stream_bench.dead.retry(letter.dead_id)
    async with stream_bench.consuming(stream_bench.consumer()):
        await stream_bench.until_empty()
    (again,) = await stream_bench.dead.list()
    assert again.fields["payload"].encode("utf-8", "surrogateescape") == raw


async def test_a_failing_on_dead_does_not_keep_an_entry_alive(stream_bench: Bench) -> None:
    """An entry that nobody understands is dead-lettered even if nobody can be told."""
    entry_id = await stream_bench.add(**{"raise": "permanent", "on_dead": "raises"})
    async with stream_bench.consuming(stream_bench.consumer()):
        await stream_bench.until_empty()
    assert [letter.entry_id for letter in await stream_bench.dead.list()] == [entry_id]
    assert await stream_bench.told() == []


async def test_an_effect_that_redis_refuses_leaves_the_entry_pending(stream_bench: Bench) -> None:
    """Effect and acknowledgement are one step: when the effect fails the entry is not acknowledged."""
    await stream_bench.client.set("out", "not a stream")
    entry_id = await stream_bench.add(number="1")
    async with stream_bench.consuming(stream_bench.consumer(max_deliveries=2)):
        await stream_bench.until_empty()
    (letter,) = await stream_bench.dead.list()
    assert (letter.entry_id, letter.deliveries) == (entry_id, 2)
    assert "WRONGTYPE" in letter.error


async def test_a_handler_that_cancels_itself_is_a_bug_that_counts(stream_bench: Bench) -> None:
    """A stray CancelledError must not look like a stop of the consumer, which is handed back uncounted."""

    async def cancel_itself(_: Delivery) -> Effect:
        raise asyncio.CancelledError

    await stream_bench.add(number="1")
    consumer = stream_bench.consumer(handler=cancel_itself)
    async with stream_bench.consuming(consumer):
        await stream_bench.until_empty()
    (letter,) = await stream_bench.dead.list()
    assert letter.deliveries == 3


async def test_a_delivery_logs_one_line_with_what_names_it(stream_bench: Bench) -> None:
    """One line a delivery: outcome, entry, count, seconds, and the fields that the service chose."""

    async def refuse(_: Delivery) -> Effect:
        raise PermanentError("no")

    entry_id = await stream_bench.add(job_id="j1", path="not logged")
    consumer = stream_bench.consumer(handler=refuse, log_fields=("job_id", "scan_id"))
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        async with stream_bench.consuming(consumer):
            await stream_bench.until_empty()
    (line,) = [line for line in lines if line["event"].startswith("delivery.")]
    assert line.pop("seconds") >= 0
    assert line == {
        "event": "delivery.ended",
        "outcome": "dead",
        "log_level": "warning",
        "stream": STREAM,
        "source": "new",
        "entry_id": entry_id,
        "job_id": "j1",
        "deliveries": 1,
        "error": "PermanentError: no",
    }


async def test_an_observer_is_told_where_each_delivery_came_from_and_how_it_ended(
    stream_bench: Bench,
) -> None:
    """Metrics attach here: new, reclaimed from the dead, handed back; finished, dead, lost."""
    seen: list[tuple[str, int, str]] = []

    def observe(observation: Observation) -> None:
        what = observation.outcome if isinstance(observation, Ended) else "delivered"
        seen.append((observation.delivery.source, observation.delivery.count, what))

    await stream_bench.add(number="1", **{"raise": "transient", "until": "1"})
    async with stream_bench.consuming(stream_bench.consumer(observers=(observe,))):
        await stream_bench.until_empty()
        await stream_bench.add(number="2")
        await stream_bench.until_empty()
    assert seen == [
        ("new", 1, "delivered"),
        ("new", 1, "handed_back"),
        ("handed_back", 2, "delivered"),
        ("handed_back", 2, "finished"),
        ("new", 1, "delivered"),
        ("new", 1, "finished"),
    ]


async def test_an_observer_is_told_of_what_was_reclaimed_and_lost(stream_bench: Bench) -> None:
    """A dead consumer's entry is `reclaimed`; a delivery whose entry another one took is `lost`."""
    seen: list[Observation] = []
    entry_id = await stream_bench.add(seconds="60")
    await stream_bench.client.xreadgroup(GROUP, "dead-consumer", {STREAM: ">"})
    async with stream_bench.consuming(stream_bench.consumer(observers=(seen.append,))):
        await stream_bench.until_started(entry_id)
        await stream_bench.client.xclaim(STREAM, GROUP, "thief", 0, [entry_id])
        await stream_bench.client.xack(STREAM, GROUP, entry_id)
        await stream_bench.client.xdel(STREAM, entry_id)

        async def lost() -> bool:
            return len(seen) == 2

        await eventually(lost)
    delivered, ended = seen
    assert isinstance(delivered, Delivered)
    assert (delivered.delivery.source, delivered.delivery.count) == ("reclaimed", 2)
    assert isinstance(ended, Ended)
    assert ended.outcome == "lost"
    assert ended.seconds > 0


async def test_an_observer_that_fails_stops_nothing(stream_bench: Bench) -> None:
    """Counting is never a reason not to work."""

    def fail(_: Observation) -> None:
        raise ZeroDivisionError

    entry_id = await stream_bench.add(number="1")
    with structlog.testing.capture_logs() as lines:
        async with stream_bench.consuming(stream_bench.consumer(observers=(fail,))):
            await stream_bench.until_empty()
    assert await stream_bench.finished() == [entry_id]
    assert [line["event"] for line in lines].count("delivery.observer_failed") == 2


async def test_a_retried_dead_letter_starts_afresh_and_keeps_its_history(stream_bench: Bench) -> None:
    """Retry makes a new entry with a fresh count; its next death knows of the earlier ones."""
    first_id = await stream_bench.add(**{"raise": "permanent"})
    async with stream_bench.consuming(stream_bench.consumer()):
        await stream_bench.until_empty()
        (letter,) = await stream_bench.dead.list()
        second_id = await stream_bench.dead.retry(letter.dead_id)
        assert second_id is not None
        await stream_bench.until_empty()
    (again,) = await stream_bench.dead.list()
    assert (again.entry_id, again.deliveries) == (second_id, 1)
    assert again.fields["raise"] == "permanent"
    assert [death["entry_id"] for death in again.history] == [first_id]
    assert [death["error"] for death in again.history] == ["PermanentError: as the entry says"]


async def test_a_dead_letter_is_retried_or_dropped_once(stream_bench: Bench) -> None:
    """Two people at two pages cannot retry one letter into two entries, nor drop it twice."""
    await stream_bench.add(**{"raise": "permanent", "number": "1"})
    await stream_bench.add(**{"raise": "permanent", "number": "2"})
    async with stream_bench.consuming(stream_bench.consumer()):
        await stream_bench.until_empty()
    newest, oldest = await stream_bench.dead.list()
    assert (newest.fields["number"], oldest.fields["number"]) == ("2", "1")
    ids = await asyncio.gather(*(stream_bench.dead.retry(newest.dead_id) for _ in range(5)))
    assert len([entry_id for entry_id in ids if entry_id]) == 1
    assert (await stream_bench.stats()).length == 1
    assert await stream_bench.dead.show(oldest.dead_id) == oldest
    assert [await stream_bench.dead.drop(oldest.dead_id) for _ in range(2)] == [True, False]
    assert await stream_bench.dead.show(oldest.dead_id) is None


async def test_a_dead_letter_is_known_by_its_whole_id(stream_bench: Bench) -> None:
    """Redis takes `5` for any `5-N` when it looks and for `5-0` when it deletes: a retry would double it."""
    await stream_bench.add(**{"raise": "permanent"})
    async with stream_bench.consuming(stream_bench.consumer()):
        await stream_bench.until_empty()
    found: Any = await stream_bench.client.xrange(DEAD)
    ((_, stored),) = found
    await stream_bench.client.delete(DEAD)
    await stream_bench.client.xadd(DEAD, stored, id="5-1")
    assert await stream_bench.dead.show("5") is None
    assert await stream_bench.dead.retry("5") is None
    stats = await stream_bench.stats()
    assert (stats.length, stats.dead) == (0, 1)
