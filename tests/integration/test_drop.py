"""The drop folder of a running ingest, with a real Redis."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from ingest import drop
from ingest.app import build
from ingest.drop import DropFolder
from ingest.settings import IngestSettings
from pipeline.storage import JobRecord
from tests.support.nifti_files import good
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually


@pytest.fixture
def settings(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> IngestSettings:
    """Of a service that has its own Redis and folders, and little patience."""
    monkeypatch.setattr(drop, "_LOOK_EVERY_MS", 50)
    monkeypatch.setattr(drop, "SETTLED_AFTER_S", 0.3)
    return IngestSettings(
        secret_key=SecretStr("s" * 64),
        redis_url=redis_url,
        data_dir=tmp_path / "data",
        drop_dir=tmp_path / "drop",
    )


@pytest.fixture
async def folder(settings: IngestSettings) -> AsyncIterator[Path]:
    """The drop folder of a running service."""
    server = TestServer(build(settings))
    await server.start_server()
    assert settings.drop_dir is not None
    yield settings.drop_dir
    await server.close()


async def moved(folder: Path, where: str, name: str) -> str:
    """Wait until something was moved; return what stands beside it."""

    async def is_moved() -> bool:
        return (folder / where / name).exists() and not (folder / name).exists()

    await eventually(is_moved)
    return (folder / where / f"{name}.txt").read_text()


def jobs(settings: IngestSettings) -> list[JobRecord]:
    """Return all jobs."""
    return [settings.storage.read_job(job_id) for job_id in settings.storage.job_ids()]


def audited(settings: IngestSettings) -> list[tuple[str, str, str | None]]:
    """Return action, outcome and job of every line of the audit log."""
    lines = (settings.storage.audit / "audit.jsonl").read_text().splitlines()
    return [(line["action"], line["outcome"], line.get("job_id")) for line in map(json.loads, lines)]


async def test_a_file_that_has_settled_becomes_a_job(
    folder: Path, settings: IngestSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not while it grows; with the address of its side-car; its name is in no log."""
    (folder / "doe.nii.json").write_text(json.dumps({"email": "a@example.org"}))
    with (folder / "doe.nii").open("wb", buffering=0) as file:
        file.write(good()[:3_000_000])
        file.write(good()[3_000_000:])
    words = await moved(folder, "done", "doe.nii")
    (record,) = jobs(settings)
    assert record.email == "a@example.org"
    assert settings.links(record).page in words
    assert {path.name for path in (folder / "done").iterdir()} == {"doe.nii", "doe.nii.txt", "doe.nii.json"}
    assert audited(settings) == [("submit", "ok", record.job_id)]
    out, err = capfd.readouterr()
    assert "doe" not in out + err


async def test_what_is_refused_lies_beside_the_reason(folder: Path, settings: IngestSettings) -> None:
    """The same words as everywhere; a second of the same name does not replace the first."""
    for number in (1, 2):
        (folder / "notes.nii").write_bytes(b"words")
        words = await moved(folder, "refused", "notes.nii" if number == 1 else "2-notes.nii")
        assert "(not-nifti)" in words
        assert "Expected " in words
    (folder / "scan.nii").write_bytes(good())
    (folder / "scan.nii.json").write_text("{")
    assert "(side-car-invalid)" in await moved(folder, "refused", "scan.nii")
    refusals = ["not-nifti", "not-nifti", "side-car-invalid"]
    assert audited(settings) == [("submit", code, None) for code in refusals]
    assert jobs(settings) == []


async def test_a_folder_is_one_submission(folder: Path, settings: IngestSettings, tmp_path: Path) -> None:
    """Its files in the order of their names; what is hidden is none."""
    made = tmp_path / "made"
    made.mkdir()
    for name in ("b.nii", "a.nii", ".DS_Store"):
        (made / name).write_bytes(good())
    made.rename(folder / "series")
    await moved(folder, "done", "series")
    (record,) = jobs(settings)
    assert len(record.scans) == 2


async def test_a_restart_in_the_middle_submits_nothing_twice(
    settings: IngestSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accepted, and killed before it was moved: the next start recognises the file, and moves it."""
    assert settings.drop_dir is not None
    with monkeypatch.context() as dying:
        dying.setattr(DropFolder, "_move", lambda *_: None)
        server = TestServer(build(settings))
        await server.start_server()
        (settings.drop_dir / "scan.nii").write_bytes(good())

        async def is_accepted() -> bool:
            return bool(jobs(settings))

        await eventually(is_accepted)
        await server.close()
    (first,) = jobs(settings)
    server = TestServer(build(settings))
    await server.start_server()
    words = await moved(settings.drop_dir, "done", "scan.nii")
    await server.close()
    assert jobs(settings) == [first]
    assert first.job_id in words


async def test_a_restart_after_the_side_car_was_moved_is_no_other_submission(
    settings: IngestSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between its two moves: the scan still belongs to the job that was made with the address."""
    assert settings.drop_dir is not None

    def move_the_side_car(drop: DropFolder, entry: Path, where: str, _words: str) -> None:
        side_car = entry.with_name(f"{entry.name}.json")
        if side_car.exists():
            side_car.rename(drop.folder / where / side_car.name)

    side_car = settings.drop_dir / "scan.nii.json"
    with monkeypatch.context() as dying:
        dying.setattr(DropFolder, "_move", move_the_side_car)
        server = TestServer(build(settings))
        await server.start_server()
        side_car.write_text(json.dumps({"email": "a@example.org"}))
        (settings.drop_dir / "scan.nii").write_bytes(good())

        async def is_moved() -> bool:
            return not side_car.exists()

        await eventually(is_moved)
        await server.close()
    server = TestServer(build(settings))
    await server.start_server()
    await moved(settings.drop_dir, "done", "scan.nii")
    await server.close()
    (record,) = jobs(settings)
    assert record.email == "a@example.org"


async def test_a_folder_that_was_taken_away_is_watched_again_when_it_is_back(
    settings: IngestSettings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Before the start or later, as the folder of another machine is; the service goes on meanwhile."""
    monkeypatch.setattr(drop, "_AGAIN_AFTER_S", 0.2)
    assert settings.drop_dir is not None
    elsewhere = settings.drop_dir.with_name("elsewhere")
    app = build(settings)
    settings.drop_dir.rename(elsewhere)
    settings.drop_dir.touch()  # so that it cannot be made
    async with TestServer(app):
        for name in ("first.nii", "second.nii"):
            said = ""

            async def was_said() -> bool:
                nonlocal said
                said += capfd.readouterr().out
                return "drop.not_watched" in said

            await eventually(was_said)
            assert "Traceback" not in said
            settings.drop_dir.unlink()
            elsewhere.rename(settings.drop_dir)
            (settings.drop_dir / name).write_bytes(good())
            await moved(settings.drop_dir, "done", name)
            settings.drop_dir.rename(elsewhere)
            settings.drop_dir.touch()


async def test_while_redis_is_away_a_file_waits(
    folder: Path, settings: IngestSettings, redis_server: RedisServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is not refused for what is no fault of its own."""
    redis_server.kill()
    (folder / "scan.nii").write_bytes(good())

    async def was_tried() -> bool:
        return "drop.waits" in capfd.readouterr().out

    await eventually(was_tried)
    redis_server.start()
    await moved(folder, "done", "scan.nii")
    assert list((folder / "refused").iterdir()) == []
    assert len(jobs(settings)) == 1


async def test_what_cannot_be_read_keeps_nothing_else_waiting(
    folder: Path, settings: IngestSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    """That is said, without its name, and it is tried again."""
    longest = f"{'a' * 250}.nii"  # its side-car's name would be too long to be looked for
    (folder / longest).write_bytes(good())
    (folder / "b.nii").write_bytes(good())
    await moved(folder, "done", "b.nii")
    out = ""

    async def was_said_twice() -> bool:
        nonlocal out
        out += capfd.readouterr().out
        return out.count("drop.entry_failed") > 1

    await eventually(was_said_twice)
    assert "aaaa" not in out
    assert len(jobs(settings)) == 1
