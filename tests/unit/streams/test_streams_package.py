"""What the stream runtime promises without a server."""

from __future__ import annotations

import ast
import asyncio
import re
import sys
from pathlib import Path

import pytest
from redis.exceptions import (
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

import pipeline.streams
from pipeline.streams import connect
from pipeline.streams.backoff import Backoff, delay_s
from pipeline.streams.client import BLOCK_MS, is_unavailable
from pipeline.streams.reader import _entries

ROOT = Path(__file__).parents[3]
PACKAGE = Path(pipeline.streams.__file__).parent


def test_the_package_can_be_lifted_out() -> None:
    """It imports nothing of the project but itself, and the standard library, redis and structlog."""
    imported = set()
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
    others = {name for name in imported if not name.startswith("pipeline.streams.")}
    assert {name.split(".")[0] for name in others} - sys.stdlib_module_names == {"redis", "structlog"}


def test_every_module_is_introduced() -> None:
    """The package's docstring says what each of its files is for; who lifts it out reads that first."""
    introduced = re.findall(r" (\w+\.py) {2,}\S", pipeline.streams.__doc__ or "")
    assert sorted(introduced) == sorted(path.name for path in PACKAGE.glob("[!_]*.py"))


def test_every_rule_has_one_test_that_carries_its_number() -> None:
    """The package's docstring lists what holds; who reads a line finds its proof by its number."""
    listed = [
        int(number) for number in re.findall(r"^ ?(\d+)\. ", pipeline.streams.__doc__ or "", re.MULTILINE)
    ]
    tested = []
    for path in (ROOT / "tests" / "integration").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                tested += re.findall(r"^Rule (\d+): ", ast.get_docstring(node) or "")
    assert listed == list(range(1, 25))
    assert sorted(int(number) for number in tested) == listed


async def test_connecting_does_not_connect() -> None:
    """Nothing speaks to Redis before the first command; then a refusal comes at once, not after retries."""
    client = connect("redis://127.0.0.1:1/0")
    started = asyncio.get_running_loop().time()
    with pytest.raises(RedisConnectionError):
        await client.ping()
    assert asyncio.get_running_loop().time() - started < 1
    await client.aclose()


async def test_a_blocked_read_is_shorter_than_the_sockets_patience() -> None:
    """Otherwise a quiet stream would look like a dead server."""
    client = connect("redis://127.0.0.1:1/0")
    assert client.connection_pool.connection_kwargs["socket_timeout"] > 2 * BLOCK_MS / 1000
    await client.aclose()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RedisConnectionError("refused"), True),
        (RedisTimeoutError("slow"), True),
        (BusyLoadingError("loading"), True),
        (ReadOnlyError("a replica"), True),
        (OutOfMemoryError("full"), True),
        (ResponseError("MISCONF Errors writing to the AOF file: No space left on device"), True),
        (ResponseError("ERR Error running script: @user_script: -OOM command not allowed"), True),
        (ResponseError("NOGROUP No such key"), False),
        (ResponseError("WRONGTYPE Operation against a key"), False),
        (NoPermissionError("this user has no permissions"), False),
        (FileNotFoundError("scan.nii.gz"), False),
        (ValueError("a bug"), False),
    ],
)
def test_an_outage_is_told_from_a_mistake(error: Exception, *, expected: bool) -> None:
    """Only what may work later without a change is worth waiting for."""
    assert is_unavailable(error) is expected


@pytest.mark.parametrize(
    "reply",
    [
        [["work", [("1-0", {"a": "1"}), ("2-0", {"a": "2"})]]],
        {"work": [[("1-0", {"a": "1"}), ("2-0", {"a": "2"})]]},
        {"work": [("1-0", {"a": "1"}), ("2-0", {"a": "2"})]},
    ],
)
def test_every_shape_of_a_read_is_understood(reply: object) -> None:
    """redis-py answers XREADGROUP in three shapes, by protocol and version."""
    assert list(_entries(reply)) == [("1-0", {"a": "1"}), ("2-0", {"a": "2"})]


@pytest.mark.parametrize("reply", [[], {}])
def test_an_empty_read_has_no_entries(reply: object) -> None:
    """A blocked read that ran out of time."""
    assert list(_entries(reply)) == []


def test_delays_double_up_to_their_cap_and_begin_again() -> None:
    """Between half of and the whole step, so that consumers that failed together come back apart."""
    backoff = Backoff(first_s=1, cap_s=8)
    for step_s in (1, 2, 4, 8, 8):
        assert step_s / 2 <= backoff.next() <= step_s
    backoff.reset()
    assert backoff.next() <= 1
    assert delay_s(10_000, 1, 8) == 8
