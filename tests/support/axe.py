"""axe-core's rules on a page that is open in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.async_api import Page

_AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"


async def findings(page: Page) -> list[str]:
    """Return what axe-core finds serious or critical: the rule, and where."""
    await page.evaluate(_AXE.read_text())
    result: dict[str, Any] = await page.evaluate("() => axe.run()")
    return [
        f"{found['id']}: {node['html']}"
        for found in result["violations"]
        if found["impact"] in {"serious", "critical"}
        for node in found["nodes"]
    ]
