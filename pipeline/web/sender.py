"""Who sends a request, where a reverse proxy stands in front."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # settings come here, also in processes that serve nothing
    from aiohttp import web


class Proxies:
    """The proxies that are believed about whom they speak for.

    Args:
        names: Addresses and networks, separated by commas.

    Raises:
        ValueError: One of them is none.
    """

    def __init__(self, names: str) -> None:
        listed = filter(None, map(str.strip, names.split(",")))
        self._networks = [ipaddress.ip_network(name, strict=False) for name in listed]

    def sender(self, request: web.Request) -> str:
        """Return the last address that a trusted proxy has added, else the connection's, if it has one."""
        peer = request.remote or ""
        forwarded = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
        return forwarded if forwarded and self._is_trusted(peer) else peer

    def _is_trusted(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:  # a Unix socket has none
            return False
        return any(address in network for network in self._networks)
