"""Run the upload service: `python -m ingest`."""

from ingest.app import main

main()
