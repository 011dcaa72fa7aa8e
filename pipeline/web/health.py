"""What a service tells of itself over HTTP: that it runs, whether it can work, its metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Literal

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel

from pipeline.web.openapi import Operation, described

log = structlog.get_logger()

Check = Callable[[], Awaitable[str | None]]
"""A readiness check: None where all is well, else what is wrong."""
Refresh = Callable[[], Awaitable[None]]
"""Brings metrics up to date that are read and not counted."""
ROUTES = ("/healthz", "/readyz", "/metrics")


class Alive(BaseModel):
    """The process runs."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """Whether a service can work, and what is wrong where it cannot."""

    status: Literal["ready", "not ready"]
    checks: dict[str, str]


def add_routes(
    app: web.Application,
    *,
    checks: Mapping[str, Check],
    registry: CollectorRegistry,
    refresh: Refresh | None = None,
) -> None:
    """Serve `ROUTES`.

    Args:
        app: The application.
        checks: What `readyz` asks, by name.
        registry: What `metrics` shows.
        refresh: Is awaited before it is shown.
    """

    @described(Operation(summary="Ask whether the process runs", tag="health", answers={200: Alive}))
    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    @described(
        Operation(summary="Ask whether it can work", tag="health", answers={200: Readiness, 503: Readiness})
    )
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

    @described(Operation(summary="Read the metrics", tag="health", answers={200: "text/plain"}))
    async def metrics(request: web.Request) -> web.Response:
        if refresh is not None:
            await refresh()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    for route, handler in zip(ROUTES, (healthz, readyz, metrics), strict=True):
        app.router.add_get(route, handler)


@asynccontextmanager
async def listening(
    *, host: str, port: int, checks: Mapping[str, Check], registry: CollectorRegistry
) -> AsyncIterator[None]:
    """Serve `ROUTES` beside a worker until the block ends.

    A port that cannot be had is logged and no more: no scan waits for its metrics.

    Args:
        host: Address to listen on.
        port: TCP port; 0 serves nothing.
        checks: What `readyz` asks, by name.
        registry: What `metrics` shows.
    """
    if not port:
        yield
        return
    app = web.Application()
    add_routes(app, checks=checks, registry=registry)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            log.warning("metrics.not_served", host=host, port=port, error=error.strerror)
        yield
    finally:
        await runner.cleanup()
