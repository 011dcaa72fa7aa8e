"""The frame of an HTTP service: headers, log lines, health, start and stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from pipeline.errors import ConfigurationError
from pipeline.web import pages, problems

log = structlog.get_logger()

PAGE_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Content-Security-Policy of every page that brings none of its own: our origin and nothing else."""

_HEADERS = {
    "Content-Security-Policy": PAGE_CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # a link is a key; it must not travel on to where the reader goes next
    "Cache-Control": "no-store",
}

_HEALTH_ROUTES = ("/healthz", "/readyz")

Check = Callable[[], Awaitable[str | None]]
"""A readiness check: None where all is well, else what is wrong."""


async def _add_headers(request: web.Request, answer: web.StreamResponse) -> None:
    if isinstance(request.match_info.route.resource, web.StaticResource):
        answer.headers["Cache-Control"] = "no-cache"  # kept, but asked for by its ETag before it is used
    for name, value in _HEADERS.items():
        answer.headers.setdefault(name, value)


@web.middleware
async def _log_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Log the route, never the path: paths and queries carry tokens."""
    started = time.perf_counter()
    answer = await handler(request)
    resource = request.match_info.route.resource
    route = resource.canonical if resource else None
    if route in _HEALTH_ROUTES and answer.status == HTTPStatus.OK:
        return answer  # asked every few seconds: only a bad answer is news
    log.info(
        "http.answered",
        method=request.method,
        route=route,
        status=answer.status,
        took_ms=round((time.perf_counter() - started) * 1000, 1),
    )
    return answer


def build_app(*, templates: Path, checks: Mapping[str, Check]) -> web.Application:
    """Return an application with pages, problem documents, headers and health.

    Args:
        templates: The service's own templates.
        checks: What `readyz` asks, by name.
    """
    app = web.Application(middlewares=[_log_request, problems.middleware])
    app.on_response_prepare.append(_add_headers)
    pages.setup(app, templates)

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        answers = dict(
            zip(checks, await asyncio.gather(*(check() for check in checks.values())), strict=True)
        )
        ready = not any(answers.values())
        return web.json_response(
            {
                "status": "ready" if ready else "not ready",
                "checks": {k: v or "ok" for k, v in answers.items()},
            },
            status=200 if ready else 503,
        )

    for route, health in zip(_HEALTH_ROUTES, (healthz, readyz), strict=True):
        app.router.add_get(route, health)
    return app


def run(app: web.Application, *, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, then let running requests end.

    Args:
        app: The application.
        host: Address to listen on.
        port: TCP port.

    Raises:
        ConfigurationError: The address cannot be had.
    """
    try:
        web.run_app(app, host=host, port=port, access_log=None, print=None, shutdown_timeout=30)
    except OSError as error:
        raise ConfigurationError(
            f"Expected to listen on {host}, port {port}, but: {error.strerror}. "
            "Stop what listens there, or choose another address or port."
        ) from error
