"""docs/detection.md names every column of numbers.csv."""

from __future__ import annotations

import re
from pathlib import Path

from viewer.numbers import COLUMNS

PAGE = (Path(__file__).resolve().parents[3] / "docs/detection.md").read_text()


def test_every_column_is_explained_and_no_other() -> None:
    """Who opens the table a year later finds what its numbers are."""
    _, _, section = PAGE.partition("`numbers.csv`\n")
    table, _, _ = section.partition("\n## ")
    named = [
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    ]
    assert sorted(named) == sorted(COLUMNS)
