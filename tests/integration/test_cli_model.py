"""`corestream model`, as a user calls it."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.ports import free_ports
from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """A web server with a file that is not the published one."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / "weights.hdf5").write_bytes(b"other weights")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/weights.hdf5"
        server.shutdown()


def model(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `corestream model …`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CORESTREAM_")}
    return subprocess.run(
        [sys.executable, "-m", "corestream", "model", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_weights_that_are_not_the_published_ones_are_thrown_away(mirror: str, tmp_path: Path) -> None:
    """Whoever serves them: they are known by their hash."""
    models = tmp_path / "models"
    refused = model("fetch", "giancardo2020", "--model-dir", str(models), "--url", mirror)
    assert refused.returncode == 1
    assert "Expected a file with SHA-256 fb8e3fdd" in refused.stderr
    assert list(models.iterdir()) == []


def test_without_a_network_the_user_hears_how_to_go_on(tmp_path: Path) -> None:
    """Hospitals are offline."""
    url = f"http://127.0.0.1:{free_ports()}/weights.hdf5"
    refused = model("fetch", "giancardo2020", "--model-dir", str(tmp_path), "--url", url)
    assert refused.returncode == 1
    assert "give its path as the model" in refused.stderr


def test_a_model_that_is_not_here_is_listed_with_how_to_get_it(tmp_path: Path) -> None:
    """The list says what there could be, not only what there is."""
    listed = model("list", "--model-dir", str(tmp_path))
    assert listed.returncode == 0
    assert "corestream model fetch giancardo2020" in listed.stdout
    shown = model("show", "giancardo2020", "--model-dir", str(tmp_path))
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "corestream model fetch giancardo2020" in shown.stderr


def test_any_file_of_weights_is_a_model_of_which_nothing_is_claimed(tmp_path: Path) -> None:
    """A name does not make weights what it says."""
    weights = tmp_path / "giancardo2020.hdf5"
    weights.write_bytes(b"weights")
    shown = model("show", str(weights))
    assert shown.returncode == 0
    assert "custom" in shown.stdout
    assert "Nothing is known" in shown.stdout


def test_only_what_can_be_fetched_is_fetched() -> None:
    """A wrong name is a wrong call, not a failed download."""
    assert model("fetch", "resnet").returncode == 2
    assert "nothing to fetch" in model("fetch", "demo").stdout
