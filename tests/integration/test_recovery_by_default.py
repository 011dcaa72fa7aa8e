"""What an installation does that nobody has tuned."""

from __future__ import annotations

from pipeline.settings import PipelineSettings
from tests.support.stream_bench import Bench

RECOVERY_S = 20.0


def test_the_defaults_are_those_that_are_promised() -> None:
    """A lease of 15 s, given up after three starts."""
    fields = PipelineSettings.model_fields
    assert (fields["lease_ms"].default, fields["max_deliveries"].default) == (15_000, 3)


async def test_a_killed_worker_is_replaced_within_20_s_by_default(redis_url: str) -> None:
    """SIGKILL in mid-job, the default lease: an idle consumer starts the entry again, once."""
    bench = Bench(redis_url, lease_ms=PipelineSettings.model_fields["lease_ms"].default)
    with bench.process() as victim:
        entry_id = await bench.add(seconds="1")
        await bench.until_started(entry_id)
        async with bench.consuming(bench.consumer()):
            victim.kill()
            assert await bench.until_started(entry_id, times=2) <= RECOVERY_S
            await bench.until_empty()
    assert await bench.finished() == [entry_id]
    await bench.close()
