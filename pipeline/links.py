"""Signed, expiring links: the only way to see a job.

A token names one job and the instant it stops working. It is a pure function of those two and the
installation's key, so every service hands out the same link without asking another.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from itsdangerous import BadSignature, URLSafeSerializer

from pipeline.clock import now
from pipeline.errors import LinkExpiredError, LinkInvalidError


class Tokens:
    """Issues and reads the tokens of jobs."""

    def __init__(self, secret_key: str) -> None:
        self._serializer = URLSafeSerializer(
            secret_key,
            salt="corestream.job",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )

    def issue(self, job_id: str, expires_at: datetime) -> str:
        """Return the token of a job; URL-safe text."""
        return str(self._serializer.dumps([job_id, int(expires_at.timestamp())]))

    def read(self, token: str) -> str:
        """Return the id of the job a token names.

        Raises:
            LinkInvalidError: It was not signed with this installation's key.
            LinkExpiredError: It was, and its time is over.
        """
        try:
            job_id, expires_s = self._serializer.loads(token)
        except (BadSignature, UnicodeEncodeError) as error:  # a header's bytes that are no UTF-8
            raise LinkInvalidError(
                "Expected a link as this installation gives it out, received another. Copy the whole link "
                "from the mail or the reply to the submission."
            ) from error
        if now() >= datetime.fromtimestamp(expires_s, UTC):
            raise LinkExpiredError(
                "This link has expired, and what it led to is deleted after its retention time. "
                "Submit the scan again for a new result."
            )
        return str(job_id)


@dataclass(frozen=True)
class Links:
    """The addresses of one job, as they are given out: each carries its token and works from any machine."""

    public_url: str
    viewer_url: str
    job_id: str
    token: str

    @property
    def status(self) -> str:
        """The job as JSON."""
        return f"{self.public_url}/api/jobs/{self.job_id}?token={self.token}"

    @property
    def page(self) -> str:
        """The page that follows the job."""
        return f"{self.public_url}/jobs/{self.job_id}?token={self.token}"

    @property
    def result(self) -> str:
        """The result page; this one is mailed."""
        return f"{self.viewer_url}/r/{self.token}"

    @property
    def delete(self) -> str:
        """The page that asks whether to delete the job, and does it."""
        return f"{self.public_url}/jobs/{self.job_id}/delete?token={self.token}"

    def feedback(self, scan_id: str) -> str:
        """Where a reader's judgement of a scan's result is sent."""
        return f"{self.public_url}/api/jobs/{self.job_id}/scans/{scan_id}/feedback?token={self.token}"

    @property
    def archive(self) -> str:
        """All files of all scans as one zip."""
        return f"{self.result}/all.zip"

    @property
    def numbers(self) -> str:
        """The numbers of all scans as CSV."""
        return f"{self.result}/numbers.csv"

    def papaya(self, scan_id: str) -> str:
        """The interactive viewer of one scan."""
        return f"{self.result}/papaya/{scan_id}"

    def file(self, scan_id: str, name: str) -> str:
        """One file of a scan."""
        return f"{self.result}/files/{scan_id}/{name}"
