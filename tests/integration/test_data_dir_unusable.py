"""A service whose DATA_DIR cannot be a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.service import CONFIGURATION_EXIT_STATUS
from tests.support.ended_service import ended_service


@pytest.mark.parametrize("service", ["ingest", "processor"])
def test_a_service_says_in_words_that_its_folder_cannot_be_used(service: str, tmp_path: Path) -> None:
    """It names the variable and what to do, shows no traceback, and ends as over any wrong setting."""
    (tmp_path / "file").touch()
    settings = {
        "CORESTREAM_SECRET_KEY": "k" * 32,
        "CORESTREAM_DATA_DIR": str(tmp_path / "file" / "data"),
        "CORESTREAM_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    ended = ended_service(service, settings)
    assert ended.returncode == CONFIGURATION_EXIT_STATUS
    assert "CORESTREAM_DATA_DIR is" in ended.stderr
    assert "Name another" in ended.stderr
    assert "Traceback" not in ended.stderr
