"""One address may begin so much and no more; who waits as long as told may go on."""

from __future__ import annotations

import time

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from ingest import rates as module
from ingest.rates import Rates
from pipeline.web.problems import ProblemError
from pipeline.web.sender import Proxies


class Transport:
    """As much of a connection as tells its other end."""

    def __init__(self, peer: str) -> None:
        self._peer = peer

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return the address of the other end."""
        return (self._peer, 1) if name == "peername" else default


def request(peer: str, forwarded: str | None = None) -> web.Request:
    """Return a request from an address, perhaps through a proxy."""
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    return make_mocked_request("POST", "/api/jobs", headers=headers, transport=Transport(peer))


def test_an_address_that_begins_too_often_is_told_when_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """429 with Retry-After, and that is true; others are not held up."""
    clock_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: clock_s)
    rates = Rates(30, Proxies(""))
    for _ in range(30):
        rates.require(request("10.0.0.1"))
    with pytest.raises(ProblemError) as caught:
        rates.require(request("10.0.0.1"))
    assert (caught.value.status, caught.value.code) == (429, "too-many-requests")
    rates.require(request("10.0.0.2"))
    clock_s += float(caught.value.headers["Retry-After"])
    rates.require(request("10.0.0.1"))
    with pytest.raises(ProblemError):
        rates.require(request("10.0.0.1"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "told_apart"),
    [
        ("127.0.0.1", "10.0.0.%d", True),
        ("192.168.7.9", "spoofed, 10.0.0.%d", True),
        ("192.168.8.9", "10.0.0.%d", False),
        ("127.0.0.1", None, False),
    ],
    ids=["behind this machine's proxy", "behind a proxy of the network", "behind nobody's", "no proxy"],
)
def test_who_is_behind_a_trusted_proxy_is_told_apart(
    peer: str, forwarded: str | None, *, told_apart: bool
) -> None:
    """What others say of where they come from is not believed."""
    rates = Rates(1, Proxies("127.0.0.1, 192.168.7.0/24"))
    rates.require(request(peer, forwarded and forwarded.replace("%d", "1")))
    second = request(peer, forwarded and forwarded.replace("%d", "2"))
    if told_apart:
        rates.require(second)
    else:
        with pytest.raises(ProblemError):
            rates.require(second)


def test_any_number_of_addresses_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even at one instant; who has been silent longest is forgotten, and who goes on is not."""
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    monkeypatch.setattr(module, "_MANY", 100)
    rates = Rates(10, Proxies(""))
    for number in range(300):
        rates.require(request(f"10.0.{number >> 8}.{number & 255}"))
        if number % 30 == 0:
            rates.require(request("192.0.2.1"))
    assert len(rates._buckets) <= 100
    with pytest.raises(ProblemError):
        rates.require(request("192.0.2.1"))
