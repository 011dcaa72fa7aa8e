"""Instants as the contract writes them: RFC 3339, UTC, milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AwareDatetime, PlainSerializer


def now() -> datetime:
    """Return the present, UTC, whole milliseconds, so that it survives being written and read back."""
    instant = datetime.now(UTC)
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def to_text(instant: datetime) -> str:
    """Write an instant like `2026-11-22T18:43:27.123Z`."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def of_entry(entry_id: str) -> datetime:
    """Return when Redis took a stream entry, which its id says: `<ms since 1970>-<n>`."""
    return datetime.fromtimestamp(int(entry_id.partition("-")[0]) / 1000, UTC)


Instant = Annotated[AwareDatetime, PlainSerializer(to_text)]
"""A pydantic field type that reads any RFC 3339 instant and writes the contract's form."""
