"""Retrying what was given up, so that the job follows its dead letter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.clock import now
from pipeline.errors import CorestreamError, JobNotFoundError
from pipeline.events import Event, JobFinished, ScanUploaded, UnknownEventError, parse_event
from pipeline.jobs import Jobs
from pipeline.storage import JobRecord, Storage
from pipeline.streams import PUT_BACK, DeadLetter, DeadLetters, Effect, RetryRefusedError

_REFUSALS = {
    "done": "Expected a scan without a result, but this one has its result by now. Drop the letter.",
    "in line": "Expected a scan that was given up, but this one waits or runs already. Drop the letter.",
    "sent": "Expected a mail that was not sent, but this one went out by now. Drop the letter.",
}


class NotRetriedError(CorestreamError):
    """Raised when a dead letter cannot be retried; says why, and what to do with it."""


async def retry(dead_id: str, *, dead: DeadLetters, jobs: Jobs, storage: Storage) -> str:
    """Put a dead letter back where it came from, and its job back to where it was before.

    A failed scan waits again and its job is open; when it ends `job.finished` is published again, and an
    e-mail tells of this end too (docs/decisions/0009-retries.md). A letter that is no event of ours goes
    back as it is.

    Args:
        dead_id: Which.
        dead: The dead letters.
        jobs: State of jobs.
        storage: Where jobs lie.

    Returns:
        The id of the new entry.

    Raises:
        JobNotFoundError: Its job has been deleted.
        NotRetriedError: There is no such letter, or nothing is left to do for it.
        RedisError: Redis is away; the retry of a scan may then happen nevertheless, once.
    """
    letter = await dead.show(dead_id)
    if letter is not None:
        try:
            entry_id = await dead.retry(dead_id, await _effect(letter, jobs, storage))
        except RetryRefusedError as refused:
            raise NotRetriedError(_REFUSALS[str(refused)]) from refused
        if entry_id is not None:
            return entry_id
    raise NotRetriedError(
        f"Expected the id of a dead letter, received {dead_id}: there is none of that id (any more)."
    )


@dataclass(frozen=True)
class Outcome:
    """What became of one retry.

    Attributes:
        dead_id: Of the letter.
        entry_id: Of its new entry; None if it is not back.
        error: Why it is not, and what to do with it.
    """

    dead_id: str
    entry_id: str | None
    error: str | None


async def retry_each(
    dead_ids: Iterable[str], *, dead: DeadLetters, jobs: Jobs, storage: Storage
) -> list[Outcome]:
    """Put dead letters back, one after the other; one that cannot be retried keeps none of the others.

    Raises:
        RedisError: Redis is away; those before are back.
    """
    outcomes = []
    for dead_id in dead_ids:
        try:
            entry_id = await retry(dead_id, dead=dead, jobs=jobs, storage=storage)
        except (NotRetriedError, JobNotFoundError) as refused:
            outcomes.append(Outcome(dead_id, None, str(refused)))
        else:
            outcomes.append(Outcome(dead_id, entry_id, None))
    return outcomes


async def _effect(letter: DeadLetter, jobs: Jobs, storage: Storage) -> Effect:
    match _event(letter):
        case ScanUploaded(job_id=job_id, scan_id=scan_id):
            job = await _job(job_id, jobs, storage)
            kept = storage.scan_path(job_id, scan_id), storage.result_dir(job_id, scan_id)
            if not any(path.exists() for path in kept):  # with a result, the scan itself is not needed
                raise NotRetriedError("Expected a scan that is kept, but its file is gone. Drop the letter.")
            storage.retry_scan(job_id, scan_id)
            return jobs.scan_retried(job, scan_id, storage)
        case JobFinished(job_id=job_id):
            job = await _job(job_id, jobs, storage)
            if now() >= job.links_expire_at:
                raise NotRetriedError(
                    "Expected a job whose link works, but it has expired and so no mail can lead to the "
                    "result. Drop the letter."
                )
            return jobs.mail_retried(job_id)
        case _:
            return PUT_BACK


def _event(letter: DeadLetter) -> Event | None:
    try:
        return parse_event(letter.fields)
    except UnknownEventError:
        return None


async def _job(job_id: str, jobs: Jobs, storage: Storage) -> JobRecord:
    job = storage.read_job(job_id)
    if await jobs.read(job_id) is None:  # after a loss of Redis's data, before the sweep
        await jobs.enqueue(job, storage)
    return job
