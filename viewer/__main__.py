"""Run the viewer: `python -m viewer`."""

from viewer.app import main

main()
