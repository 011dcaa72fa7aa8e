"""Redis Streams as a job pipeline in which nothing is lost and nothing happens twice.

Producers `publish` flat string fields. A `Consumer` holds each entry under a lease that it renews while the
handler runs; the `Effect` that the handler returns is written in the same atomic step that acknowledges and
deletes the entry, and only by its present owner. Entries of dead consumers are claimed by the others within
1.2 leases; entries that cannot be processed go to a stream of dead letters with their reason.

Needs Redis 6.2 or any Valkey. Knows nothing of what the entries mean.
"""

from redis.exceptions import RedisError

from pipeline.streams.client import (
    connect,
    durability_warnings,
    wait_until_ready,
    warn_unless_durable,
    why_unavailable,
)
from pipeline.streams.consumer import Consumer
from pipeline.streams.dead import DeadLetter, DeadLetters
from pipeline.streams.delivery import Delivery, Reason, Source
from pipeline.streams.effect import Effect
from pipeline.streams.errors import PermanentError, RetryRefusedError, TransientError, UnavailableError
from pipeline.streams.inspection import Pending, Server, read_pending, read_server
from pipeline.streams.observation import Delivered, Ended, Observation, Observer, Outcome
from pipeline.streams.presence import Presence
from pipeline.streams.publisher import ensure_group, publish
from pipeline.streams.stats import StreamStats, read_stats

__all__ = [
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
