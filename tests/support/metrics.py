"""Every metric that a service can export, without a service."""

from __future__ import annotations

from typing import Any, cast

from prometheus_client import CollectorRegistry

from pipeline.jobs import Jobs
from pipeline.keys import Keys
from pipeline.metrics import (
    DeliveryMetrics,
    HttpMetrics,
    InstallationMetrics,
    MailMetrics,
    ScanMetrics,
    UploadMetrics,
)
from pipeline.streams import connect


def every_metric() -> dict[Any, list[str]]:
    """Return the metrics of our own, each with the names of its samples."""
    registry = CollectorRegistry()
    for group in (HttpMetrics, UploadMetrics, ScanMetrics, MailMetrics):
        group(registry)
    DeliveryMetrics("", registry)
    InstallationMetrics(Jobs(connect("redis://"), Keys("")).read_streams, lambda: 0, registry)
    return cast("dict[Any, list[str]]", registry._collector_to_names)
