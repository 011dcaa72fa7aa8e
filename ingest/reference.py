"""The interface, described: `/openapi.json` for programs, `/api/docs` for people."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

from aiohttp import web

from pipeline.report import RESEARCH_USE_ONLY
from pipeline.web import openapi
from pipeline.web.pages import render

_DESCRIPTION = (
    "Submit head CT angiograms, follow the job, fetch what a published network sees in them. "
    f"{RESEARCH_USE_ONLY}"
)


_TAGS = ("jobs", "resumable uploads", "health", "monitor", "dead letters")
"""The groups of the page, in its order: first what submitters need, then what operators do."""


def add_routes(app: web.Application) -> None:
    """Serve the description of an application that has all its other routes."""
    described = openapi.document(
        app, title="corestream", version=version("corestream"), description=_DESCRIPTION
    )
    content = json.dumps(described, ensure_ascii=False, indent=1)
    groups = _groups(described)

    async def get_json(_request: web.Request) -> web.Response:
        return web.Response(text=content, content_type="application/json")

    async def get_page(request: web.Request) -> web.Response:
        return render(request, "reference.html", about=described["info"], groups=groups)

    app.router.add_get("/openapi.json", get_json)
    app.router.add_get("/api/docs", get_page)


def _groups(described: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the operations by their tag, as the page shows them."""
    groups: dict[str, list[dict[str, Any]]] = {tag: [] for tag in _TAGS}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            shown = operation | {"path": path, "method": method.upper(), "fields": {}}
            for kind, body in operation.get("requestBody", {}).get("content", {}).items():
                name = body.get("schema", {}).get("$ref", "").rpartition("/")[2]
                shown["fields"][kind] = described["components"]["schemas"].get(name, {}).get("properties", {})
            groups[operation["tags"][0]].append(shown)
    return groups
