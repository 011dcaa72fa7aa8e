"""Which handler answers which address of the upload service."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from aiohttp import web

from ingest import api_keys, expectation, reference
from ingest.admin.access import Admin
from ingest.admin.letters import Letters
from ingest.admin.numbers import Inspection, Numbers
from ingest.admin.page import MonitorPage
from ingest.deletion import Deletion
from ingest.documents import JobDocument, json_response
from ingest.feedback import FeedbackDesk
from ingest.live import Live
from ingest.pages import Pages
from ingest.parts import Parts
from ingest.rates import Rates
from ingest.retrying import Retrying
from ingest.submission import Submissions
from ingest.uploads.handlers import Uploads
from ingest.uploads.joining import Joining
from pipeline.audit import Action
from pipeline.keys import PROCESSORS
from pipeline.streams import Presence, durability_warnings, read_pending, read_server
from pipeline.web import auditing
from pipeline.web.openapi import Operation, described

_STATIC = Path(__file__).parent / "static"

_AUDITED: dict[tuple[str, str], Action] = {
    ("POST", "/api/jobs"): "submit",
    ("GET", "/api/jobs/{job_id}"): "view",
    ("GET", "/jobs/{job_id}"): "view",
    ("DELETE", "/api/jobs/{job_id}"): "delete",
    ("POST", "/jobs/{job_id}/delete"): "delete",
}


def add_routes(app: web.Application, parts: Parts) -> None:
    """Add every route, and what stands before all of them."""
    auditing.setup(app, parts.settings.audit, _AUDITED, parts.settings.proxies)
    if parts.settings.api_keys:
        app.middlewares.append(api_keys.required(api_keys.ApiKeys(parts.storage.root)))
    _add_submission(app, parts)
    _add_jobs(app, parts)
    _add_changes(app, parts)
    _add_admin(app, parts)
    app.router.add_static("/assets/", _STATIC)
    reference.add_routes(app)


def _add_submission(app: web.Application, parts: Parts) -> None:
    settings, limits = parts.settings, parts.intake.limits
    rates = Rates(settings.uploads_per_minute, settings.proxies)
    joining = Joining(parts.uploads, parts.writers, limits, parts.door)
    Uploads(settings, parts.storage, parts.uploads, parts.writers, limits, rates).add_routes(app)
    submissions = Submissions(settings, parts.storage, parts.intake, joining, rates)
    app.router.add_post("/api/jobs", submissions.post, expect_handler=expectation.defer)


def _add_jobs(app: web.Application, parts: Parts) -> None:
    """Add what tells how jobs stand."""
    access, status = parts.access, parts.status
    pages = Pages(parts.settings, access, status, parts.news)
    live = Live(access, status, parts.news)

    @described(
        Operation(
            summary="Ask how a job stands",
            tag="jobs",
            answers={200: JobDocument},
            problems=(401, 403, 410),
            access="job token",
        )
    )
    async def read_job(request: web.Request) -> web.Response:
        """Every scan with its state, its result and the addresses of its files, or why it has none."""
        return json_response(await status.read(access.job(request)))

    app.router.add_get("/", pages.upload)
    app.router.add_get("/api/sample", pages.sample)
    app.router.add_get("/jobs/{job_id}", pages.job)
    app.router.add_get("/api/jobs/{job_id}", read_job)
    app.router.add_get("/api/jobs/{job_id}/events", live.events)


def _add_changes(app: web.Application, parts: Parts) -> None:
    """Add what changes a job that is there."""
    deletion = Deletion(parts.access, parts.storage, parts.jobs)
    feedback = FeedbackDesk(parts.settings, parts.access, parts.storage)
    retrying = Retrying(parts.access, parts.storage, parts.jobs, parts.dead)
    app.router.add_get("/jobs/{job_id}/delete", deletion.ask)
    app.router.add_post("/jobs/{job_id}/delete", deletion.confirm)
    app.router.add_delete("/api/jobs/{job_id}", deletion.delete)
    app.router.add_post("/api/jobs/{job_id}/scans/{scan_id}/feedback", feedback.post)
    app.router.add_post("/api/jobs/{job_id}/scans/{scan_id}/retry", retrying.post)


def _add_admin(app: web.Application, parts: Parts) -> None:
    """Add what only the holder of ADMIN_TOKEN may use."""
    client, keys, admin = parts.client, parts.settings.keys, Admin(parts.settings)
    inspection = Inspection(
        pending=partial(read_pending, client, stream=keys.scans, group=PROCESSORS),
        server=partial(read_server, client),
        warnings=partial(durability_warnings, client),
        presence=Presence(client, keys.workers),
    )
    numbers = Numbers(parts.settings, parts.jobs, parts.dead, parts.ledger, inspection)
    letters = Letters(admin, parts.dead, parts.jobs, parts.storage)
    page = MonitorPage(admin, numbers, letters)
    app.router.add_get("/api/dead", letters.get_list)
    app.router.add_post("/api/dead/retry", letters.post_retry_all)
    app.router.add_get("/api/dead/{dead_id}", letters.get)
    app.router.add_post("/api/dead/{dead_id}/retry", letters.post_retry)
    app.router.add_delete("/api/dead/{dead_id}", letters.delete)
    app.router.add_get("/api/monitor", page.get_numbers)
    app.router.add_get("/monitor", page.get)
    app.router.add_get("/monitor/login", page.get_login)
    app.router.add_post("/monitor/login", page.post_login)
    app.router.add_post("/monitor/logout", page.post_logout)
    app.router.add_post("/monitor/dead/retry", page.post_retry_all)
    app.router.add_post("/monitor/dead/{dead_id}/retry", page.post_retry)
    app.router.add_get("/monitor/dead/{dead_id}/drop", page.get_drop)
    app.router.add_post("/monitor/dead/{dead_id}/drop", page.post_drop)
