"""Run the notifier: `python -m notifier`."""

from notifier.worker import main

main()
