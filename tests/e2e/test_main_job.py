"""The main job: a scan goes in by browser or curl, its map comes out in Papaya behind a link in an e-mail."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from playwright.async_api import Page

from corestream.mail.mailbox import Mailbox
from tests.support.browser import running_browser, visit
from tests.support.installation import Installation
from tests.support.reference import aligned_volume, expected, reference
from tests.support.waiting import NETWORK_PATIENCE_S, eventually

ADDRESS = "reader@hospital.example"


async def curl_json(*arguments: str) -> dict[str, Any]:
    """Run curl as a script would; return the JSON it prints."""
    command = ("curl", "-sS", "--fail-with-body", *arguments)
    done = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


async def mailed_link(installation: Installation, link_start: str) -> str:
    """Wait for the mail whose text brings a link that starts so; return the link."""
    box = Mailbox(installation.data_dir / "mail")
    found: list[str] = []

    async def arrived() -> bool:
        found[:] = [
            link for mail in box.mails() for link in re.findall(rf"{re.escape(link_start)}\S*", mail.text)
        ]
        return bool(found)

    await eventually(arrived, within_s=NETWORK_PATIENCE_S)
    return found[0]


async def open_in_papaya(page: Page, artifacts: Path, name: str) -> float:
    """From the result page into the viewer; return the map's value under the crosshair."""
    await page.screenshot(path=artifacts / f"{name}-result.png", full_page=True)
    await page.get_by_role("link", name="Open viewer").click()
    await page.wait_for_selector('html[data-viewer="ready"][data-volumes="2"]')
    await page.screenshot(path=artifacts / f"{name}-viewer.png", full_page=True)
    return float(await page.evaluate("papayaContainers[0].display.canvas.currentval"))


def map_at_peak(report: dict[str, Any], saliency: Path) -> float:
    """The value of the map file at the peak the report names, found by its millimetres."""
    volume = nib.Nifti1Image.from_filename(saliency)
    voxel = np.linalg.inv(volume.affine) @ [*report["saliency"]["peak_mm"], 1]
    return float(volume.get_fdata()[tuple(np.rint(voxel[:3]).astype(int))])


async def test_a_scan_goes_from_the_browser_form_to_papaya(
    published: Installation, sample: Path, artifacts: Path
) -> None:
    """A reader submits by the form, follows the page, opens the mailed link, and sees scan and map."""
    async with running_browser() as browser, visit(browser, published.url) as visited:
        page = visited.page
        await page.screenshot(path=artifacts / "form-upload.png", full_page=True)
        await page.locator("#file").set_input_files(sample)
        await page.locator("input[type=email]").fill(ADDRESS)
        await page.locator("#submit").click()
        await page.wait_for_url("**/jobs/*")
        await page.screenshot(path=artifacts / "form-job.png", full_page=True)
        link = await mailed_link(published, f"{published.viewer_url}/r/")
        await page.goto(link)
        await page.wait_for_selector('[data-state="done"]')
        value = await open_in_papaya(page, artifacts, "form")
        assert visited.complaints == []
    results = next((published.data_dir / "jobs").glob("*/*/result"))
    report = json.loads((results / "report.json").read_text())
    assert value == pytest.approx(map_at_peak(report, results / "saliency.nii.gz"), abs=0.5)


async def test_a_real_head_goes_from_curl_to_papaya(published: Installation, artifacts: Path) -> None:
    """A script submits a real CT; number and side are the public code's, no mail names the file."""
    head = aligned_volume("cranium_ncct")
    form = ("-F", f"file=@{head}", "-F", f"email={ADDRESS}")
    submitted = await curl_json(*form, f"{published.url}/api/jobs")
    assert set(submitted) >= {"job_id", "scans", "status_url", "page_url"}

    job: dict[str, Any] = {}

    async def finished() -> bool:
        job.update(await curl_json(submitted["status_url"]))
        return bool(job["state"] == "finished" and job["mail"] == "sent")

    await eventually(finished, within_s=NETWORK_PATIENCE_S)
    scan = job["scans"][0]
    assert (scan["state"], scan["deliveries"], scan["error"]) == ("done", 1, None)
    public = expected("cranium_ncct")
    assert scan["report"]["core_estimate"]["value"] == pytest.approx(public.core_estimate, rel=1e-4)
    assert scan["report"]["saliency"]["side"] == public.side
    assert await mailed_link(published, job["result_url"]) == job["result_url"]
    for mail in (published.data_dir / "mail").glob("*.eml"):
        text = email.message_from_bytes(mail.read_bytes(), policy=email.policy.default).as_string()
        assert "cranium" not in text

    async with running_browser() as browser, visit(browser, job["result_url"]) as visited:
        value = await open_in_papaya(visited.page, artifacts, "curl")
        assert visited.complaints == []
    results = published.data_dir / "jobs" / job["job_id"] / scan["scan_id"] / "result"
    assert value == pytest.approx(map_at_peak(scan["report"], results / "saliency.nii.gz"), abs=0.5)


async def test_a_raw_head_is_aligned_on_its_way_and_a_slab_is_refused_in_words(
    published: Installation,
) -> None:
    """A tilted gantry's scan has a result on its own voxels; what lacks half a brain has a reason."""
    raw, slab = (
        reference(f"raw/{name}.nii.gz") for name in ("cranium_tilt18_sheared_sform", "cranium_slab67mm")
    )
    submitted = await curl_json("-F", f"file=@{raw}", "-F", f"file=@{slab}", f"{published.url}/api/jobs")
    job: dict[str, Any] = {}

    async def finished() -> bool:
        job.update(await curl_json(submitted["status_url"]))
        return bool(job["state"] == "finished")

    await eventually(finished, within_s=NETWORK_PATIENCE_S)
    done, refused = job["scans"]
    assert (done["state"], refused["state"]) == ("done", "failed")
    assert refused["error"]["code"] == "brain-cut-off"
    assert done["report"]["alignment"]["applied"]
    assert {"saliency_native", "alignment"} <= set(done["files"])
    results = published.data_dir / "jobs" / job["job_id"] / done["scan_id"] / "result"
    native, scan = (nib.Nifti1Image.from_filename(path) for path in (results / "saliency_native.nii.gz", raw))
    assert native.shape == scan.shape
    np.testing.assert_allclose(native.affine, scan.affine, atol=1e-4)
    peak = np.linalg.inv(native.affine) @ [*done["report"]["saliency"]["peak_native_mm"], 1]
    assert native.get_fdata()[tuple(np.rint(peak[:3]).astype(int))] > 0.8 * native.get_fdata().max()
