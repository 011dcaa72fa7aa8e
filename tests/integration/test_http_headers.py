"""What every answer of an HTTP service carries, whatever it answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.support.results import accepted_job
from tests.support.viewing import running_viewer


@pytest.mark.parametrize("path", ["/healthz", "/nothing-here", "/r/forged", "/static/app.css", "RESULT"])
async def test_every_answer_keeps_browsers_to_itself(path: str, tmp_path: Path) -> None:
    """No guessing at types, no link that travels on, no other origin, no frame; only files are kept."""
    async with running_viewer(tmp_path) as viewer, ClientSession() as http:
        url = viewer.origin + path if path != "RESULT" else viewer.result(accepted_job(viewer.storage))
        async with http.get(url, headers={"Accept": "text/html"}) as answer:
            headers = answer.headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    policy = headers["Content-Security-Policy"]
    for rule in ("default-src 'none'", "script-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"):
        assert rule in policy
    assert headers["Cache-Control"] == ("no-cache" if path.startswith("/static/") else "no-store")
