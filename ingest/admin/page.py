"""The monitor page: numbers that renew themselves, dead letters with buttons. Works without script."""

from __future__ import annotations

import json
from dataclasses import dataclass

import structlog
from aiohttp import web

from ingest.admin import wording
from ingest.admin.access import COOKIE, Admin, bearer
from ingest.admin.letters import Letters
from ingest.admin.numbers import Monitor, Numbers
from ingest.documents import json_response
from ingest.fields import read_fields
from pipeline.clock import to_text
from pipeline.ledger import SPANS
from pipeline.letters import letter_document
from pipeline.web.openapi import Operation, described
from pipeline.web.pages import render
from pipeline.web.problems import ProblemError

log = structlog.get_logger()

# Under the other pages' `no-referrer` a browser would not say on which origin a form was sent.
_HEADERS = {"Referrer-Policy": "same-origin"}


@dataclass(frozen=True)
class MonitorPage:
    """Serves the page, its numbers, and its forms.

    Attributes:
        admin: Checks who asks.
        numbers: Puts the numbers together.
        letters: Retries and drops.
    """

    admin: Admin
    numbers: Numbers
    letters: Letters

    async def get(self, request: web.Request) -> web.Response:
        """`GET /monitor`: the page, or the way to log in."""
        if bearer(request) is None and not self.admin.has_session(request):
            return web.Response(status=303, headers={"Location": "/monitor/login"})
        self.admin.require(request)
        answer = render(
            request,
            "monitor.html",
            monitor=await self.numbers.read(),
            done=wording.DONE.get(request.query.get("done", "")),
            wording=wording,
            spans=SPANS,
            to_text=to_text,
        )
        return _with_headers(answer)

    @described(
        Operation(
            summary="Read the numbers of the monitor page",
            tag="monitor",
            answers={200: Monitor},
            problems=(401, 403, 429, 503),
            access="admin token",
        )
    )
    async def get_numbers(self, request: web.Request) -> web.Response:
        """`GET /api/monitor`: the same as JSON."""
        self.admin.require(request)
        return json_response(await self.numbers.read())

    async def get_login(self, request: web.Request) -> web.Response:
        """`GET /monitor/login`: the form."""
        self.admin.require_on()
        return _with_headers(render(request, "monitor_login.html", problem=None))

    async def post_login(self, request: web.Request) -> web.Response:
        """`POST /monitor/login`: a session for the right token."""
        self.admin.require_own_origin(request)
        form = await read_fields(request)
        try:
            self.admin.check_token(request, form.get("token", ""))
        except ProblemError as problem:
            log.warning("admin.refused", code=problem.code)
            answer = render(request, "monitor_login.html", status=problem.status, problem=problem)
            return _with_headers(answer)
        log.info("admin.logged_in")
        answer = web.Response(status=303, headers={"Location": "/monitor"})
        self.admin.begin_session(answer)
        return answer

    async def post_logout(self, request: web.Request) -> web.Response:
        """`POST /monitor/logout`: the end of the session in this browser."""
        self.admin.require(request)
        answer = web.Response(status=303, headers={"Location": "/monitor/login"})
        answer.del_cookie(COOKIE)
        return answer

    async def post_retry(self, request: web.Request) -> web.Response:
        """`POST /monitor/dead/{dead_id}/retry`: the form's way to do it."""
        self.admin.require(request)
        await self.letters.retry(request)
        return _back("retried")

    async def post_retry_all(self, request: web.Request) -> web.Response:
        """`POST /monitor/dead/retry`: the form's way to do it."""
        self.admin.require(request)
        outcomes = await self.letters.retry_all()
        return _back("some-retried" if any(outcome.error for outcome in outcomes) else "all-retried")

    async def get_drop(self, request: web.Request) -> web.Response:
        """`GET /monitor/dead/{dead_id}/drop`: show the letter, and ask."""
        self.admin.require(request)
        letter = letter_document(await self.letters.letter(request))
        text = json.dumps(letter, indent=2, ensure_ascii=False)
        return _with_headers(render(request, "monitor_drop.html", letter=letter, text=text))

    async def post_drop(self, request: web.Request) -> web.Response:
        """`POST /monitor/dead/{dead_id}/drop`: delete it."""
        self.admin.require(request)
        await self.letters.drop(request)
        return _back("dropped")


def _back(done: str) -> web.Response:
    return web.Response(status=303, headers={"Location": f"/monitor?done={done}"})


def _with_headers(answer: web.Response) -> web.Response:
    answer.headers.update(_HEADERS)
    return answer
