"""Dead letters over HTTP: the same steps as `corestream dead`."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

import structlog
from aiohttp import web
from pydantic import BaseModel

from ingest.admin.access import Admin
from ingest.documents import json_response
from pipeline.jobs import Jobs
from pipeline.letters import letter_document
from pipeline.retry import NotRetriedError, Outcome, retry, retry_each
from pipeline.storage import Storage
from pipeline.streams import DeadLetter, DeadLetters
from pipeline.web.openapi import Operation, described
from pipeline.web.problems import ProblemError

log = structlog.get_logger()

MAX_LISTED = 1000
_DEFAULT_LISTED = 100
_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
"""Redis takes numbers of 64 bits, and calls a larger one an error."""
_LIMIT = re.compile(r"[1-9][0-9]{0,3}")


class LetterList(BaseModel):
    """Dead letters, newest first."""

    letters: tuple[DeadLetter, ...]


class Retried(BaseModel):
    """Where a dead letter went."""

    entry_id: str


class RetriedAll(BaseModel):
    """What became of each."""

    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class Letters:
    """Lists, shows, retries and drops dead letters.

    Attributes:
        admin: Checks who asks.
        dead: The dead letters.
        jobs: State of jobs.
        storage: Where jobs lie.
    """

    admin: Admin
    dead: DeadLetters
    jobs: Jobs
    storage: Storage

    @described(
        Operation(
            summary="List what was given up, newest first",
            tag="dead letters",
            answers={200: LetterList},
            problems=(401, 403, 422, 429, 503),
            access="admin token",
            query={"limit": {"type": "integer", "minimum": 1, "maximum": MAX_LISTED}},
        )
    )
    async def get_list(self, request: web.Request) -> web.Response:
        """`GET /api/dead`: the newest, newest first."""
        self.admin.require(request)
        letters = await self.dead.list(_limit(request))
        return web.json_response({"letters": [letter_document(letter) for letter in letters]})

    @described(
        Operation(
            summary="Show one dead letter",
            tag="dead letters",
            answers={200: DeadLetter},
            problems=(401, 403, 404, 429, 503),
            access="admin token",
        )
    )
    async def get(self, request: web.Request) -> web.Response:
        """`GET /api/dead/{dead_id}`: one of them."""
        self.admin.require(request)
        return web.json_response(letter_document(await self.letter(request)))

    @described(
        Operation(
            summary="Put a dead letter back in line",
            tag="dead letters",
            answers={200: Retried},
            problems=(401, 403, 404, 409, 410, 429, 503),
            access="admin token",
        )
    )
    async def post_retry(self, request: web.Request) -> web.Response:
        """`POST /api/dead/{dead_id}/retry`: put it back in line."""
        self.admin.require(request)
        return json_response(Retried(entry_id=await self.retry(request)))

    @described(
        Operation(
            summary="Put all dead letters back in line",
            tag="dead letters",
            answers={200: RetriedAll},
            problems=(401, 403, 429, 503),
            access="admin token",
        )
    )
    async def post_retry_all(self, request: web.Request) -> web.Response:
        """`POST /api/dead/retry`: put all of them back in line, oldest first."""
        self.admin.require(request)
        outcomes = await self.retry_all()
        return web.json_response({"outcomes": [asdict(outcome) for outcome in outcomes]})

    @described(
        Operation(
            summary="Delete a dead letter",
            tag="dead letters",
            answers={204: None},
            problems=(401, 403, 404, 429, 503),
            access="admin token",
        )
    )
    async def delete(self, request: web.Request) -> web.Response:
        """`DELETE /api/dead/{dead_id}`: delete it for good."""
        self.admin.require(request)
        await self.drop(request)
        return web.Response(status=204)

    async def retry(self, request: web.Request) -> str:
        """Put the letter that an admitted request names back in line; returns the id of its new entry.

        Raises:
            ProblemError: There is none, or nothing is left to do for it.
            JobNotFoundError: Its job has been deleted.
        """
        letter = await self.letter(request)
        try:
            entry_id = await retry(letter.dead_id, dead=self.dead, jobs=self.jobs, storage=self.storage)
        except NotRetriedError as error:
            raise ProblemError(
                status=409, code="letter-not-retried", title="Not retried", detail=str(error)
            ) from error
        log.info("dead.retried", dead_id=letter.dead_id, entry_id=entry_id)
        return entry_id

    async def retry_all(self) -> list[Outcome]:
        """Put every letter back in line that can be; says of each what became of it."""
        ids = [letter.dead_id for letter in reversed(await self.dead.list(None))]
        outcomes = await retry_each(ids, dead=self.dead, jobs=self.jobs, storage=self.storage)
        back = sum(outcome.error is None for outcome in outcomes)
        log.info("dead.all_retried", back=back, refused=len(outcomes) - back)
        return outcomes

    async def drop(self, request: web.Request) -> None:
        """Delete the letter that an admitted request names.

        Raises:
            ProblemError: There is none.
        """
        letter = await self.letter(request)
        await self.dead.drop(letter.dead_id)
        log.info("dead.dropped", dead_id=letter.dead_id)

    async def letter(self, request: web.Request) -> DeadLetter:
        """Return the letter that an admitted request names.

        Raises:
            ProblemError: There is none.
        """
        dead_id = request.match_info["dead_id"]
        letter = await self.dead.show(dead_id) if _ID.fullmatch(dead_id) else None
        if letter is None:
            raise ProblemError(
                status=404,
                code="letter-unknown",
                title="No such dead letter",
                detail="Expected the id of a dead letter as `GET /api/dead` lists it, received another: it "
                "was retried or dropped, or never was.",
            )
        return letter


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(_DEFAULT_LISTED))
    if not _LIMIT.fullmatch(text) or int(text) > MAX_LISTED:
        raise ProblemError(
            status=422,
            code="limit-invalid",
            title="Limit not valid",
            detail=f"Expected a `limit` from 1 to {MAX_LISTED}, received another.",
        )
    return int(text)
