"""The errors of the pipeline, typed by what is to be done about them.

`pipeline.streams` knows two kinds: a `TransientError` is tried again, a `PermanentError` is not and the
user is told why. Anything else that a handler raises is a bug of ours: tried again, then dead-lettered.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pydantic import BaseModel, ConfigDict

from pipeline.streams import PermanentError, TransientError, UnavailableError


class CorestreamError(Exception):
    """The base of every error that this project raises on purpose."""


class ConfigurationError(CorestreamError):
    """Raised when a setting is missing or wrong; names the variable, what it expects and what it got."""


class LinkInvalidError(CorestreamError):
    """Raised when a token was not signed by this installation or names something else than asked for."""


class LinkExpiredError(CorestreamError):
    """Raised when a token was good once and its time is over."""


class JobNotFoundError(CorestreamError):
    """Raised when a job has no record on disk: it never was, or it has been deleted."""


class JobDamagedError(JobNotFoundError):
    """Raised when a job's record cannot be read; nobody but the operator can do anything about it."""


class NoRoomError(CorestreamError, UnavailableError):
    """Raised when the disk has no room for an outcome; it is tried again until there is."""


class OutcomeUnderWayError(CorestreamError, UnavailableError):
    """Raised when somebody else is recording the outcome of a scan that one is about to record."""


class MailUnderWayError(CorestreamError, TransientError):
    """Raised when somebody else is sending the mail that one is about to send."""


class Failure(BaseModel):
    """Why a scan has no result, in words that its submitter can act on.

    Attributes:
        code: Stable, for scripts; listed in docs/errors.md.
        title: The kind of failure in a few words.
        detail: What was expected, what was received, what to do.
    """

    model_config = ConfigDict(frozen=True)

    code: str
    title: str
    detail: str


class ScanRefusedError(CorestreamError, PermanentError):
    """Raised when a scan cannot be processed however often it is tried; its submitter is told why."""

    def __init__(self, *, code: str, title: str, detail: str) -> None:
        super().__init__(f"{title}: {detail}")
        self.failure = Failure(code=code, title=title, detail=detail)

    def __reduce__(self) -> tuple[Callable[[], ScanRefusedError], tuple[()]]:
        """Make the error survive the way from a child process, which exceptions with keywords do not."""
        return partial(ScanRefusedError, **self.failure.model_dump()), ()
