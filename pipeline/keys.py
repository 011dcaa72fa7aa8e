"""The names of everything the pipeline keeps in Redis."""

from __future__ import annotations

from dataclasses import dataclass

PROCESSORS = "processors"
"""The consumer group that reads `Keys.scans`."""
NOTIFIERS = "notifiers"
"""The consumer group that reads `Keys.results`."""


@dataclass(frozen=True)
class Keys:
    """Every Redis key, under one prefix, so that several installations can share a server."""

    prefix: str

    @property
    def scans(self) -> str:
        """Stream of `scan.uploaded`: scans that wait or are being processed, nothing else."""
        return f"{self.prefix}scans"

    @property
    def results(self) -> str:
        """Stream of `scan.processed`, `scan.failed` and `job.finished`."""
        return f"{self.prefix}results"

    @property
    def dead(self) -> str:
        """Stream of the entries that were given up, with the reason."""
        return f"{self.prefix}dead"

    @property
    def workers(self) -> str:
        """Sorted set of the workers, by when each was last heard of."""
        return f"{self.prefix}workers"

    @property
    def line(self) -> str:
        """Hash of two numbers: of the scan that joined the line last, and of the last that was started."""
        return f"{self.prefix}line"

    def job(self, job_id: str) -> str:
        """Hash of one job's state."""
        return f"{self.prefix}job:{job_id}"

    def timeline(self, job_id: str) -> str:
        """Stream of what happened to one job, oldest first."""
        return f"{self.prefix}job:{job_id}:timeline"
