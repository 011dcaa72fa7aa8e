"""Ingest with a sweep more often than once a minute: `python -m tests.support.chaos.quick_sweep SECONDS`."""

from __future__ import annotations

import sys

from ingest.app import build
from ingest.settings import IngestSettings
from pipeline import logging
from pipeline.settings import load
from pipeline.web.app import run


def main(sweep_every_s: float) -> None:
    """Run the upload service from the environment until it is told to stop."""
    settings = load(IngestSettings)
    logging.configure("ingest", settings.log_format)
    run(build(settings, sweep_every_s=sweep_every_s), host=settings.host, port=settings.ingest_port)


if __name__ == "__main__":
    main(float(sys.argv[1]))
