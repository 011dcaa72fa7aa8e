"""Dead letters as JSON can say them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pipeline.streams import DeadLetter


def letter_document(letter: DeadLetter) -> dict[str, Any]:
    """Return a letter with every text in UTF-8; bytes that are no text become backslash escapes."""
    return {name: _sayable(value) for name, value in asdict(letter).items()}


def _sayable(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can say
    match value:
        case str():
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        case dict():
            return {_sayable(name): _sayable(each) for name, each in value.items()}
        case list() | tuple():
            return [_sayable(each) for each in value]
    return value
