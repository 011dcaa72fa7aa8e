"""The notifier: one e-mail for each finished job."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from email.message import EmailMessage
from functools import partial
from typing import Any, Literal

import structlog

from notifier.mailer import Mailer
from notifier.messages import Outcome, message_id, result_mail
from notifier.settings import NotifierSettings
from pipeline import logging
from pipeline.clock import now
from pipeline.errors import ConfigurationError, JobNotFoundError
from pipeline.events import JobFinished, ScanUploaded, UnknownEventError, parse_event
from pipeline.jobs import Jobs
from pipeline.keys import NOTIFIERS
from pipeline.ledger import Ledger, Line, seconds
from pipeline.metrics import DeliveryMetrics, MailMetrics, StageMetrics, new_registry
from pipeline.service import exit_for, run_worker
from pipeline.settings import load
from pipeline.storage import JobRecord, MailReceipt
from pipeline.streams import (
    Consumer,
    Delivery,
    Effect,
    PermanentError,
    Presence,
    Reason,
    TransientError,
    connect,
    why_unavailable,
)
from pipeline.web.health import listening

log = structlog.get_logger()

MAILS_AT_ONCE = 4
_UNTIL_LINK_EXPIRES = 2**31
"""Deliveries: a mail is tried for as long as its link works, not for a number of times; a mail server may be
away for hours. `ResultHandler.notify` ends it."""
_GRACE_S = 25.0
"""Above the mailer's time-out, so that a stop does not cut off a mail that the server may have taken."""


class ResultHandler:
    """What is done with a delivery of the stream of results.

    Args:
        settings: Of the notifier.
        jobs: State of jobs.
        mailer: Sends mails.
        metrics: Of what becomes of them.
        stages: Of how long scans take.
    """

    def __init__(
        self,
        settings: NotifierSettings,
        jobs: Jobs,
        mailer: Mailer,
        metrics: MailMetrics | None = None,
        stages: StageMetrics | None = None,
    ) -> None:
        self._settings = settings
        self._storage = settings.storage
        self._jobs = jobs
        self._mailer = mailer
        self._metrics = metrics or MailMetrics()
        self._stages = stages or StageMetrics()
        self._ledger = Ledger(self._storage.ledger)

    async def notify(self, delivery: Delivery) -> Effect:
        """Send the mail of a finished job, unless it was sent before, and return what that changes in Redis.

        Raises:
            UnknownEventError: The entry is none of this stream.
            PermanentError: The mail is refused, or its link has expired.
            TransientError: The mail server is away or busy, or an outcome is not on the disk yet.
        """
        job = self._to_be_mailed(delivery)
        if job is None:
            return Effect.none()
        try:
            with self._storage.mailing(job.job_id):
                receipt = self._storage.read_mail_receipt(job.job_id)
                if receipt is None or receipt.state != "sent":
                    await _to_its_end(self._send(job))
                # else a former delivery died before its acknowledgement
        except JobNotFoundError:  # the mail may be out
            log.info("mail.job_gone", job_id=job.job_id)
            return Effect.none()
        return self._jobs.mail_ended(job.job_id, "sent")

    async def _send(self, job: JobRecord) -> None:
        if now() >= job.links_expire_at:
            raise PermanentError("The mail was not sent before its link expired.")
        retries = self._storage.retries(job.job_id)  # before the outcomes: a retry meanwhile is news
        mail = result_mail(
            job,
            self._settings.links(job),
            [self._outcome(job.job_id, scan.scan_id) for scan in job.scans],
            self._settings.mail_from,
            retries=retries,
        )
        with self._storage.mail_receipt(job.job_id, self._receipt(job, "sent", retries)):
            await self._hand_in(mail)
        self._note_accepted(job)
        log.info("mail.sent", job_id=job.job_id)

    async def _hand_in(self, mail: EmailMessage) -> None:
        try:
            await self._mailer.send(mail)
        except TransientError:
            self._metrics.ended("deferred")
            raise
        self._metrics.ended("accepted")

    async def give_up(self, delivery: Delivery, reason: Reason) -> Effect:
        """Record that a mail will not be sent and return what that changes in Redis."""
        try:
            job = self._to_be_mailed(delivery)
        except UnknownEventError:
            return Effect.none()  # nothing of ours: the dead letter itself says all there is to say
        if job is None:
            return Effect.none()
        receipt = self._receipt(job, "failed", self._storage.retries(job.job_id))
        self._storage.write_mail_receipt(job.job_id, receipt)
        self._metrics.ended("failed")
        log.error("mail.failed", job_id=job.job_id, error=reason.error)
        return self._jobs.mail_ended(job.job_id, "failed")

    def _to_be_mailed(self, delivery: Delivery) -> JobRecord | None:
        """Return the job whose end is to be announced; None where nobody waits for a mail."""
        event = parse_event(delivery.fields)
        if isinstance(event, ScanUploaded):
            raise UnknownEventError(f"Expected an event of the stream of results, received {event.type}.")
        if not isinstance(event, JobFinished):
            return None
        try:
            job = self._storage.read_job(event.job_id)
        except JobNotFoundError:
            log.info("mail.job_gone", job_id=event.job_id)
            return None
        return job if job.email else None

    def _outcome(self, job_id: str, scan_id: str) -> Outcome:
        if report := self._storage.read_report(job_id, scan_id):
            picture = self._storage.result_dir(job_id, scan_id) / "summary.png"
            return Outcome(report, picture=picture.read_bytes() if self._settings.mail_preview else None)
        if failure := self._storage.read_failure(job_id, scan_id):
            return Outcome(failure=failure)
        raise TransientError(f"Expected the outcome of scan {scan_id} on disk, found none yet.")

    def _note_accepted(self, job: JobRecord) -> None:
        at = now()
        for scan in job.scans:
            self._ledger.note(Line(at=at, moment="mail_accepted", job_id=job.job_id, scan_id=scan.scan_id))
            if report := self._storage.read_report(job.job_id, scan.scan_id):
                self._stages.spent({"mail": seconds({**report.times, "mail_accepted": at}, "mail")})

    def _receipt(self, job: JobRecord, state: Literal["sent", "failed"], retries: int) -> MailReceipt:
        name = message_id(job, self._settings.mail_from, retries)
        return MailReceipt(state=state, message_id=name, at=now(), retries=retries)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await work that must not be broken off, and only then be cancelled.

    A lease that is lost cancels its handler; but a mail that is broken off may have been taken, and whoever
    comes next would send it again. The mailer's time-out bounds the wait.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


async def serve(settings: NotifierSettings, stop: asyncio.Event) -> None:
    """Send mails until asked to stop; then finish those that are being sent."""
    client = connect(settings.redis_url)
    registry = new_registry()
    handler = ResultHandler(
        settings,
        Jobs(client, settings.keys),
        Mailer(settings.smtp_server),
        MailMetrics(registry),
        StageMetrics(registry),
    )
    consumer = Consumer(
        client,
        stream=settings.keys.results,
        group=NOTIFIERS,
        dead_stream=settings.keys.dead,
        handler=handler.notify,
        on_dead=handler.give_up,
        slots=MAILS_AT_ONCE,
        lease_ms=settings.lease_ms,
        max_deliveries=_UNTIL_LINK_EXPIRES,
        grace_s=_GRACE_S,
        log_fields=("job_id", "type"),
        observers=(DeliveryMetrics(settings.keys.prefix, registry),),
    )
    try:
        async with listening(
            host=settings.host,
            port=settings.metrics_port,
            checks={"redis": partial(why_unavailable, client)},
            registry=registry,
        ):
            presence = Presence(client, settings.keys.workers)
            async with presence.announced(f"notifier:{consumer.name}", settings.lease_ms):
                await consumer.run(stop)
    finally:
        await client.aclose()


def main() -> None:
    """Run the notifier from the environment until it is told to stop."""
    try:
        settings = load(NotifierSettings)
    except ConfigurationError as error:
        exit_for(error)
    logging.configure("notifier", settings.log_format)
    run_worker(lambda stop: serve(settings, stop))
