"""The viewer: result pages, Papaya and files behind signed links. Needs DATA_DIR and the key, not Redis."""

from __future__ import annotations

import os
from pathlib import Path

import structlog
from aiohttp import web

from pipeline import logging
from pipeline.audit import Action
from pipeline.errors import ConfigurationError
from pipeline.metrics import StageMetrics, new_registry
from pipeline.service import exit_for
from pipeline.settings import load
from pipeline.storage import Storage
from pipeline.web import auditing
from pipeline.web.app import build_app, run
from pipeline.web.health import Check
from viewer.access import Access
from viewer.archive import Archive
from viewer.files import Files
from viewer.numbers import Numbers
from viewer.papaya_page import PapayaPage
from viewer.result_page import ResultPage
from viewer.settings import ViewerSettings
from viewer.visits import Visits

log = structlog.get_logger()

_HERE = Path(__file__).parent
_ASSETS = _HERE / "static"


_AUDITED: dict[tuple[str, str], Action] = {
    ("GET", "/r/{token}"): "view",
    ("GET", "/r/{token}/papaya/{scan_id}"): "view",
    ("GET", "/r/{token}/all.zip"): "download",
    ("GET", "/r/{token}/numbers.csv"): "download",
    ("GET", "/r/{token}/files/{scan_id}/{name}"): "download",
}


def build(settings: ViewerSettings) -> web.Application:
    """Return the viewer.

    Raises:
        ConfigurationError: Papaya's files are not there.
    """
    if not (_ASSETS / "vendor" / "papaya.js").is_file():
        raise ConfigurationError(
            f"Expected Papaya in {_ASSETS / 'vendor'}, found none. Run viewer/build-assets, which needs npm."
        )
    registry = new_registry()
    app = build_app(
        templates=_HERE / "templates",
        checks={"disk": _disk(settings.storage)},
        registry=registry,
        home=settings.public_url,
    )
    access = Access(settings.tokens, settings.storage)
    visits = Visits(settings.storage.ledger, settings.retention, StageMetrics(registry))
    app.router.add_get("/r/{token}", ResultPage(access, settings.links, visits).serve)
    app.router.add_get("/r/{token}/all.zip", Archive(access).serve)
    app.router.add_get("/r/{token}/numbers.csv", Numbers(access).serve)
    app.router.add_get("/r/{token}/papaya/{scan_id}", PapayaPage(access).serve)
    app.router.add_get("/r/{token}/files/{scan_id}/{name}", Files(access).serve)
    auditing.setup(app, settings.audit, _AUDITED, settings.proxies)
    app.router.add_static("/assets/", _ASSETS)
    app.cleanup_ctx.append(visits.read_on)
    return app


def _disk(storage: Storage) -> Check:
    async def check() -> str | None:
        if os.access(storage.jobs, os.R_OK | os.X_OK):
            return None
        return "Expected a readable folder of jobs under DATA_DIR, found none."

    return check


def main() -> None:
    """Run the viewer from the environment until it is told to stop."""
    try:
        settings = load(ViewerSettings)
        logging.configure("viewer", settings.log_format)
        app = build(settings)
        log.info("viewer.starting", host=settings.host, port=settings.viewer_port)
        run(app, host=settings.host, port=settings.viewer_port)
    except ConfigurationError as error:
        exit_for(error)
