"""The command line: puts the services together. Nothing imports it."""
