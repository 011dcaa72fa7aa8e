"""What nobody understands is set aside with every byte of it, and holds nobody up."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.events import JobFinished, ScanUploaded
from pipeline.streams import publish
from tests.support.system import running_system

POISON: dict[str, dict[bytes, bytes]] = {
    "no event at all": {b"payload": b"\xff\x00\xfe'\r\n"},
    "an unknown type": {b"schema": b"1", b"type": b"scan.eaten", b"job_id": b"j", b"at": b"now"},
    "an unknown schema": {b"schema": b"99", b"type": b"scan.uploaded", b"job_id": b"j"},
    "bytes where an id belongs": {b"schema": b"1", b"type": b"job.finished", b"job_id": b"\xff\xfe"},
}


@pytest.mark.parametrize("fields", POISON.values(), ids=POISON.keys())
async def test_poison_is_dead_lettered_with_its_bytes(
    tmp_path: Path, redis_url: str, fields: dict[bytes, bytes]
) -> None:
    """In either stream, after one start; the scan behind it is processed as if nothing had been."""
    poison = {name.decode(): value.decode("utf-8", "surrogateescape") for name, value in fields.items()}
    async with running_system(tmp_path, redis_url) as system:
        streams = (system.keys.scans, system.keys.results)
        ids = [await publish(system.client, stream, poison) for stream in streams]
        job = await system.submit(email="reader@hospital.example")
        await system.until_idle()
        assert (await system.status(job))["mail"] == "sent"
        letters = await system.dead.list()
    assert sorted(letter.entry_id for letter in letters) == sorted(ids)
    for letter in letters:
        assert letter.deliveries == 1
        assert letter.error.startswith("UnknownEventError: ")
        stored = {name: value.encode("utf-8", "surrogateescape") for name, value in letter.fields.items()}
        assert stored == {name.decode(): value for name, value in fields.items()}


async def test_an_event_of_the_other_stream_is_dead_lettered(tmp_path: Path, redis_url: str) -> None:
    """A whole event in the wrong place is as little understood."""
    async with running_system(tmp_path, redis_url) as system:
        uploaded = ScanUploaded(job_id="0" * 32, scan_id="1" * 32, path="jobs/x")
        await publish(system.client, system.keys.results, uploaded.to_fields())
        finished = JobFinished(job_id="0" * 32)
        await publish(system.client, system.keys.scans, finished.to_fields())
        await system.until_idle()
        letters = await system.dead.list()
    assert {letter.origin: letter.fields["type"] for letter in letters} == {
        system.keys.results: "scan.uploaded",
        system.keys.scans: "job.finished",
    }
