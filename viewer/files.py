"""The files of a result, with range requests, ETags and names that tell nothing of the patient."""

from __future__ import annotations

import structlog
from aiohttp import web

from viewer.access import Access

log = structlog.get_logger()

# Volumes are sent as gzip files, not as a gzip encoding of something else: a browser that unpacked them on
# the way would save a file whose name lies.
_CONTENT_TYPES = {".gz": "application/gzip", ".png": "image/png", ".json": "application/json"}
_SHOWN_BY_BROWSERS = {".png", ".json"}


class Files:
    """Serves the files of results.

    Args:
        access: What a request may see.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer with a file, whole or in part."""
        path = self._access.file(request)
        scan_id = request.match_info["scan_id"]
        log.info("result.file_opened", scan_id=scan_id, name=path.name, method=request.method)
        disposition = "inline" if path.suffix in _SHOWN_BY_BROWSERS else "attachment"
        return web.FileResponse(
            path,
            headers={
                "Content-Type": _CONTENT_TYPES[path.suffix],
                "Content-Disposition": f'{disposition}; filename="corestream-{scan_id[:8]}-{path.name}"',
            },
        )
