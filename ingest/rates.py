"""How often one address may begin to send: a token bucket for each, in this process.

It keeps one runaway script from filling line and disk before anybody looks. Whoever commands many addresses
is a matter for the proxy in front; several processes each count for themselves.
"""

from __future__ import annotations

import ipaddress
import math
import time
from dataclasses import dataclass, field

from aiohttp import web

from pipeline.web.problems import ProblemError

_MINUTE_S = 60.0
_MANY = 10_000
"""Buckets; beyond them those that are full again are forgotten."""


@dataclass
class Rates:
    """Counts submissions and announced uploads, which are what costs.

    Attributes:
        per_minute: For each address, and as many at once.
        trusted_proxies: Addresses and networks whose `X-Forwarded-For` is believed, separated by commas.
    """

    per_minute: int
    trusted_proxies: str
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)
    """By address: tokens, and when they were counted (monotonic seconds)."""

    def __post_init__(self) -> None:
        """Read the list of proxies."""
        names = filter(None, map(str.strip, self.trusted_proxies.split(",")))
        self._proxies = [ipaddress.ip_network(name, strict=False) for name in names]

    def require(self, request: web.Request) -> None:
        """Take a token of the sender's bucket.

        Raises:
            ProblemError: It is empty.
        """
        address, at_s = self._address(request), time.monotonic()
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
        if len(self._buckets) >= _MANY:
            self._buckets = {
                a: b for a, b in self._buckets.items() if self._tokens(a, at_s) < self.per_minute
            }
        self._buckets[address] = (tokens - 1, at_s)

    def _tokens(self, address: str, at_s: float) -> float:
        tokens, counted_at_s = self._buckets.get(address, (float(self.per_minute), at_s))
        return min(self.per_minute, tokens + (at_s - counted_at_s) * self.per_minute / _MINUTE_S)

    def _address(self, request: web.Request) -> str:
        """Return who sends: the last address that a trusted proxy has added, else the connection's."""
        peer = request.remote or ""
        forwarded = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
        return forwarded if forwarded and self._is_trusted(peer) else peer

    def _is_trusted(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:  # a Unix socket has none
            return False
        return any(address in network for network in self._proxies)
