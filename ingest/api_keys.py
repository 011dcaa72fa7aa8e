"""API keys: who may submit, where an installation asks for them.

A key is 32 random bytes, so a plain SHA-256 of it is as good as unguessable; only that is kept.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic import BaseModel, ConfigDict, TypeAdapter

from ingest.uploads import headers
from pipeline.clock import Instant, now
from pipeline.errors import CorestreamError
from pipeline.files import write_whole
from pipeline.web.auditing import API_KEY_NAME
from pipeline.web.problems import ProblemError

HEADER = "X-API-Key"

_FILE = "api-keys.json"
_PREFIX = "cs_"
"""Makes a key that was pasted somewhere easy to recognise."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class KeyNameError(CorestreamError):
    """Raised when a key cannot be made or revoked under a name; says why."""


class ApiKey(BaseModel):
    """What is kept of a key.

    Attributes:
        name: Whose it is, or what for.
        sha256: Of the key, hexadecimal.
        created_at: When it was made.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    sha256: str
    created_at: Instant


_KEYS = TypeAdapter(tuple[ApiKey, ...])


@dataclass(frozen=True)
class ApiKeys:
    """The keys of one installation, in a file of its own that is read anew at every question.

    Attributes:
        data_dir: The installation's folder.
    """

    data_dir: Path

    def all(self) -> tuple[ApiKey, ...]:
        """Return the keys, oldest first."""
        try:
            return _KEYS.validate_json((self.data_dir / _FILE).read_bytes())
        except FileNotFoundError:
            return ()

    def add(self, name: str) -> str:
        """Make a key and return it; it is not kept and cannot be shown again.

        Raises:
            KeyNameError: The name is taken, or is none.
            OSError: The disk refuses.
        """
        known = self.all()
        if not _NAME.fullmatch(name):
            raise KeyNameError(
                f"Expected a name of up to 64 letters, digits and . _ -, received {name!r}. Choose another."
            )
        if any(key.name == name for key in known):
            raise KeyNameError(
                f"Expected a new name, but there is a key {name!r}. Revoke it, or choose another."
            )
        key = _PREFIX + secrets.token_urlsafe(32)
        self._write((*known, ApiKey(name=name, sha256=_sha256(key), created_at=now())))
        return key

    def revoke(self, name: str) -> None:
        """Remove a key; the next request with it is refused.

        Raises:
            KeyNameError: There is none of that name.
            OSError: The disk refuses.
        """
        known = self.all()
        left = tuple(key for key in known if key.name != name)
        if left == known:
            raise KeyNameError(
                f"Expected the name of a key, received {name!r}. `corestream keys list` shows them."
            )
        self._write(left)

    def name_of(self, key: str) -> str | None:
        """Return the name of a key, None where it is none of ours."""
        sent = _sha256(key)
        found = [known.name for known in self.all() if hmac.compare_digest(known.sha256, sent)]
        return found[0] if found else None

    def _write(self, keys: tuple[ApiKey, ...]) -> None:
        path = self.data_dir / _FILE
        write_whole(path, _KEYS.dump_json(keys, indent=1))
        path.chmod(0o600)


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def required(keys: ApiKeys) -> Middleware:
    """Return the middleware that lets nobody submit without a key; what a link opens needs only the link."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if _submits(request):
            request[API_KEY_NAME] = _check(request, keys)
        return await handler(request)

    return middleware


def _submits(request: web.Request) -> bool:
    """Tell whether a request is one of the ways to submit over HTTP, the page with the form included."""
    if request.path.startswith("/api/uploads"):
        return headers.method(request) != "OPTIONS"
    return request.path in {"/", "/api/jobs"}


def _check(request: web.Request, keys: ApiKeys) -> str:
    sent = request.headers.get(HEADER) or _basic_password(request)
    if not sent:
        raise _needed("none", code="api-key-missing")
    name = keys.name_of(sent)
    if name is None:
        raise _needed("one that is not known here, or was revoked", code="api-key-invalid")
    return name


def _needed(received: str, *, code: str) -> ProblemError:
    return ProblemError(
        status=401,
        code=code,
        title="API key needed",
        detail=f"Expected an API key of this service as `{HEADER}: …` or as the password of HTTP Basic, "
        f"received {received}. Ask whoever runs this service for one.",
        headers={
            "WWW-Authenticate": 'Basic realm="corestream: the API key as the password", charset="UTF-8"'
        },
    )


def _basic_password(request: web.Request) -> str:
    """Return the password that a browser or curl sends; browsers ask their user for it by themselves."""
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""
