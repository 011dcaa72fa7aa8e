"""How often one address may begin to send: a token bucket for each, in this process.

It keeps one runaway script from filling line and disk before anybody looks. Whoever commands many addresses
is a matter for the proxy in front; several processes each count for themselves.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from aiohttp import web

from pipeline.web.problems import ProblemError
from pipeline.web.sender import Proxies

_MINUTE_S = 60.0
_MANY = 10_000
"""Buckets; beyond them that of whoever has been silent longest is forgotten."""


@dataclass
class Rates:
    """Counts submissions and announced uploads, which are what costs.

    Attributes:
        per_minute: For each address, and as many at once.
        proxies: Tell who sends.
    """

    per_minute: int
    proxies: Proxies
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)
    """By address, latest last: tokens, and when they were counted (monotonic seconds)."""

    def require(self, request: web.Request) -> None:
        """Take a token of the sender's bucket.

        Raises:
            ProblemError: It is empty.
        """
        address, at_s = self.proxies.sender(request), time.monotonic()
        tokens = self._tokens(address, at_s)
        if tokens < 1:
            wait_s = math.ceil((1 - tokens) * _MINUTE_S / self.per_minute)
            raise ProblemError(
                status=429,
                code="too-many-requests",
                title="Too many at once",
                detail=f"Expected at most {self.per_minute:,} submissions and uploads a minute from one "
                f"address, received more. Go on in {wait_s} s.",
                headers={"Retry-After": str(wait_s)},
            )
        self._buckets.pop(address, None)
        if len(self._buckets) >= _MANY:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[address] = (tokens - 1, at_s)

    def _tokens(self, address: str, at_s: float) -> float:
        tokens, counted_at_s = self._buckets.get(address, (float(self.per_minute), at_s))
        return min(self.per_minute, tokens + (at_s - counted_at_s) * self.per_minute / _MINUTE_S)
