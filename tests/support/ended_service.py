"""A service that does not start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from tests.support.waiting import PATIENCE_S


def ended_service(name: str, settings: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a service that its settings keep from starting, and return how it ended and what it said."""
    return subprocess.run(
        [sys.executable, "-m", name],
        env=os.environ | settings,
        capture_output=True,
        check=False,
        text=True,
        timeout=PATIENCE_S,
    )
