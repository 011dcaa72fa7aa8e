"""Ports and addresses of `corestream up`."""

from __future__ import annotations

import socket

import pytest

from corestream.up.ports import PortUnavailableError, free_ports, require_port
from tests.support import ports


def test_a_taken_port_is_named_with_its_purpose_and_what_to_do() -> None:
    """Nothing is started on a machine where it could not listen."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortUnavailableError, match=rf"127\.0\.0\.1:{port} for the viewer.*--port"):
            require_port("127.0.0.1", port, "viewer")


def test_a_free_port_can_be_listened_on() -> None:
    """What `free_ports` gives is free."""
    require_port("127.0.0.1", free_ports(), "viewer")


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_refused_in_words(host: str) -> None:
    """The message names the option that is wrong."""
    with pytest.raises(PortUnavailableError, match="--host"):
        require_port(host, 7605, "upload page")


def test_the_usual_ports_are_taken_where_they_are_free() -> None:
    """A demo beside a running installation takes others, in a row."""
    usual = ports.free_ports(3)
    assert free_ports(3, first=usual) == usual
    with socket.create_server(("127.0.0.1", usual + 2)):
        others = free_ports(3, first=usual)
    assert others + 2 < usual or others > usual + 2
