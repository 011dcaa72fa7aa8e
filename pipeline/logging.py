"""One way to log, for every service: structlog, dotted event names, key-values.

No log line holds a user's file name, an e-mail address or a token.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog

_TRACEBACK = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)  # they hold addresses and tokens
)


def configure(service: str, log_format: Literal["json", "console"] | None) -> None:
    """Set up logging for this process.

    Args:
        service: Stands in every line.
        log_format: `json` or `console`; None takes `console` on a terminal and `json` elsewhere.
    """
    console = log_format == "console" or (log_format is None and sys.stderr.isatty())
    renderer: list[structlog.typing.Processor] = (
        # The plain traceback: the rich one takes a third of a second, in which no lease is renewed.
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [_TRACEBACK, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    # Libraries log through the standard library; only what they warn of is of interest here.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
