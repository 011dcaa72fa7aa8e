"""Secrets come to commands by the environment or a file, never by their arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer.main

from corestream.__main__ import app

SECRET = re.compile("secret|token|password|api.?key")


def _options(command: Any) -> Iterator[str]:  # noqa: ANN401 - typer names no type for it
    for parameter in command.params:
        yield from parameter.opts
    for each in getattr(command, "commands", {}).values():
        yield from _options(each)


def test_no_option_takes_a_secret() -> None:
    """What stands on a command line is seen by every user of the machine (`ps`), and kept in histories."""
    options = set(_options(typer.main.get_command(app)))
    assert "--json" in options
    assert [option for option in sorted(options) if SECRET.search(option)] == []
