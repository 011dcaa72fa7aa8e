"""An installation as its operator sees it: its Redis and its files, without the services."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict

from corestream.console import ExitStatus, fail
from pipeline.errors import ConfigurationError
from pipeline.jobs import Jobs
from pipeline.settings import PREFIX, PipelineSettings, load
from pipeline.storage import Storage
from pipeline.streams import DeadLetters, RedisError, connect

DataOption = Annotated[
    Path,
    typer.Option(
        envvar="CORESTREAM_DATA_DIR",
        help="Where its files are, and where the Redis of `corestream up` listens unless "
        "CORESTREAM_REDIS_URL names one.",
    ),
]
DEFAULT_DATA = Path("data")
T = TypeVar("T")


class _Settings(PipelineSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True)

    secret_key: SecretStr = SecretStr("")
    """Nothing is signed here."""


@dataclass(frozen=True)
class Installation:
    """What an operator looks at.

    Attributes:
        storage: Where jobs lie.
        jobs: State of jobs.
        dead: What was given up.
    """

    storage: Storage
    jobs: Jobs
    dead: DeadLetters


def on_installation(data: Path, work: Callable[[Installation], Awaitable[T]]) -> T:
    """Return what `work` returns, or end the command with words where settings or Redis are not there.

    Args:
        data: The installation's folder.
        work: Is given the installation.
    """
    try:
        settings = load(_Settings)
    except ConfigurationError as error:
        fail(str(error), ExitStatus.USAGE)
    url = settings.redis_url if os.environ.get(f"{PREFIX}REDIS_URL") else _own_redis(data)

    async def run() -> T:
        client = connect(url)
        try:
            keys = settings.keys
            return await work(Installation(Storage(data), Jobs(client, keys), DeadLetters(client, keys.dead)))
        finally:
            await client.aclose()

    try:
        return asyncio.run(run())
    except (RedisError, OSError) as error:
        fail(
            f"Expected the installation's Redis, but: {error}. Start it, or correct CORESTREAM_REDIS_URL.",
            ExitStatus.USAGE,
        )


def _own_redis(data: Path) -> str:
    socket = data.absolute() / "redis" / "redis.sock"
    if not socket.exists():
        fail(
            f"Expected a running `corestream up` with its Redis at {socket}, found none. Name its folder "
            "with --data, or the server with CORESTREAM_REDIS_URL (`corestream up` prints its address).",
            ExitStatus.USAGE,
        )
    return f"unix://{socket}"
