"""Writes requests to the audit log, by the route they took and the answer they got."""

from __future__ import annotations

import time
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from pipeline.audit import Action, AuditLog
from pipeline.web.problems import PROBLEM_CODE
from pipeline.web.sender import Proxies

JOB_ID = web.RequestKey("audit_job_id", str)
"""A handler puts the job here once the request has been let through to it."""
API_KEY_NAME = web.RequestKey("api_key_name", str)
"""The name of the API key that a request was let in with."""

_AGAIN_AFTER_S = 600.0
"""Pages that load themselves anew, clients that poll, viewers that read a file in pieces are one line, and so
are addresses that are tried at random: nobody fills the disk with them."""
_REMEMBERED = 10_000
_Seen = tuple[Action, str, str | None, str | None, str | None]


def setup(
    app: web.Application, audit: AuditLog, actions: Mapping[tuple[str, str], Action], proxies: Proxies
) -> None:
    """Write an application's requests to the audit log.

    Args:
        app: As `build_app` made it.
        audit: The log.
        actions: What a method and a route's path mean; what is not in it is not written.
        proxies: Tell who sends a request.
    """
    recent: dict[_Seen, float] = {}

    def is_news(seen: _Seen) -> bool:
        at = time.monotonic()
        if at - recent.get(seen, -_AGAIN_AFTER_S) < _AGAIN_AFTER_S:
            return False
        if len(recent) >= _REMEMBERED:
            recent.clear()
        recent[seen] = at
        return True

    def note(request: web.Request, action: Action, outcome: str) -> None:
        job_id, sender = request.get(JOB_ID), proxies.sender(request)
        scan_id = request.match_info.get("scan_id") if outcome == "ok" and job_id else None
        file = request.match_info.get("name") or scan_id
        repeats = action in {"view", "download"}
        if not repeats or is_news((action, outcome, job_id, file, sender)):
            audit.write(
                action,
                outcome,
                job_id=job_id,
                scan_id=scan_id,
                address=sender,
                api_key=request.get(API_KEY_NAME),
            )

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        action = actions.get((request.method, resource.canonical if resource else ""))
        if action is None:
            return await handler(request)
        try:
            answer = await handler(request)
        except web.HTTPException:  # only redirects come so far: problems are answers here
            note(request, action, "ok")
            raise
        except ConnectionError:
            note(request, action, "connection-lost")
            raise
        note(request, action, answer.get(PROBLEM_CODE, "ok"))
        return answer

    app.middlewares.insert(1, middleware)  # between the request's log line and the problem documents
