"""Settings of the viewer."""

from __future__ import annotations

from pydantic import Field

from pipeline.settings import VIEWER_PORT, PipelineSettings


class ViewerSettings(PipelineSettings):
    """What the viewer needs beside what the services share; of that, neither Redis nor the lease."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    viewer_port: int = Field(default=VIEWER_PORT, ge=1, le=65_535)
