"""What a consumer tells of its deliveries: one log line each, and whatever else observers make of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import structlog

from pipeline.streams.delivery import Delivery

log = structlog.get_logger()

Outcome = Literal["finished", "handed_back", "dead", "lost", "unconfirmed", "abandoned"]
"""What became of a delivery.

`finished`, `handed_back`, `dead`: done. `lost`: the entry is another consumer's or gone, nothing was written.
`unconfirmed`: one of these, but Redis went away before it said which. `abandoned`: Redis could not be told;
the entry is redelivered when its lease is over.
"""


@dataclass(frozen=True)
class Delivered:
    """An entry has come into a consumer's hands; an `Ended` follows unless the process is killed.

    Attributes:
        delivery: The entry, how often it has been delivered, and where it came from (`Delivery.source`).
    """

    delivery: Delivery


@dataclass(frozen=True)
class Ended:
    """A delivery has come to its end.

    Attributes:
        delivery: What ended.
        outcome: How.
        seconds: Since it was delivered.
        details: What else the log line says: `error`, `retry_in_s`, or the outcome that was `attempted`.
    """

    delivery: Delivery
    outcome: Outcome
    seconds: float
    details: Mapping[str, object] = field(default_factory=dict)


Observation = Delivered | Ended
Observer = Callable[[Observation], None]
"""Is called in the consumer's event loop, so it must return at once; what it raises is logged, no more."""


def log_ended(observation: Observation) -> None:
    """Write the canonical log line of a delivery: one for each, when it ends."""
    if not isinstance(observation, Ended):
        return
    emit = log.info if observation.outcome == "finished" else log.warning
    emit(
        "delivery.ended",
        outcome=observation.outcome,
        stream=observation.delivery.stream,
        source=observation.delivery.source,
        deliveries=observation.delivery.count,
        seconds=round(observation.seconds, 3),
        **observation.details,
    )


def tell(observers: tuple[Observer, ...], observation: Observation) -> None:
    """Tell every observer; none can stop a delivery."""
    for observer in observers:
        try:
            observer(observation)
        except Exception:
            log.exception("delivery.observer_failed")
