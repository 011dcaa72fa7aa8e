"""What `corestream up` will run."""

from __future__ import annotations

import os
import socket
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import pytest

from corestream.up.plan import prepared
from tests.support.ports import free_ports


@pytest.mark.parametrize("taken", [False, True])
def test_mails_are_caught_beside_the_other_ports(tmp_path: Path, *, taken: bool) -> None:
    """One that the kernel chooses may be another program's before the catcher is there, or there again."""
    port, smtp_port = (first := free_ports(6)), first + 5
    other = socket.create_server(("127.0.0.1", smtp_port)) if taken else nullcontext()
    with patch.dict(os.environ), other:
        for name in [name for name in os.environ if name.startswith("CORESTREAM_")]:
            del os.environ[name]
        os.environ["CORESTREAM_REDIS_URL"] = "redis://127.0.0.1:1/0"
        with prepared(tmp_path, host="127.0.0.1", port=port, workers=1) as plan:
            (catcher,) = (service for service in plan.services if service.name == "mail-catcher")
        url = os.environ["CORESTREAM_SMTP_URL"]
    assert (url == f"smtp://127.0.0.1:{smtp_port}") is not taken
    assert url.rpartition(":")[2] in catcher.command
