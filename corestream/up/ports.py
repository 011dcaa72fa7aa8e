"""TCP ports: whether one can be had, and one that nobody has."""

from __future__ import annotations

import errno
import os
import socket

from pipeline.errors import CorestreamError


class PortUnavailableError(CorestreamError):
    """Raised when an address cannot be listened on; says what to do."""


def require_port(host: str, port: int, purpose: str) -> None:
    """Make sure that an address can be listened on.

    Args:
        host: Name or address of this machine.
        port: TCP port.
        purpose: Who is to listen there, for the message.

    Raises:
        PortUnavailableError: It cannot.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: a port whose last connections are only winding up is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            what = "another program listens there. Stop it, or choose other ports with --port"
        else:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            what = f"{reason}. Choose another address with --host, or another port with --port"
        raise PortUnavailableError(
            f"Expected to listen on {host}:{port} for the {purpose}, but {what}."
        ) from error


def free_ports(count: int = 1, *, first: int | None = None) -> int:
    """Return the first of some consecutive ports of 127.0.0.1 that nobody listens on.

    Args:
        count: How many.
        first: Taken if it and those after it are free.
    """
    while True:
        port = _any_free_port() if first is None else first
        first = None
        try:
            for offset in range(count):
                require_port("127.0.0.1", port + offset, "search")
        except PortUnavailableError:
            continue
        return port


def _any_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
