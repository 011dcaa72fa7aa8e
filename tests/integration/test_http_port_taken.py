"""An HTTP service whose port is somebody else's."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pipeline.service import CONFIGURATION_EXIT_STATUS
from tests.support.ended_service import ended_service


@pytest.mark.parametrize("service", ["ingest", "viewer"])
def test_a_service_says_in_words_that_its_port_is_taken(service: str, tmp_path: Path) -> None:
    """It names address and port and what to do, shows no traceback, and ends as over any wrong setting."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        settings = {
            "CORESTREAM_SECRET_KEY": "k" * 32,
            "CORESTREAM_DATA_DIR": str(tmp_path),
            # Nobody is asked there: the server ends before it needs Redis.
            "CORESTREAM_REDIS_URL": f"redis://127.0.0.1:{port}/0",
            f"CORESTREAM_{service.upper()}_PORT": str(port),
        }
        ended = ended_service(service, settings)
    assert ended.returncode == CONFIGURATION_EXIT_STATUS
    assert f"Expected to listen on 127.0.0.1, port {port}" in ended.stderr
    assert "choose another" in ended.stderr
    assert "Traceback" not in ended.stderr
