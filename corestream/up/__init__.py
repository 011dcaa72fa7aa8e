"""`corestream up`: every service, Redis and a mail catcher as child processes on one machine."""
