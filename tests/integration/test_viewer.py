"""The viewer over HTTP: what a link opens, and that nothing opens without one."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import ClientSession

from pipeline.clock import now
from pipeline.feedback import Feedback, FeedbackFolder
from pipeline.ids import new_id
from pipeline.report import RESEARCH_USE_ONLY
from pipeline.storage import JobRecord
from tests.support.results import DEMO, REFUSAL, WARNING, accepted_job, publish_result, report
from tests.support.viewing import RunningViewer, running_viewer

AS_A_BROWSER = {"Accept": "text/html"}


@pytest.fixture
async def viewer(tmp_path: Path) -> AsyncIterator[RunningViewer]:
    """A viewer over an empty folder."""
    async with running_viewer(tmp_path) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    """A client that leaves bodies as they are sent."""
    async with ClientSession(auto_decompress=False) as session:
        yield session


@pytest.fixture
def job(viewer: RunningViewer) -> JobRecord:
    """A job of one scan with its result."""
    job = accepted_job(viewer.storage)
    publish_result(viewer.storage, job, job.scans[0].scan_id)
    return job


async def page(http: ClientSession, url: str) -> str:
    """Return a page that must be there."""
    async with http.get(url, headers=AS_A_BROWSER) as answer:
        assert answer.status == 200
        return await answer.text()


async def test_the_result_page_says_number_error_side_and_model(
    viewer: RunningViewer, http: ClientSession, job: JobRecord
) -> None:
    """All that is needed to trust or reject a result stands on its page."""
    text = await page(http, viewer.result(job))
    for words in (
        "23.5 <small>ml</small>",
        "Typical error ± 10.5 ml",
        "as the synthetic training data state it",
        "Regions that moved the estimate are shown on the side where they are darker, the left.",
        "cannot be told from a true one",
        DEMO,
        WARNING,
        "cd" * 32,
        "Research use only. Not for diagnosis.",
    ):
        assert words in text
    assert "infarct" not in text.lower()
    assert text.count(DEMO) == 1
    assert "http-equiv" not in text


async def test_every_address_on_the_result_page_opens(
    viewer: RunningViewer, http: ClientSession, job: JobRecord
) -> None:
    """Links and pictures lead somewhere, on this origin."""
    text = await page(http, viewer.result(job))
    addresses = {part.split('"')[0] for part in text.replace('src="', 'href="').split('href="')[1:]}
    addresses = {a for a in addresses if not a.startswith(("#", viewer.settings.public_url))}
    assert {address.rpartition("/")[2] for address in addresses} >= {
        "aligned.nii.gz",
        "saliency.nii.gz",
        "saliency_fixed.nii.gz",
        "summary.png",
        "report.json",
    }
    for address in addresses:
        assert address.startswith("/")
        async with http.get(viewer.origin + address) as answer:
            assert answer.status == 200


async def test_scans_that_wait_or_failed_say_so(viewer: RunningViewer, http: ClientSession) -> None:
    """A failure is a result, with what to do; a page with unfinished scans looks again by itself."""
    job = accepted_job(viewer.storage, scans=3)
    publish_result(viewer.storage, job, job.scans[0].scan_id, positive=False)
    viewer.storage.write_failure(job.job_id, job.scans[1].scan_id, REFUSAL)
    text = await page(http, viewer.result(job))
    assert [s.split('"')[0] for s in text.split('data-state="')[1:]] == ["done", "failed", "waiting"]
    assert "No region stands out. This does not exclude a stroke." in text
    assert REFUSAL.title in text
    assert REFUSAL.detail in text
    assert '<meta http-equiv="refresh" content="5">' in text
    for name in ("aligned.nii.gz", "report.json"):
        for scan in (1, 2):
            async with http.get(viewer.file(job, name, scan)) as answer:
                assert answer.status == 404
                assert (await answer.json())["code"] == "no-result"
    async with http.get(viewer.papaya(job, 2)) as answer:
        assert answer.status == 404


async def test_the_zip_holds_every_file_of_every_result_and_the_table(
    viewer: RunningViewer, http: ClientSession
) -> None:
    """Made while it is sent, and whole none the less."""
    job = accepted_job(viewer.storage, scans=2)
    for scan in job.scans:
        publish_result(viewer.storage, job, scan.scan_id)
    async with http.get(f"{viewer.result(job)}/all.zip") as answer:
        assert answer.headers["Content-Type"] == "application/zip"
        assert f"corestream-{job.job_id[:8]}.zip" in answer.headers["Content-Disposition"]
        archive = zipfile.ZipFile(io.BytesIO(await answer.read()))
    assert archive.testzip() is None
    for number, scan in enumerate(job.scans, start=1):
        folder = viewer.storage.result_dir(job.job_id, scan.scan_id)
        for path in folder.iterdir():
            assert archive.read(f"scan-{number}/{path.name}") == path.read_bytes()
    assert archive.read("numbers.csv").decode().count(RESEARCH_USE_ONLY) == 2


async def test_the_table_has_a_line_for_every_scan(viewer: RunningViewer, http: ClientSession) -> None:
    """Unrounded numbers; a failure is a result; an empty cell is what is not known."""
    job = accepted_job(viewer.storage, scans=4)
    publish_result(viewer.storage, job, job.scans[0].scan_id)
    publish_result(viewer.storage, job, job.scans[1].scan_id, positive=False)
    viewer.storage.write_failure(job.job_id, job.scans[2].scan_id, REFUSAL)
    async with http.get(f"{viewer.result(job)}/numbers.csv") as answer:
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        rows = list(csv.DictReader(io.StringIO(await answer.text())))
    assert [row["state"] for row in rows] == ["done", "done", "failed", "waiting"]
    assert [row["core_estimate"] for row in rows] == ["23.46", "23.46", "", ""]
    assert [row["core_estimate_unit"] for row in rows] == ["ml", "ml", "", ""]
    assert [row["side"] for row in rows] == ["left", "", "", ""]
    assert [row["error"] for row in rows] == ["", "", REFUSAL.code, ""]
    assert {row["scan_sha256"] for row in rows} == {"ab" * 32}
    text = await page(http, viewer.result(job))
    assert "Side by side" in text
    assert text.count("Open viewer<span") == 2
    assert "12.3 × floor" in text  # noqa: RUF001 (times sign)
    assert text.count(">not yet<") == 2


async def test_the_result_page_asks_for_feedback_and_offers_deletion_at_the_upload_service(
    viewer: RunningViewer, http: ClientSession, job: JobRecord
) -> None:
    """The viewer only reads; its policy lets forms lead there and nowhere else."""
    links = viewer.settings.links(job)
    scan_id = job.scans[0].scan_id
    async with http.get(viewer.result(job), headers=AS_A_BROWSER) as answer:
        text = await answer.text()
        policy = answer.headers["Content-Security-Policy"]
    assert f'action="{links.feedback(scan_id)}"' in text
    assert f'href="{links.delete}"' in text
    assert f"form-action 'self' {links.public_url} {links.viewer_url};" in policy
    given = Feedback.of(
        report(job.job_id, scan_id),
        scan_sha256="ab" * 32,
        job_id=job.job_id,
        scan_id=scan_id,
        verdict="disagree",
        note="<left>",
        at=now(),
    )
    FeedbackFolder(viewer.storage.feedback).write(given)
    text = await page(http, viewer.result(job))
    assert "Kept: disagree." in text
    assert "&lt;left&gt;</textarea>" in text


@pytest.mark.parametrize("path", ["", "/papaya/{scan}", "/files/{scan}/summary.png"])
async def test_a_tampered_link_is_refused(
    viewer: RunningViewer, http: ClientSession, job: JobRecord, path: str
) -> None:
    """403, in words, on every route; be it the job, the expiry or the signature that was changed."""
    token = viewer.token(job)
    payload, signature = token.split(".")
    for wrong in (f"x{token}", f"{payload}.{signature[::-1]}", f"{payload[:-4]}AAAA.{signature}", "nonsense"):
        url = f"{viewer.origin}/r/{wrong}{path.format(scan=job.scans[0].scan_id)}"
        async with http.get(url, headers=AS_A_BROWSER) as answer:
            assert answer.status == 403
            text = await answer.text()
            assert "Link not valid" in text
            assert "Copy the whole link" in text
        async with http.get(url) as answer:
            assert (await answer.json())["code"] == "link-invalid"


@pytest.mark.parametrize("path", ["", "/papaya/{scan}", "/files/{scan}/summary.png"])
async def test_an_expired_link_and_a_deleted_job_are_gone(
    viewer: RunningViewer, http: ClientSession, job: JobRecord, path: str
) -> None:
    """410, in words, on every route: a reader learns that asking again is of no use."""
    old = accepted_job(viewer.storage, links_expire_at=now() - timedelta(seconds=1))
    publish_result(viewer.storage, old, old.scans[0].scan_id)
    viewer.storage.delete_job(job.job_id)
    for gone, code in ((old, "link-expired"), (job, "job-gone")):
        url = viewer.result(gone) + path.format(scan=gone.scans[0].scan_id)
        async with http.get(url) as answer:
            assert answer.status == 410
            assert (await answer.json())["code"] == code
        async with http.get(url, headers=AS_A_BROWSER) as answer:
            assert answer.status == 410
            assert "Submit the scan again" in await answer.text()


async def test_a_link_opens_its_own_job_only(
    viewer: RunningViewer, http: ClientSession, job: JobRecord
) -> None:
    """Neither another job's scan, nor another file, nor a way out of the folder."""
    other = accepted_job(viewer.storage)
    publish_result(viewer.storage, other, other.scans[0].scan_id)
    scan_id = job.scans[0].scan_id
    base = viewer.result(job)
    for path in (
        f"/files/{other.scans[0].scan_id}/summary.png",
        f"/papaya/{other.scans[0].scan_id}",
        f"/papaya/{new_id()}",
        f"/files/{scan_id}/scan.nii.gz",
        f"/files/{scan_id}/..%2fscan.nii.gz",
        f"/files/{scan_id}/%2e%2e%2f%2e%2e%2fjob.json",
        f"/files/..%2f{other.job_id}%2f{other.scans[0].scan_id}/summary.png",
        "/files/..%2f../job.json",
    ):
        async with http.get(base + path) as answer:
            assert answer.status == 404, path


async def test_nothing_but_browser_files_and_health_opens_without_a_link(
    viewer: RunningViewer, http: ClientSession, job: JobRecord
) -> None:
    """No route lists anything."""
    for path in (
        "/",
        "/r/",
        "/jobs",
        f"/jobs/{job.job_id}/job.json",
        "/assets/",
        "/static/",
        "/assets/../app.py",
    ):
        async with http.get(viewer.origin + path) as answer:
            assert answer.status in {403, 404}, path
    for path in ("/healthz", "/readyz", "/static/app.css", "/assets/viewer.css"):
        async with http.get(viewer.origin + path) as answer:
            assert answer.status == 200, path


async def test_volumes_are_sent_as_gzip_files_under_a_neutral_name(
    viewer: RunningViewer, http: ClientSession, job: JobRecord
) -> None:
    """A browser that unpacked them on the way would save a file whose name lies."""
    async with http.get(viewer.file(job, "saliency.nii.gz"), headers={"Accept-Encoding": "gzip"}) as answer:
        assert answer.headers["Content-Type"] == "application/gzip"
        assert "Content-Encoding" not in answer.headers
        scan = job.scans[0].scan_id[:8]
        expected = f'attachment; filename="corestream-{scan}-saliency.nii.gz"'
        assert answer.headers["Content-Disposition"] == expected
        assert answer.headers["Cache-Control"] == "no-store"
        assert gzip.decompress(await answer.read())[344:347] == b"n+1"
    async with http.get(viewer.file(job, "summary.png")) as answer:
        assert answer.headers["Content-Type"] == "image/png"
    async with http.get(viewer.file(job, "report.json")) as answer:
        assert answer.headers["Content-Type"] == "application/json"
        assert json.loads(await answer.read())["scan_id"] == job.scans[0].scan_id


async def test_files_can_be_fetched_in_part_and_asked_about(
    viewer: RunningViewer, http: ClientSession, job: JobRecord
) -> None:
    """A broken download goes on where it stopped."""
    url = viewer.file(job, "aligned.nii.gz")
    content = (viewer.storage.result_dir(job.job_id, job.scans[0].scan_id) / "aligned.nii.gz").read_bytes()
    async with http.head(url) as answer:
        assert answer.status == 200
        assert answer.content_length == len(content)
        etag = answer.headers["ETag"]
    async with http.get(url, headers={"Range": "bytes=100-199"}) as answer:
        assert answer.status == 206
        assert answer.headers["Content-Range"] == f"bytes 100-199/{len(content)}"
        assert await answer.read() == content[100:200]
    async with http.get(url, headers={"Range": f"bytes={len(content)}-"}) as answer:
        assert answer.status == 416
    async with http.get(url, headers={"If-None-Match": etag}) as answer:
        assert answer.status == 304


async def test_browser_files_are_sent_packed_and_asked_for_anew(
    viewer: RunningViewer, http: ClientSession
) -> None:
    """Papaya is 0.6 MB; a new release must not meet an old copy."""
    async with http.get(
        f"{viewer.origin}/assets/vendor/papaya.js", headers={"Accept-Encoding": "gzip"}
    ) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Cache-Control"] == "no-cache"
        assert (answer.content_length or 0) < 150_000


async def test_a_viewer_without_its_folder_is_not_ready(
    viewer: RunningViewer, http: ClientSession, tmp_path: Path
) -> None:
    """A volume that was not mounted shows before the first reader meets it."""
    (tmp_path / "jobs").rmdir()
    async with http.get(f"{viewer.origin}/readyz") as answer:
        assert answer.status == 503
        assert "folder of jobs" in (await answer.json())["checks"]["disk"]
