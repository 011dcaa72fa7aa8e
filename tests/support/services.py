"""The services and their settings."""

from __future__ import annotations

from ingest.settings import IngestSettings
from notifier.settings import NotifierSettings
from pipeline.settings import PipelineSettings
from processor.settings import ProcessorSettings
from viewer.settings import ViewerSettings

SETTINGS: dict[str, type[PipelineSettings]] = {
    "ingest": IngestSettings,
    "processor": ProcessorSettings,
    "notifier": NotifierSettings,
    "viewer": ViewerSettings,
}
"""What each service reads from its environment."""
