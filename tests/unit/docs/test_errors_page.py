"""docs/errors.md lists what the code can answer."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = ("corestream", "ingest", "notifier", "pipeline", "processor", "viewer")
TAKE_A_CODE = {"file_invalid", "nifti_invalid"}


def codes_in(tree: ast.AST) -> Iterator[str]:
    """Yield every literal error code: `code="…"` of a call, and what those in `TAKE_A_CODE` take first."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        named = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
        if isinstance(call.func, ast.Name) and call.func.id in TAKE_A_CODE:
            named += call.args[:1]
        yield from (n.value for n in named if isinstance(n, ast.Constant) and isinstance(n.value, str))


def test_the_page_of_errors_lists_every_code_and_no_other() -> None:
    """Who scripts against a code finds it there; a code that is gone is gone there too."""
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    raised = {code for path in sources for code in codes_in(ast.parse(path.read_text(encoding="utf-8")))}
    listed = re.findall(r"^\| `([a-z0-9-]+)` \|", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    assert listed == sorted(raised)
