"""One entry in the hands of one consumer, and why an entry is given up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Source = Literal["new", "handed_back", "reclaimed", "recovered"]
"""Where a delivery came from: the stream; a consumer that gave it up; one that fell silent for a lease; the
consumer itself, which never saw the reply that delivered it."""


@dataclass(frozen=True)
class Delivery:
    """One start of one entry.

    Attributes:
        stream: The stream the entry lives in.
        group: The consumer group it was delivered to.
        consumer: The consumer that holds it.
        entry_id: The id Redis gave it, `<ms>-<n>`; the same at every delivery.
        fields: What the producer wrote. Bytes that are not UTF-8 appear as lone surrogates (PEP 383).
        count: How often the entry was delivered, this time included: 1 is the first.
        source: Where it came from.
    """

    stream: str
    group: str
    consumer: str
    entry_id: str
    fields: Mapping[str, str]
    count: int
    source: Source = field(default="new", compare=False)


@dataclass(frozen=True)
class Reason:
    """Why an entry is dead-lettered.

    Attributes:
        error: One line for people; stored with the dead letter.
        starts: How often the entry was started.
        cause: What the handler raised, or None when it never came to an end (its process was killed).
    """

    error: str
    starts: int
    cause: Exception | None = None
