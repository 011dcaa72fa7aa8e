"""How long to wait before trying again."""

from __future__ import annotations

import random


class Backoff:
    """Exponential delays with jitter, so that consumers that failed together do not return together.

    Args:
        first_s: The first delay.
        cap_s: No delay is longer.
    """

    def __init__(self, first_s: float = 0.05, cap_s: float = 5.0) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._failures = 0

    def next(self) -> float:
        """Return the next delay in seconds: between half of and the whole exponential step."""
        step_s = delay_s(self._failures, self._first_s, self._cap_s)
        self._failures += 1
        return step_s * random.uniform(0.5, 1.0)  # noqa: S311 (jitter, not a secret)

    def reset(self) -> None:
        """Begin again after a success."""
        self._failures = 0


def delay_s(failures: int, first_s: float, cap_s: float) -> float:
    """Return `first_s` doubled once a failure, at most `cap_s`."""
    return min(cap_s, first_s * 2.0 ** min(failures, 32))
