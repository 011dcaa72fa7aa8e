"""Errors over HTTP: RFC 9457 problem documents for programs, the same words on a page for people."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from pipeline.errors import CorestreamError, JobNotFoundError, LinkExpiredError, LinkInvalidError
from pipeline.metrics import HttpMetrics
from pipeline.streams import RedisError
from pipeline.web.pages import render

log = structlog.get_logger()


PROBLEM_CODE = web.ResponseKey("problem_code", str)
"""The code of the problem that an answer tells of."""


class ProblemError(CorestreamError):
    """Raised by a handler to answer with a problem document.

    Attributes:
        status: HTTP status code.
        code: Stable, for scripts.
        title: The kind of problem in a few words.
        detail: What was expected, what was received, what to do.
        headers: Further headers of the answer, `Retry-After` for one.
        errors: Where several things are wrong: each of them, for programs.
    """

    errors: tuple[Mapping[str, Any], ...] = ()

    def __init__(
        self, *, status: int, code: str, title: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.headers = dict(headers or {})


def wants_html(request: web.Request) -> bool:
    """Tell a browser that shows pages from a program that reads JSON."""
    return "text/html" in request.headers.get("Accept", "")


def response(request: web.Request, problem: ProblemError) -> web.Response:
    """Answer with a problem, as a page where the client is a browser."""
    if wants_html(request):
        answer = render(request, "problem.html", status=problem.status, problem=problem)
    else:
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": problem.title,
            "status": problem.status,
            "detail": problem.detail,
            "code": problem.code,
        }
        if problem.errors:
            document["errors"] = problem.errors
        answer = web.json_response(document, status=problem.status, content_type="application/problem+json")
    answer.headers.update(problem.headers)
    answer[PROBLEM_CODE] = problem.code
    if request.can_read_body:  # else what is still coming would be taken as the next request
        answer.force_close()
    return answer


def _as_problem(error: Exception) -> ProblemError:  # noqa: PLR0911 - one for each kind of error
    """Say any error of a handler in the terms of HTTP."""
    match error:
        case ProblemError():
            return error
        case LinkInvalidError():
            return ProblemError(status=403, code="link-invalid", title="Link not valid", detail=str(error))
        case LinkExpiredError():
            return ProblemError(status=410, code="link-expired", title="Link expired", detail=str(error))
        case JobNotFoundError():
            return ProblemError(status=410, code="job-gone", title="No longer here", detail=str(error))
        case RedisError():
            return ProblemError(
                status=503,
                code="redis-away",
                title="Not ready",
                detail="Expected Redis to answer, but it does not. Try again in a moment.",
                headers={"Retry-After": "10"},
            )
        case web.HTTPException():
            phrase = HTTPStatus(error.status).phrase
            return ProblemError(
                status=error.status,
                code=phrase.lower().replace(" ", "-"),
                title=phrase,
                detail=f"{phrase}. Check the address and the method of the request.",
                headers={k: v for k, v in error.headers.items() if k == "Allow"},
            )
    log.error("http.failed", exc_info=error)
    return ProblemError(
        status=500,
        code="internal-error",
        title="Something broke here",
        detail="This is a fault of the service, not of your request; it has been logged. Try again later.",
    )


def middleware(metrics: HttpMetrics) -> Middleware:
    """Return what turns every error of a handler into a problem document, and counts it."""

    @web.middleware
    async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            if error.status < HTTPStatus.BAD_REQUEST:  # redirects and the like are answers, not errors
                raise
            problem = _as_problem(error)
        except ConnectionError:  # the client is gone: nobody reads an answer, and it is no fault here
            raise
        except Exception as error:  # noqa: BLE001 - the edge of the service: whatever it is, the client gets words
            problem = _as_problem(error)
        metrics.refused(problem.code)
        return response(request, problem)

    return answer_errors
