"""The state of jobs in Redis: what is waiting, what runs, what has ended, what happened when.

A job's state changes only inside Lua scripts, and those that end a scan or a mail run in the same step as
the acknowledgement of the stream entry (`Effect`). So nothing is counted twice, whatever is delivered
twice, and `job.finished` is published exactly once for each end: when the last scan ends, and again when a
scan that was retried by hand does.

The hash of a job (all fields are readable with `redis-cli HGETALL`):

    state            open | finished
    created_at       RFC 3339
    mail             none | pending | sent | failed
    remaining        scans that have not ended
    announcement     its job.finished in the stream of results, there until the mail's end
    <scan_id>:state       waiting | detecting | done | failed
    <scan_id>:entry       its entry in the stream of scans
    <scan_id>:number      in the line of all scans, by when it joined
    <scan_id>:deliveries  how often a processor has started on it
    <scan_id>:retries     how often it was put back in line by hand after a failure
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from pipeline import job_scripts
from pipeline.clock import now, to_text
from pipeline.events import Event, JobFinished, ScanFailed, ScanProcessed, ScanUploaded
from pipeline.keys import NOTIFIERS, PROCESSORS, Keys
from pipeline.storage import JobRecord, Storage
from pipeline.streams import DeadLetters, Effect, Redis, StreamStats, read_stats

ScanStateName = Literal["waiting", "detecting", "done", "failed"]
MailState = Literal["none", "pending", "sent", "failed"]

# A job's keys are written with its own expiry some time after its files are gone, so that Redis forgets it
# even if nobody sweeps.
_FORGET_AFTER_S = 7 * 24 * 3600


@dataclass(frozen=True)
class ScanState:
    """What Redis knows of one scan."""

    state: ScanStateName
    deliveries: int = 0
    entry_id: str | None = None
    number: int | None = None


@dataclass(frozen=True)
class JobState:
    """What Redis knows of one job."""

    state: Literal["open", "finished"]
    mail: MailState
    scans: Mapping[str, ScanState] = field(default_factory=dict)


class Jobs:
    """Reads and changes the state of jobs."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def enqueue(self, job: JobRecord, storage: Storage) -> int:
        """Bring Redis in line with a job's files: its record, and an event for every scan that lacks one.

        Atomic, and without effect where everything is in order, so it serves the submission, its retry and
        the sweep alike.

        Returns:
            How many scans were put in line.
        """
        receipt = storage.read_mail_receipt(job.job_id)
        mail: MailState = receipt.state if receipt else "pending" if job.email else "none"
        plan = {
            "job_id": job.job_id,
            "at": to_text(now()),
            "created_at": to_text(job.created_at),
            "forget_at": int(job.expires_at.timestamp()) + _FORGET_AFTER_S,
            "mail": mail,
            "finished": _flat(JobFinished(job_id=job.job_id)),
            "scans": [_plan_scan(job.job_id, scan.scan_id, storage) for scan in job.scans],
        }
        effect = Effect(
            job_scripts.ENQUEUE,
            keys=(*self._job_keys(job.job_id), self._keys.scans, self._keys.results, self._keys.line),
            args=(json.dumps(plan),),
        )
        return cast("int", await effect.run(self._client))

    async def scan_started(self, job_id: str, scan_id: str, deliveries: int) -> None:
        """Record that a processor has started on a scan, for the `deliveries`-th time."""
        await Effect(
            job_scripts.STARTED,
            keys=(*self._job_keys(job_id), self._keys.line),
            args=(scan_id, str(deliveries), to_text(now())),
        ).run(self._client)

    def scan_ended(self, event: ScanProcessed | ScanFailed) -> Effect:
        """Return the effect that publishes a scan's outcome and, if it was the job's last, `job.finished`."""
        outcome: ScanStateName = "done" if isinstance(event, ScanProcessed) else "failed"
        return Effect(
            job_scripts.ENDED,
            keys=(*self._job_keys(event.job_id), self._keys.results),
            args=(
                event.scan_id,
                outcome,
                _flat(event),
                _flat(JobFinished(job_id=event.job_id)),
                to_text(event.at),
            ),
        )

    def mail_ended(self, job_id: str, state: MailState) -> Effect:
        """Return the effect that records what became of a job's e-mail."""
        return Effect(job_scripts.MAILED, keys=self._job_keys(job_id), args=(state, to_text(now())))

    def scan_retried(self, job: JobRecord, scan_id: str, storage: Storage) -> Effect:
        """Return the effect of the retry of a scan's dead letter: the scan waits again, its job is open.

        Refuses with `done` where the scan has a result, with `in line` where it waits or runs already.
        """
        return Effect(
            job_scripts.RETRIED,
            keys=(*self._job_keys(job.job_id), self._keys.scans, self._keys.line),
            args=(
                scan_id,
                str(storage.retries(job.job_id, scan_id)),
                "pending" if job.email else "none",
                to_text(now()),
            ),
        )

    def mail_retried(self, job_id: str) -> Effect:
        """Return the effect of the retry of a mail's dead letter; refuses with `sent` where it went out."""
        return Effect(job_scripts.MAIL_RETRIED, keys=self._job_keys(job_id), args=(to_text(now()),))

    async def read(self, job_id: str) -> JobState | None:
        """Return a job's state, or None where Redis has no record (yet, or any more)."""
        fields = cast("dict[str, str]", await self._client.hgetall(self._keys.job(job_id)))
        if not fields:
            return None
        scans = {
            name.removesuffix(":state"): ScanState(
                state=cast("ScanStateName", value),
                deliveries=int(fields.get(name.replace(":state", ":deliveries"), "0")),
                entry_id=fields.get(name.replace(":state", ":entry")),
                number=_number(fields.get(name.replace(":state", ":number"))),
            )
            for name, value in fields.items()
            if name.endswith(":state")
        }
        return JobState(
            state=cast("Literal['open', 'finished']", fields["state"]),
            mail=cast("MailState", fields["mail"]),
            scans=scans,
        )

    async def unfinished_scans(self) -> int:
        """Return how many scans wait or run."""
        return await self._client.xlen(self._keys.scans)

    async def read_streams(self) -> dict[str, StreamStats]:
        """Return the numbers of the streams of scans and of results, by their names without prefix."""
        groups = {self._keys.scans: PROCESSORS, self._keys.results: NOTIFIERS}
        return {
            stream.removeprefix(self._keys.prefix): await read_stats(
                self._client, stream=stream, group=group, dead_stream=self._keys.dead
            )
            for stream, group in groups.items()
        }

    async def running_scans(self) -> int:
        """Return how many scans are being processed."""
        stats = await read_stats(
            self._client, stream=self._keys.scans, group=PROCESSORS, dead_stream=self._keys.dead
        )
        return stats.running

    async def place_in_line(self, number: int) -> int | None:
        """Return how many scans, the one of this number included, wait up to it; None where it does not.

        Two numbers are compared, nothing is counted: the line may be long, and every open page asks. A scan
        that was deleted while it waited counts until one behind it has started.
        """
        started = await cast("Awaitable[str | None]", self._client.hget(self._keys.line, "started"))
        place = number - int(started or 0)
        return place if place > 0 else None

    async def forget(self, job_ids: Collection[str]) -> None:
        """Remove all that Redis knows of jobs; their entries in the streams of work end by themselves."""
        for job_id in job_ids:
            await self._client.delete(*self._job_keys(job_id))
            # Whoever follows it looks, and finds it gone.
            await self._client.publish(self._keys.timeline(job_id), "deleted")
        dead = DeadLetters(self._client, self._keys.dead)
        for letter in await dead.list(None) if job_ids else ():
            if letter.fields.get("job_id") in job_ids:
                await dead.drop(letter.dead_id)

    def _job_keys(self, job_id: str) -> tuple[str, str]:
        return self._keys.job(job_id), self._keys.timeline(job_id)


def _plan_scan(job_id: str, scan_id: str, storage: Storage) -> dict[str, str | int]:
    plan: dict[str, str | int] = {"scan_id": scan_id, "retries": storage.retries(job_id, scan_id)}
    if storage.result_dir(job_id, scan_id).exists():
        return plan | {"outcome": "done"}
    if storage.read_failure(job_id, scan_id):
        return plan | {"outcome": "failed"}
    event = ScanUploaded(
        job_id=job_id, scan_id=scan_id, path=storage.relative(storage.scan_path(job_id, scan_id))
    )
    return plan | {"event": _flat(event)}


def _flat(event: Event) -> str:
    """Write an event as the list of names and values that XADD takes, in JSON."""
    return json.dumps([part for pair in event.to_fields().items() for part in pair])


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)
