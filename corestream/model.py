"""`corestream model`: which networks there are, what is known of them, how to get them."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from corestream.console import ExitStatus, err, fail, out
from corestream.detect import DEFAULT_MODEL_DIR, ModelDirOption
from corestream.download import DownloadError, download
from pipeline.errors import ConfigurationError

model = typer.Typer(help="The networks: which there are, what is known of them, how to get them.")
NameArgument = Annotated[str, typer.Argument(help="As `corestream model list` has it.")]

_MAX_WEIGHTS_BYTES = 64 * 1024 * 1024
