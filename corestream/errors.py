"""What a server's answer means to a client of it: a document, or the reason why there is none."""

from __future__ import annotations

from typing import Any

from aiohttp import ClientResponse
from yarl import URL

from pipeline.errors import CorestreamError

Document = dict[str, Any]
"""A JSON document of the API, as docs describe it."""


class RefusedError(CorestreamError):
    """Raised when the server answers with a problem; carries its document."""

    def __init__(self, problem: Document) -> None:
        super().__init__(f"{problem.get('title', 'Refused')}. {problem.get('detail', '')}".strip())
        self.problem = problem

    @property
    def status(self) -> int:
        """Of HTTP."""
        return int(self.problem.get("status", 0))

    @property
    def is_server_fault(self) -> bool:
        """Whether the same request may be answered another time."""
        return self.status >= 500 or self.status == 429  # noqa: PLR2004 - HTTP's own numbers


class UnreachableError(CorestreamError):
    """Raised when there is no server to talk to, or it is none of ours."""


async def document(answer: ClientResponse) -> Document:
    """Return the JSON document of an answer.

    Raises:
        RefusedError: It is a problem document.
        UnreachableError: It is none of ours.
    """
    if answer.content_type not in {"application/json", "application/problem+json"}:
        raise UnreachableError(
            f"Expected corestream at {answer.url.origin()}, received status {answer.status} and "
            f"{answer.content_type}. Check the address."
        )
    read: Document = await answer.json(content_type=None)
    if not answer.ok:
        raise RefusedError(read)
    return read


def unreachable(address: str, error: Exception) -> UnreachableError:
    """Return what to say of a server that does not answer."""
    origin = URL(address).origin() if "://" in address else address  # without the token
    reason = str(error) or type(error).__name__
    return UnreachableError(
        f"Expected corestream at {origin}, but it does not answer ({reason}). "
        "Start it with `corestream up`, or name its address with --server."
    )
