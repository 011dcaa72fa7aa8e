"""The notifier against a real Redis and a real SMTP server: one mail a job, whatever happens."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from pydantic import SecretStr
from redis.asyncio import Redis

from notifier.mailer import Mailer
from notifier.settings import NotifierSettings
from notifier.worker import ResultHandler, serve
from pipeline.clock import now
from pipeline.events import JobFinished, ScanProcessed
from pipeline.ids import new_id
from pipeline.jobs import Jobs
from pipeline.keys import NOTIFIERS
from pipeline.storage import JobRecord
from pipeline.streams import DeadLetters, Delivery, TransientError, connect, ensure_group, publish
from tests.support.results import REFUSAL, accepted_job, publish_result
from tests.support.smtp_server import SmtpServer, running_smtp
from tests.support.waiting import PATIENCE_S, eventually

ADDRESS = "reader@hospital.example"


@pytest.fixture
async def smtp() -> AsyncIterator[SmtpServer]:
    """A mail server."""
    async with running_smtp() as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, redis_url: str, smtp: SmtpServer) -> NotifierSettings:
    """Leases of a third of a second, so that retries come soon."""
    return NotifierSettings(
        redis_url=redis_url,
        data_dir=tmp_path / "data",
        secret_key=SecretStr("s" * 64),
        smtp_url=SecretStr(smtp.url),
        mail_from="corestream@hospital.example",
        viewer_url="https://viewer.example",
        lease_ms=300,
    )


@pytest.fixture
async def client(redis_url: str, settings: NotifierSettings) -> AsyncIterator[Redis]:
    """A connection to a fresh Redis with the notifiers' group."""
    client = connect(redis_url)
    await ensure_group(client, settings.keys.results, NOTIFIERS)
    yield client
    await client.aclose()


@asynccontextmanager
async def running_notifier(settings: NotifierSettings) -> AsyncIterator[None]:
    """Run the service in this process until the block ends."""
    stop = asyncio.Event()
    task = asyncio.create_task(serve(settings, stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def finished_job(
    settings: NotifierSettings,
    client: Redis,
    *,
    email: str | None = ADDRESS,
    ttl: timedelta = timedelta(hours=1),
) -> JobRecord:
    """Accept a job of two scans that have ended, one well, and announce it."""
    storage = settings.storage
    job = accepted_job(storage, scans=2, email=email, links_expire_at=now() + ttl)
    publish_result(storage, job, job.scans[0].scan_id)
    storage.write_failure(job.job_id, job.scans[1].scan_id, REFUSAL)
    await Jobs(client, settings.keys).enqueue(job, storage)
    return job


async def settled(settings: NotifierSettings, client: Redis) -> None:
    """Wait until nothing is left in the stream of results."""

    async def empty() -> bool:
        return int(await client.xlen(settings.keys.results)) == 0

    await eventually(empty)


async def mail_state(settings: NotifierSettings, client: Redis, job: JobRecord) -> str:
    """Return what the job's page says of its mail."""
    state = await Jobs(client, settings.keys).read(job.job_id)
    assert state is not None
    return state.mail


async def test_a_finished_job_becomes_one_mail_with_a_working_link(
    settings: NotifierSettings, client: Redis, smtp: SmtpServer
) -> None:
    """The mail leads to the result; job and receipt say that it was sent."""
    job = await finished_job(settings, client)
    async with running_notifier(settings):
        await settled(settings, client)
    (mail,) = smtp.mails
    assert mail["To"] == ADDRESS
    assert mail["Subject"] == "corestream: 1 of your 2 scans is ready"
    body = mail.get_body(("plain",))
    assert body is not None
    link = next(
        line for line in body.get_content().splitlines() if line.startswith("https://viewer.example/r/")
    )
    assert settings.tokens.read(link.rpartition("/")[2]) == job.job_id
    assert "The network's estimate: 23.5 ml. Typical error ± 10.5 ml" in body.get_content()
    assert REFUSAL.title in body.get_content()
    assert await mail_state(settings, client, job) == "sent"
    receipt = settings.storage.read_mail_receipt(job.job_id)
    assert receipt is not None
    assert (receipt.state, receipt.message_id) == ("sent", mail["Message-ID"])


@pytest.mark.parametrize("preview", [False, True])
async def test_a_mail_shows_the_picture_only_where_the_deployment_says_so(
    settings: NotifierSettings, client: Redis, smtp: SmtpServer, *, preview: bool
) -> None:
    """It is health data in clear text."""
    job = await finished_job(settings, client)
    async with running_notifier(settings.model_copy(update={"mail_preview": preview})):
        await settled(settings, client)
    (mail,) = smtp.mails
    pictures = [part.get_content() for part in mail.walk() if part.get_content_maintype() == "image"]
    summary = settings.storage.result_dir(job.job_id, job.scans[0].scan_id) / "summary.png"
    assert pictures == ([summary.read_bytes()] if preview else [])


async def test_a_repeated_event_sends_no_second_mail(
    settings: NotifierSettings, client: Redis, smtp: SmtpServer
) -> None:
    """At-least-once streams repeat themselves; people are told once."""
    job = await finished_job(settings, client)
    async with running_notifier(settings):
        await settled(settings, client)
        for _ in range(3):
            await publish(client, settings.keys.results, JobFinished(job_id=job.job_id).to_fields())
        await settled(settings, client)
    assert len(smtp.mails) == 1


async def test_a_death_between_mail_and_acknowledgement_sends_no_second_mail(
    settings: NotifierSettings, client: Redis, smtp: SmtpServer
) -> None:
    """The receipt on disk is written first, and the next delivery only acknowledges."""
    job = await finished_job(settings, client)
    event = JobFinished(job_id=job.job_id).to_fields()
    delivery = Delivery(settings.keys.results, NOTIFIERS, "killed", "1-1", event, 1)
    handler = ResultHandler(settings, Jobs(client, settings.keys), Mailer(settings.smtp_server))
    await handler.notify(delivery)  # its effect is dropped, as if the process had died here
    async with running_notifier(settings):
        await settled(settings, client)
    assert len(smtp.mails) == 1
    assert await mail_state(settings, client, job) == "sent"


async def test_nobody_sends_a_mail_that_somebody_is_sending(
    settings: NotifierSettings, client: Redis, smtp: SmtpServer
) -> None:
    """A notifier that was paused past its lease, or whose stream was deleted, may still be at it."""
    job = await finished_job(settings, client)
    async with running_notifier(settings):
        smtp.released.clear()  # the mail is on its way

        async def offered() -> bool:
            return smtp.tries == 1

        await eventually(offered)
        await client.delete(settings.keys.results)
        await Jobs(client, settings.keys).enqueue(job, settings.storage)  # as the sweep does

        async def delivered_again() -> bool:
            groups = await client.xinfo_groups(settings.keys.results)
            return bool(groups) and int(groups[0]["pending"]) == 1

        await eventually(delivered_again)
        assert smtp.tries == 1
        await asyncio.sleep(3 * settings.lease_ms / 1000)  # the first owner learns that its lease is lost
        smtp.released.set()
        await settled(settings, client)
    assert (smtp.tries, len(smtp.mails)) == (1, 1)
    assert await mail_state(settings, client, job) == "sent"


async def test_a_mail_server_that_is_away_delays_the_mail_and_loses_nothing(
    settings: NotifierSettings, client: Redis, smtp: SmtpServer
) -> None:
    """However long it is away: deliveries are not counted against a mail."""
    await smtp.stop()
    job = await finished_job(settings, client)
    async with running_notifier(settings):

        async def tried_often() -> bool:
            pending = await client.xpending_range(settings.keys.results, NOTIFIERS, "-", "+", 1)
            return any(int(entry["times_delivered"]) > settings.max_deliveries for entry in pending)

        await eventually(tried_often)
        await smtp.start()
        await settled(settings, client)
    assert len(smtp.mails) == 1
    assert await mail_state(settings, client, job) == "sent"


@pytest.mark.parametrize("phase", ["recipient_reply", "mail_reply"])
async def test_a_busy_mail_server_is_asked_again(
    settings: NotifierSettings, client: Redis, smtp: SmtpServer, phase: str
) -> None:
    """4xx means later; greylisting servers say it to every stranger."""
    setattr(smtp, phase, "451 4.7.1 Try again later")
    await finished_job(settings, client)
    async with running_notifier(settings):

        async def tried_twice() -> bool:
            return smtp.tries >= 2

        await eventually(tried_twice)
        setattr(smtp, phase, "250 OK")
        await settled(settings, client)
    assert len(smtp.mails) == 1


@pytest.mark.parametrize("phase", ["recipient_reply", "mail_reply"])
async def test_a_refused_mail_is_recorded_as_failed_and_not_repeated(
    settings: NotifierSettings, client: Redis, smtp: SmtpServer, phase: str
) -> None:
    """5xx is final; the operator finds the reason among the dead letters, without the reader's address."""
    setattr(smtp, phase, f"550 5.1.1 <{ADDRESS}> is unknown here")
    job = await finished_job(settings, client)
    async with running_notifier(settings):
        await settled(settings, client)
    assert smtp.tries == 1
    assert await mail_state(settings, client, job) == "failed"
    receipt = settings.storage.read_mail_receipt(job.job_id)
    assert receipt is not None
    assert receipt.state == "failed"
    (dead,) = await DeadLetters(client, settings.keys.dead).list()
    assert "550 5.1.1 (address) is unknown here" in dead.error
    assert ADDRESS not in str(dead)


async def test_a_dead_letter_that_is_retried_is_sent(
    settings: NotifierSettings, client: Redis, smtp: SmtpServer
) -> None:
    """A failure on record does not stand in the way of an operator who has mended its cause."""
    smtp.recipient_reply = "550 5.7.1 Not from here"
    job = await finished_job(settings, client)
    async with running_notifier(settings):
        await settled(settings, client)
        smtp.recipient_reply = "250 OK"
        letters = DeadLetters(client, settings.keys.dead)
        await letters.retry((await letters.list())[0].dead_id)
        await settled(settings, client)
    assert len(smtp.mails) == 1
    assert await mail_state(settings, client, job) == "sent"


async def test_nobody_is_mailed_who_did_not_ask_or_whose_job_is_gone(
    settings: NotifierSettings, client: Redis, smtp: SmtpServer
) -> None:
    """Both are acknowledged, and so are the ends of single scans."""
    job = await finished_job(settings, client, email=None)
    scan_id = job.scans[0].scan_id
    for event in (
        JobFinished(job_id=job.job_id),
        JobFinished(job_id=new_id()),
        ScanProcessed(job_id=job.job_id, scan_id=scan_id, path="jobs"),
    ):
        await publish(client, settings.keys.results, event.to_fields())
    async with running_notifier(settings):
        await settled(settings, client)
    assert smtp.tries == 0
    assert await client.xlen(settings.keys.dead) == 0


async def test_a_job_that_is_deleted_while_its_mail_is_on_its_way_is_no_error(
    settings: NotifierSettings, client: Redis, smtp: SmtpServer
) -> None:
    """The mail is out, and nothing is left to record it in."""
    smtp.released.clear()
    job = await finished_job(settings, client)

    async def on_its_way() -> bool:
        return smtp.tries == 1

    with structlog.testing.capture_logs() as lines:
        async with running_notifier(settings):
            await eventually(on_its_way)
            settings.storage.delete_job(job.job_id)
            smtp.released.set()
            await settled(settings, client)
    assert len(smtp.mails) == 1
    assert [line["event"] for line in lines if line["log_level"] == "error"] == []
    assert list(settings.storage.jobs.iterdir()) == []


async def test_a_mail_whose_link_has_expired_is_given_up(
    settings: NotifierSettings, client: Redis, smtp: SmtpServer
) -> None:
    """A dead link helps nobody; the job says that its mail failed."""
    job = await finished_job(settings, client, ttl=timedelta(seconds=-1))
    async with running_notifier(settings):
        await settled(settings, client)
    assert smtp.tries == 0
    assert await mail_state(settings, client, job) == "failed"


async def test_a_mail_server_that_does_not_answer_is_left_after_a_while(
    settings: NotifierSettings, client: Redis, smtp: SmtpServer
) -> None:
    """Silence counts as busy."""
    smtp.released.clear()
    job = await finished_job(settings, client)
    event = JobFinished(job_id=job.job_id).to_fields()
    delivery = Delivery(settings.keys.results, NOTIFIERS, "c", "1-1", event, 1)
    mailer = Mailer(settings.smtp_server, timeout_s=0.2)
    with pytest.raises(TransientError, match="did not take the mail now"):
        await ResultHandler(settings, Jobs(client, settings.keys), mailer).notify(delivery)
    smtp.released.set()


async def test_a_stopped_notifier_finishes_the_mail_it_is_sending(
    settings: NotifierSettings, client: Redis, smtp: SmtpServer
) -> None:
    """SIGTERM in the middle of a mail costs neither the mail nor a second one."""
    smtp.released.clear()
    job = await finished_job(settings, client)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CORESTREAM_")} | {
        "CORESTREAM_REDIS_URL": settings.redis_url,
        "CORESTREAM_DATA_DIR": str(settings.data_dir),
        "CORESTREAM_SECRET_KEY": "s" * 64,
        "CORESTREAM_SMTP_URL": smtp.url,
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "notifier", env=environment)

    async def offered() -> bool:
        return smtp.tries == 1

    try:
        await eventually(offered)
        process.send_signal(signal.SIGTERM)
        smtp.released.set()
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert len(smtp.mails) == 1
    assert await mail_state(settings, client, job) == "sent"
    assert await client.xlen(settings.keys.results) == 0
