"""The frame of an HTTP service: headers, log lines, health, start and stop."""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry

from pipeline.errors import ConfigurationError
from pipeline.metrics import HttpMetrics
from pipeline.web import health, pages, problems
from pipeline.web.health import Check, Refresh

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

HEADER_TIMEOUT_S = 30.0
"""For a connection to say what it wants, the first time and again; a body has its own time."""

_METRICS = web.AppKey("metrics", HttpMetrics)

_NO_ADDRESS = {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES, errno.EAFNOSUPPORT}
"""What the system says of an address that cannot be listened on; of a name it says a `gaierror`."""


async def _add_headers(request: web.Request, answer: web.StreamResponse) -> None:
    if isinstance(request.match_info.route.resource, web.StaticResource):
        answer.headers["Cache-Control"] = "no-cache"  # kept, but asked for by its ETag before it is used
    for name, value in _HEADERS.items():
        answer.headers.setdefault(name, value)


@web.middleware
async def _log_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Log the route, never the path: paths and queries carry tokens."""
    started = time.perf_counter()
    resource = request.match_info.route.resource
    route = resource.canonical if resource else None
    try:
        answer = await handler(request)
    except ConnectionError:
        log.info("http.client_gone", method=request.method, route=route)
        raise
    took_s = time.perf_counter() - started
    request.app[_METRICS].answered(method=request.method, route=route, status=answer.status, took_s=took_s)
    if route in health.ROUTES and answer.status == HTTPStatus.OK:
        return answer  # asked every few seconds: only a bad answer is news
    log.info(
        "http.answered",
        method=request.method,
        route=route,
        status=answer.status,
        took_ms=round(took_s * 1000, 1),
    )
    return answer


def build_app(
    *,
    templates: Path,
    checks: Mapping[str, Check],
    registry: CollectorRegistry,
    refresh: Refresh | None = None,
    home: str = "/",
) -> web.Application:
    """Return an application with pages, problem documents, headers, health and metrics.

    Args:
        templates: The service's own templates.
        checks: What `readyz` asks, by name.
        registry: What `metrics` shows.
        refresh: Is awaited before it is shown.
        home: Where the head of every page leads.
    """
    metrics = HttpMetrics(registry)
    app = web.Application(middlewares=[_log_request, problems.middleware(metrics)])
    app[_METRICS] = metrics
    app.on_response_prepare.append(_add_headers)
    pages.setup(app, templates, home)

    health.add_routes(app, checks=checks, registry=registry, refresh=refresh)
    return app


def is_our_fault(record: logging.LogRecord) -> bool:
    """Keep tracebacks out of aiohttp's log that anybody can cause: what is no HTTP, and going away."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | ConnectionError)


def run(app: web.Application, *, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, then let running requests end.

    Args:
        app: The application.
        host: Address to listen on.
        port: TCP port.

    Raises:
        ConfigurationError: The address cannot be had.
    """
    logging.getLogger("aiohttp.server").addFilter(is_our_fault)
    try:
        web.run_app(
            app,
            host=host,
            port=port,
            access_log=None,
            print=None,
            shutdown_timeout=30,
            keepalive_timeout=HEADER_TIMEOUT_S,
        )
    except OSError as error:
        if error.errno not in _NO_ADDRESS and not isinstance(error, socket.gaierror):
            raise
        raise ConfigurationError(
            f"Expected to listen on {host}, port {port}, but: {error.strerror}. "
            "Stop what listens there, or choose another address or port."
        ) from error
