"""Ports of 127.0.0.1 for servers that are started later, or more than once, on the same one."""

from __future__ import annotations

import itertools
import os
import random
import socket
from collections.abc import Iterator

_FIRST, _END = 20_000, 32_000
"""Below those that the kernel gives away by itself: a port stays free while its server is down."""
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_COUNT = (_END - _FIRST) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_OWN = range(_FIRST + _WORKER * _COUNT, _FIRST + (_WORKER + 1) * _COUNT)
"""Of this worker of pytest-xdist alone."""
_start = random.SystemRandom().randrange(_COUNT)  # another run on this machine begins elsewhere
_turn: Iterator[int] = itertools.cycle([*_OWN[_start:], *_OWN[:_start]])


def free_ports(count: int = 1) -> int:
    """Return the first of some consecutive ports that nobody listens on, and that were not given lately.

    Who asks the kernel for a free port and lets go of it, for a server that is yet to start, may lose it to
    whoever asks meanwhile. Each worker therefore takes from ports of its own, in turn.
    """
    for _ in range(_COUNT):
        ports = list(itertools.islice(_turn, count))
        if ports[-1] - ports[0] == count - 1 and all(map(_is_free, ports)):
            return ports[0]
    raise RuntimeError(f"Expected {count} free ports among {_OWN}, found none.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
