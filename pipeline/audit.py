"""The audit log: who did what with which job, and how it ended.

    audit/audit.jsonl     one line for each submission, view, download and deletion, refused ones too

Append-only: the services only ever add to it, and it is not deleted with the jobs it tells of. It holds no
name, no e-mail address and no token. The network address of whoever asked stands in it as a keyed hash, so
that lines of one address can be told to be so, and whoever has SECRET_KEY can look for an address, while the
file alone gives none away.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Literal

import structlog
from pydantic import BaseModel, ConfigDict

from pipeline.clock import Instant, now
from pipeline.files import append_line
from pipeline.ids import Id

log = structlog.get_logger()

Action = Literal["submit", "view", "download", "delete"]
FILE = "audit.jsonl"
_HASH_DIGITS = 16
"""Of hexadecimal: enough that two addresses of one installation never share a hash by chance."""


class AuditLine(BaseModel):
    """One thing that was done or refused.

    Attributes:
        at: When.
        action: What was asked for.
        outcome: `ok`, `expired` for a deletion by the clock, or the code of the problem it was answered with.
        job_id: The job, where the request was let through to one.
        scan_id: The scan, where one was asked for.
        address: Keyed hash of the network address that asked; None where it was no request but
            the clock or the drop folder.
        api_key: Name of the API key it came with.
    """

    model_config = ConfigDict(frozen=True)

    at: Instant
    action: Action
    outcome: str
    job_id: Id | None = None
    scan_id: Id | None = None
    address: str | None = None
    api_key: str | None = None


class AuditLog:
    """Appends to the audit log of an installation.

    Args:
        folder: Where it lies; exists.
        secret: The installation's key.
    """

    def __init__(self, folder: Path, secret: str) -> None:
        self._path = folder / FILE
        self._secret = secret.encode()

    def write(
        self,
        action: Action,
        outcome: str,
        *,
        job_id: str | None = None,
        scan_id: str | None = None,
        address: str | None = None,
        api_key: str | None = None,
    ) -> None:
        """Append a line. A disk that refuses is an error in the log of the service, not of the request.

        Args:
            action: What was asked for.
            outcome: How it ended.
            job_id: Of which job.
            scan_id: Of which scan.
            address: Network address of whoever asked, in the clear.
            api_key: Name of the key it came with.
        """
        line = AuditLine(
            at=now(),
            action=action,
            outcome=outcome,
            job_id=job_id,
            scan_id=scan_id,
            address=self.address_hash(address) if address else None,
            api_key=api_key,
        )
        try:
            append_line(self._path, line)
        except OSError:
            log.exception("audit.not_written", action=action, outcome=outcome, job_id=job_id)

    def address_hash(self, address: str) -> str:
        """Return how a network address stands in the log."""
        digest = hmac.new(self._secret, f"audit address {address}".encode(), hashlib.sha256)
        return digest.hexdigest()[:_HASH_DIGITS]
