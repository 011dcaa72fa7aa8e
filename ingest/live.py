"""`GET /api/jobs/{id}/events`: a job as Server-Sent Events, for its page and for scripts.

    id: <timeline id>   event: moment   data: {"at", "what", "scan_id"}     something happened
                        event: place    data: {"<scan_id>": place}          places in line have changed
                        event: end      data: {"state"}                     nothing more will; close

A client that was cut off sends the last id it saw (`Last-Event-ID`, which browsers do by themselves) and gets
what happened since. A job that is gone is answered with 204, after which browsers do not come back.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from dataclasses import dataclass

import structlog
from aiohttp import web
from aiohttp_sse import EventSourceResponse

from ingest.access import Access
from ingest.documents import JobDocument
from ingest.status import Status, is_over
from pipeline.errors import JobNotFoundError, LinkExpiredError
from pipeline.job_news import BEGINNING, JobNews
from pipeline.storage import JobRecord
from pipeline.streams import RedisError
from pipeline.web.openapi import Header, Operation, described
from pipeline.web.problems import ProblemError

log = structlog.get_logger()

_POSITION = re.compile(r"[0-9]{1,15}-[0-9]{1,10}")
_COME_BACK_MS = 2000
_LINE_MOVES_S = 5.0
"""How often places in line are looked up anew: they change by what happens to other jobs."""
_QUIET_S = 60.0
"""The same where nothing waits, in case a wake-up was lost."""
_PING_S = 15.0


@dataclass(frozen=True)
class Live:
    """Serves the events of jobs.

    Attributes:
        access: Checks tokens.
        status: Tells how jobs stand.
        news: Tells what happens.
    """

    access: Access
    status: Status
    news: JobNews

    @described(
        Operation(
            summary="Follow a job live",
            tag="jobs",
            answers={200: "text/event-stream", 204: None},
            problems=(400, 401, 403),
            query={"from": {"type": "string"}},
            headers={"Last-Event-ID": Header("The event that was seen last.")},
            access="job token",
        )
    )
    async def events(self, request: web.Request) -> web.StreamResponse:
        """Answer with what happens to a job until nothing more can, or either side goes away.

        Raises:
            ProblemError: The position to go on from is none.
        """
        position = _position(request)
        try:
            job = self.access.job(request)
        except (JobNotFoundError, LinkExpiredError):
            return web.Response(status=204)
        answer = EventSourceResponse(ping_interval=_PING_S)
        await answer.prepare(request)
        async with answer:
            with suppress(ConnectionResetError):
                await self._follow(job, position, answer)
        return answer

    async def _follow(self, job: JobRecord, position: str, answer: EventSourceResponse) -> None:
        places: dict[str, int | None] = {}
        await answer.send("{}", event="hello", retry=_COME_BACK_MS)
        with self.news.follow(job.job_id) as woken:
            while not self.news.stopped:
                woken.clear()
                state = await self._state(job)  # first: what ended it is then among the moments
                with suppress(RedisError):  # it is away: the connection stays, and what happened comes later
                    for moment in await self.news.since(job.job_id, position):
                        text = json.dumps({"at": moment.at, "what": moment.what, "scan_id": moment.scan_id})
                        await answer.send(text, id=moment.entry_id, event="moment")
                        position = moment.entry_id
                if state is None or is_over(state):
                    text = json.dumps({"state": state.state if state else "gone"})
                    await answer.send(text, event="end")
                    return
                now_at = {scan.scan_id: scan.place_in_line for scan in state.scans if scan.place_in_line}
                if now_at != places:
                    places = dict(now_at)
                    await answer.send(json.dumps(places), event="place")
                with suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), _LINE_MOVES_S if places else _QUIET_S)

    async def _state(self, job: JobRecord) -> JobDocument | None:
        try:
            async with self.news.reading:
                return await self.status.read(self.access.storage.read_job(job.job_id))
        except JobNotFoundError:
            return None


def _position(request: web.Request) -> str:
    """Return where to go on: what the client saw last, else what its page showed when it was made."""
    asked = request.headers.get("Last-Event-ID") or request.query.get("from", BEGINNING)
    if not _POSITION.fullmatch(asked):
        raise ProblemError(
            status=400,
            code="position-invalid",
            title="Position not understood",
            detail="Expected Last-Event-ID, or `from`, as the id of an event, like 1718000000000-0; "
            "received something else. Leave it out to get everything.",
        )
    return asked
