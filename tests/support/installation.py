"""A whole corestream for a test: `corestream up` as a user starts it, on free ports, in its own folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_ports
from tests.support.waiting import NETWORK_PATIENCE_S


@dataclass(frozen=True)
class Installation:
    """Where a running installation is."""

    process: subprocess.Popen[bytes]
    url: str
    viewer_url: str
    data_dir: Path
    redis_url: str
    log: Path


@contextmanager
def running_installation(
    folder: Path, *, redis_url: str, workers: int = 1, **settings: str
) -> Iterator[Installation]:
    """Run `corestream up` until the block ends; it must then end by itself after SIGTERM.

    Args:
        folder: For its data and its log.
        redis_url: Of a Redis that is running.
        workers: Processors.
        settings: Environment, without the prefix `CORESTREAM_`.
    """
    port = free_ports(5 + workers)  # pages, metrics of notifier and processors, mails
    log = folder / "up.log"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CORESTREAM_")}
    environment |= {f"CORESTREAM_{name}": value for name, value in settings.items()}
    environment["CORESTREAM_REDIS_URL"] = redis_url
    command = [sys.executable, "-m", "corestream", "up", "--data", str(folder / "data")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--workers", str(workers)],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    installation = Installation(
        process,
        url=f"http://127.0.0.1:{port}",
        viewer_url=f"http://127.0.0.1:{port + 1}",
        data_dir=folder / "data",
        redis_url=redis_url,
        log=log,
    )
    try:
        _wait_until_ready(installation)
        yield installation
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(NETWORK_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def _wait_until_ready(installation: Installation) -> None:
    deadline = time.monotonic() + NETWORK_PATIENCE_S
    for url in (installation.url, installation.viewer_url):
        while not _answers(f"{url}/readyz"):
            if installation.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"corestream up is not ready:\n{installation.log.read_text()}")
            time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - an address of our own
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
