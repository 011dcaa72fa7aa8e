"""Redis Streams as a job pipeline in which nothing is lost and nothing happens twice.

Needs Redis 6.2 or any Valkey, redis-py and structlog; imports nothing else, so that the folder can be lifted
out. Knows nothing of what the entries mean.

    client = connect("redis://127.0.0.1/0")

    # a producer
    await ensure_group(client, "work", "workers")
    await publish(client, "work", {"job_id": "7"})

    # a consumer: what the handler returns is written in the step that acknowledges and deletes the entry
    async def handle(delivery: Delivery) -> Effect:
        outcome = await work(delivery.fields["job_id"])
        return Effect("redis.call('HSET', KEYS[1], 'outcome', ARGV[1])", keys=("job:7",), args=(outcome,))

    async def give_up(delivery: Delivery, reason: Reason) -> Effect:
        return Effect.none()

    stop = asyncio.Event()  # set by SIGTERM
    await Consumer(
        client, stream="work", group="workers", dead_stream="dead", handler=handle, on_dead=give_up
    ).run(stop)

A handler that raises `TransientError` (or anything unforeseen) is tried again after a back-off, at most
`max_deliveries` times; `PermanentError` ends at once. Both ends are dead letters: see `DeadLetters`.
`read_stats` says what waits and runs, observers (`Observer`) are told of each delivery, and
`pipeline.testing` has a Redis in memory for tests.

    connect, durability_warnings   client.py       connections, and what is wrong with a server
    ensure_group, publish          publisher.py    writing entries
    Consumer                       consumer.py     the loop: deliveries in, one settled outcome out of each
                                   reader.py       where they come from: new, recovered, reclaimed
                                   lease.py        renewal while a handler runs
                                   scripts.py      the Lua: each step in the life of a delivery, atomic
    Delivery, Reason               delivery.py     what a handler is given
    Effect                         effect.py       what it returns
    TransientError, ...            errors.py       what it raises
    DeadLetters                    dead.py         what was given up: list, show, retry, drop
    Delivered, Ended               observation.py  the canonical log line, and what metrics attach to
    read_stats                     stats.py        the numbers to watch and to scale by
    read_pending, read_server      inspection.py   which entries run where, and how the server is
    Presence                       presence.py     who lives
                                   backoff.py      how long to wait before trying again

What holds, each with one test that carries the number (`tests/integration`):

 1. The group is made at `0`, with its stream, by producer and consumer alike.
 2. A group that vanishes is made again, with a back-off.
 3. No more is read than can start now.
 4. Blocking reads have a connection to themselves and end before the socket's patience does.
 5. A blocked read is never cancelled: a flag stops it, and own history is drained after a failure.
 6. A lease is renewed while its job runs, by its owner alone; a renewal is no start.
 7. Renewal is kept off the job's thread.
 8. Finishing is fenced: still the owner? then effect, acknowledgement and deletion in one step.
 9. What the dead leave is reclaimed on a timer, not on traffic.
10. Starts are counted, and what has used them up is dead-lettered before another.
11. A retry is delayed without sleeping.
12. SIGTERM drains, then hands back uncounted.
13. What is done is deleted, so the stream's length is what waits and what runs.
14. One stream a stage, one group a stream.
15. No work stream is trimmed.
16. An entry without a body is expected, and forgotten.
17. Results are keyed by the job, not by the entry; the client never repeats a publication.
18. A mail is on record before its event is acknowledged, under a name that is the same at every try.
19. Consumers have names of their own; the dead are reaped unless something is pending for them.
20. The server may be killed, paused or away: nobody exits, nothing is lost.
21. A server that could evict or forget is named at the start.
22. Nothing is read without acknowledgement, and nothing without a sweep.
23. Length, lag, pending, idle times, delivery counts, dead letters are exported; an unknown lag is not zero.
24. A child that dies is replaced, and its own job alone is charged.
"""

from redis.asyncio import Redis
from redis.exceptions import RedisError

from pipeline.streams.client import (
    connect,
    durability_warnings,
    wait_until_ready,
    warn_unless_durable,
    why_unavailable,
)
from pipeline.streams.consumer import Consumer
from pipeline.streams.dead import PUT_BACK, DeadLetter, DeadLetters
from pipeline.streams.delivery import Delivery, Reason, Source
from pipeline.streams.effect import Effect
from pipeline.streams.errors import PermanentError, RetryRefusedError, TransientError, UnavailableError
from pipeline.streams.inspection import Pending, Server, read_pending, read_server
from pipeline.streams.observation import Delivered, Ended, Observation, Observer, Outcome
from pipeline.streams.presence import Presence
from pipeline.streams.publisher import ensure_group, publish
from pipeline.streams.stats import StreamStats, read_stats

__all__ = [
    "PUT_BACK",
    "Consumer",
    "DeadLetter",
    "DeadLetters",
    "Delivered",
    "Delivery",
    "Effect",
    "Ended",
    "Observation",
    "Observer",
    "Outcome",
    "Pending",
    "PermanentError",
    "Presence",
    "Reason",
    "Redis",
    "RedisError",
    "RetryRefusedError",
    "Server",
    "Source",
    "StreamStats",
    "TransientError",
    "UnavailableError",
    "connect",
    "durability_warnings",
    "ensure_group",
    "publish",
    "read_pending",
    "read_server",
    "read_stats",
    "wait_until_ready",
    "warn_unless_durable",
    "why_unavailable",
]
