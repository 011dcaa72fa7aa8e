"""Settings of the viewer."""

from __future__ import annotations

from pydantic import Field

from pipeline.settings import VIEWER_PORT, ServerSettings


class ViewerSettings(ServerSettings):
    """What the viewer needs beside what the services share; of that, neither Redis nor the lease."""

    viewer_port: int = Field(default=VIEWER_PORT, ge=1, le=65_535)
