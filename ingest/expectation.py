"""`Expect: 100-continue`: who asks before sending a large body is answered once the door is open.

Left to itself aiohttp asks for the body before anything has been looked at.
"""

from __future__ import annotations

from aiohttp import web

_ASKS = "100-continue"


async def defer(_request: web.Request) -> None:
    """Leave the answer to the handler: the `expect_handler` of a route whose handler calls `go_on`."""


async def go_on(request: web.Request) -> None:
    """Ask for the body, if its sender waits for that."""
    if request.headers.get("Expect", "").lower() == _ASKS:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # of the answer itself nothing has been sent
