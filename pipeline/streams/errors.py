"""The errors a handler raises, typed by what the runtime does about them."""

from __future__ import annotations


class TransientError(Exception):
    """Raised when the same entry may succeed later: it is handed back and redelivered after a back-off."""


class UnavailableError(TransientError):
    """Raised when what is missing is nothing of the entry's, a full disk say: its start does not count."""


class PermanentError(Exception):
    """Raised when the entry can never succeed: it is dead-lettered at once."""


class LeaseLostError(Exception):
    """Raised when a delivery belongs to another consumer by now; whatever this one did has no effect."""


class RetryRefusedError(Exception):
    """Raised when a dead letter is not to come back, with the reason of the effect that says so."""
