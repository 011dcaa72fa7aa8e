"""pipeline.streams, as it comes: `corestream_peer.py worker` consumes, anything else sends."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
import work

from pipeline.streams import Consumer, Delivery, Effect, Reason, connect, ensure_group, publish

STREAM, GROUP = "work", "workers"


async def handle(delivery: Delivery) -> Effect:
    """Run the job of an entry."""
    number, sent_at, seconds = (float(delivery.fields[name]) for name in ("number", "sent_at", "seconds"))
    await work.async_job(int(number), sent_at, seconds)
    return Effect.none()


async def on_dead(delivery: Delivery, reason: Reason) -> Effect:  # noqa: ARG001 - the protocol's
    """Nothing is told."""
    return Effect.none()


async def consume() -> None:
    """Consume until SIGTERM."""
    # A line a delivery is for a screen or a file; the others print none of theirs either.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = connect(work.URL)
    consumer = Consumer(
        client,
        stream=STREAM,
        group=GROUP,
        dead_stream="dead",
        handler=handle,
        on_dead=on_dead,
        slots=work.CONCURRENCY,
    )
    await consumer.run(stop)


@asynccontextmanager
async def connected() -> AsyncIterator[work.Enqueue]:
    """Give what sends a job."""
    client = connect(work.URL)
    await ensure_group(client, STREAM, GROUP)

    async def enqueue(number: int, sent_at: float, seconds: float) -> None:
        fields = {"number": str(number), "sent_at": str(sent_at), "seconds": str(seconds)}
        await publish(client, STREAM, fields)

    yield enqueue
    await client.aclose()


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        asyncio.run(consume())
    else:
        work.send(connected)
