"""The log is no place for what a frame holds: tokens, addresses, names of files."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import structlog
from pipeline import logging

logging.configure("ingest", FORMAT)

def open_link(token):
    raise ValueError("broken")

try:
    open_link("hunter2")
except ValueError:
    structlog.get_logger().exception("http.failed", route="/r/{token}")
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_no_values(log_format: str) -> None:
    """Where it broke can be read, what was passed there cannot; standard output stays free for results."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("FORMAT", repr(log_format))],
        capture_output=True,
        check=True,
        text=True,
    )
    assert "open_link" in ended.stderr
    assert "ValueError" in ended.stderr
    assert "hunter2" not in ended.stderr
    assert ended.stdout == ""


def test_off_a_terminal_a_record_is_a_line_of_json() -> None:
    """With service, level, time and event, so that any collector reads it."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("FORMAT", "None")], capture_output=True, check=True, text=True
    )
    record = json.loads(ended.stderr)
    assert record["event"] == "http.failed"
    assert (record["service"], record["level"], record["route"]) == ("ingest", "error", "/r/{token}")
    assert record["timestamp"].endswith("Z")
