"""The floor: the shortest loop over redis-py that runs a job and deletes its entry. It recovers nothing."""

import asyncio
import sys

import work
from corestream_peer import GROUP, STREAM, connected
from redis.asyncio import Redis


async def consume() -> None:
    """Read as many entries as are allowed at once, run them, delete them; for ever."""
    client = Redis.from_url(work.URL, decode_responses=True)

    async def run(entry_id: str, fields: dict[str, str]) -> None:
        await work.async_job(int(fields["number"]), float(fields["sent_at"]), float(fields["seconds"]))
        async with client.pipeline() as pipe:
            pipe.xack(STREAM, GROUP, entry_id)
            pipe.xdel(STREAM, entry_id)
            await pipe.execute()

    while True:
        reply = await client.xreadgroup(GROUP, "me", {STREAM: ">"}, count=work.CONCURRENCY, block=1000)
        for _, entries in reply:
            await asyncio.gather(*(run(entry_id, fields) for entry_id, fields in entries))


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        asyncio.run(consume())
    else:
        work.send(connected)
