"""`corestream detect --verify`, as a user calls it, with the shipped model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from processor.synthetic import write_samples
from tests.support.cpus import needs_bfloat16
from tests.support.reference import aligned_volume, published_weights
from tests.support.waiting import NETWORK_PATIENCE_S

ROOT = Path(__file__).parents[2]


def detect(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `corestream detect …`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CORESTREAM_")}
    return subprocess.run(
        [sys.executable, "-m", "corestream", "detect", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=NETWORK_PATIENCE_S,
        check=False,
    )


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic scan with its result in `results/sample-01` beside it."""
    (path,) = write_samples(tmp_path_factory.mktemp("samples"), 1)
    done = detect(path, "-o", path.with_name("results"))
    assert done.returncode == 0, done.stderr
    return path


def test_another_process_gives_the_same_bytes(scan: Path) -> None:
    """Exit status 0, and the files that were compared are named."""
    done = detect("--verify", scan.with_name("results") / "sample-01" / "report.json", scan)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("Bit-identical")
    assert "summary.png" in done.stdout


def test_what_differs_ends_with_1_and_what_cannot_be_compared_with_2(scan: Path) -> None:
    """A tampered number is told; another model, or a report without its map, is refused in words."""
    folder = scan.with_name("results") / "sample-01"
    report = json.loads((folder / "report.json").read_bytes())
    report["core_estimate"]["value"] += 1
    (folder / "tampered-report.json").write_text(json.dumps(report))
    alone = detect("--verify", folder / "tampered-report.json", scan)
    assert (alone.returncode, alone.stdout) == (2, "")
    assert "tampered-saliency.nii.gz, beside its report" in alone.stderr
    (folder / "tampered-saliency.nii.gz").write_bytes((folder / "saliency.nii.gz").read_bytes())
    differs = detect("--verify", folder / "tampered-report.json", scan)
    assert differs.returncode == 1, differs.stderr
    assert "The number differs by 1." in differs.stdout
    report["model"]["sha256"] = "00" * 32
    (folder / "tampered-report.json").write_text(json.dumps(report))
    other = detect("--verify", folder / "tampered-report.json", scan)
    assert other.returncode == 2
    assert "Give the weights that made the report by --model." in other.stderr


def test_a_precision_that_the_model_does_not_have_is_said_and_not_reported(scan: Path) -> None:
    """The demonstration model has float32 alone: its report says float32, and is verified as that."""
    folder = scan.with_name("fast")
    done = detect(scan, "-o", folder, "--precision", "fast")
    assert done.returncode == 0, done.stderr
    assert "float32 instead of fast." in done.stderr
    report = folder / "sample-01" / "report.json"
    assert json.loads(report.read_bytes())["precision"] == "float32"
    again = detect("--verify", report, scan)
    assert again.returncode == 0, again.stdout + again.stderr


@needs_bfloat16
def test_a_report_is_verified_in_its_own_precision(tmp_path: Path) -> None:
    """Nobody has to ask for it again."""
    scan, model = aligned_volume("pseudo_cta"), ("--model", published_weights())
    done = detect(scan, "-o", tmp_path, "--precision", "fast", *model)
    assert done.returncode == 0, done.stderr
    report = tmp_path / "pseudo_cta" / "report.json"
    assert json.loads(report.read_bytes())["precision"] == "fast"
    again = detect("--verify", report, scan, *model)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.startswith("Bit-identical")
