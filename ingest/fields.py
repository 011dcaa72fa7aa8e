"""Forms as anybody may send them: cut off, malformed, or none at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web
from aiohttp.client_exceptions import ClientError
from aiohttp.http_exceptions import HttpProcessingError

from ingest.received import promptly
from pipeline.web.problems import ProblemError

_BROKEN = (ValueError, AssertionError, RuntimeError, ClientError, HttpProcessingError)
"""What aiohttp raises over a body that is no form."""


async def read_fields(request: web.Request) -> dict[str, str]:
    """Return the fields of a small form, as pages send them; files among them are left out.

    Raises:
        ProblemError: It is malformed, or its sender has fallen silent.
        HTTPRequestEntityTooLarge: It is no small one.
    """
    with malformed_is_a_problem(LookupError):  # over a charset that nobody knows
        form = await promptly(request.post())
    return {name: value for name, value in form.items() if isinstance(value, str)}


@contextmanager
def malformed_is_a_problem(*also: type[Exception]) -> Iterator[None]:
    """Turn what aiohttp raises over a body that is cut off or no form, and what else is named, into words."""
    # ConnectionResetError is a sender that broke off: nobody reads the answer, and it is no fault here.
    broken: tuple[type[Exception], ...] = (*_BROKEN, ConnectionResetError, *also)
    try:
        yield
    except broken as error:
        raise ProblemError(
            status=400,
            code="form-malformed",
            title="Form malformed or cut off",
            detail=f"Expected a whole form, received another ({type(error).__name__}). "
            "Nothing was kept: submit again.",
        ) from error
