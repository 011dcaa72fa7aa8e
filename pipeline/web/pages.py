"""Pages: jinja2 templates of the service over the base they share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
from aiohttp import web

from pipeline.report import RESEARCH_USE_ONLY

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
"""Style sheet and icon, served under `/static/` by both services."""

_TEMPLATES = web.AppKey("templates", jinja2.Environment)


def setup(app: web.Application, templates: Path, home: str) -> None:
    """Let an application render its own templates and the shared ones, whose heads lead to `home`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([templates, _HERE / "templates"]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"research_use_only": RESEARCH_USE_ONLY, "home": home}
    app[_TEMPLATES] = environment
    app.router.add_static("/static/", STATIC)


def render(request: web.Request, template: str, *, status: int = 200, **values: Any) -> web.Response:  # noqa: ANN401 - what a template takes
    """Render a template as the answer to a request."""
    text = request.config_dict[_TEMPLATES].get_template(template).render(**values)
    return web.Response(text=text, status=status, content_type="text/html")
