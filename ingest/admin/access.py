"""Who may look after the installation: whoever holds ADMIN_TOKEN.

Programs send it as `Authorization: Bearer`. People type it once and get a cookie for the working day, which
other sites can neither read nor use: it is sent with requests of our own pages alone (SameSite=Strict), and
what changes something must besides come from our own origin.
"""

from __future__ import annotations

import hmac
import time
from collections import deque
from urllib.parse import urlsplit

from aiohttp import web
from itsdangerous import BadSignature, URLSafeTimedSerializer

from ingest.settings import IngestSettings
from pipeline.web.problems import ProblemError

COOKIE = "corestream_admin"
SESSION_S = 12 * 3600
"""A working day."""
TRIES = 10
"""Wrong tokens that one address may send within `TRIES_WITHIN_S`."""
TRIES_WITHIN_S = 60.0

_BEARER = "Bearer "
_SAFE = {"GET", "HEAD"}
_SESSION = "admin"


class Admin:
    """Tells the administrator from everybody else.

    Args:
        settings: Of this service.
    """

    def __init__(self, settings: IngestSettings) -> None:
        self._token = settings.admin_token.get_secret_value() if settings.admin_token else None
        self._public_host = urlsplit(settings.public_url).netloc
        self._secure = settings.public_url.startswith("https://")
        # With the token in the key, a new token ends all sessions.
        self._sessions = URLSafeTimedSerializer(
            settings.secret_key.get_secret_value() + (self._token or ""), salt="corestream.admin"
        )
        self._proxies = settings.proxies
        self._throttle = _Throttle()

    def require(self, request: web.Request) -> None:
        """Return if the request is the administrator's.

        Raises:
            ProblemError: It is not, or came from another site, or there is no ADMIN_TOKEN.
        """
        if (token := bearer(request)) is not None:
            self.check_token(request, token)
        elif self.has_session(request):
            if request.method not in _SAFE:
                self.require_own_origin(request)
        else:
            raise ProblemError(
                status=401,
                code="admin-token-missing",
                title="For administrators",
                detail="Expected `Authorization: Bearer` with the value of CORESTREAM_ADMIN_TOKEN, or a "
                "session of the monitor page, received neither. Log in at /monitor.",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def require_on(self) -> str:
        """Return the token that is expected.

        Raises:
            ProblemError: There is none.
        """
        if self._token is None:
            raise ProblemError(
                status=403,
                code="admin-off",
                title="Not turned on",
                detail="Expected an installation with an ADMIN_TOKEN, but none is set, so nobody is let in. "
                "Whoever runs it sets CORESTREAM_ADMIN_TOKEN for the upload service, and starts it again; "
                "`corestream up` makes a token by itself.",
            )
        return self._token

    def check_token(self, request: web.Request, sent: str) -> None:
        """Return if a token is the right one; in constant time.

        Raises:
            ProblemError: It is not, or its sender has tried too often, or there is none.
        """
        expected, sender = self.require_on(), self._proxies.sender(request)
        self._throttle.require(sender)
        if not hmac.compare_digest(expected.encode(), sent.encode(errors="surrogatepass")):
            self._throttle.failed(sender)
            raise ProblemError(
                status=403,
                code="admin-token-wrong",
                title="Wrong token",
                detail="Expected the value of CORESTREAM_ADMIN_TOKEN, received another. Look it up where "
                "the upload service has its settings.",
            )

    def has_session(self, request: web.Request) -> bool:
        """Return whether the request carries a session that was begun here and is not over."""
        self.require_on()
        try:
            return bool(self._sessions.loads(request.cookies.get(COOKIE, ""), max_age=SESSION_S) == _SESSION)
        except (BadSignature, UnicodeEncodeError):  # the latter over a header's bytes that are no UTF-8
            return False

    def begin_session(self, answer: web.StreamResponse) -> None:
        """Give the browser the cookie of a new session."""
        answer.set_cookie(
            COOKIE,
            str(self._sessions.dumps(_SESSION)),
            max_age=SESSION_S,
            httponly=True,
            samesite="Strict",
            secure=self._secure,
        )

    def require_own_origin(self, request: web.Request) -> None:
        """Return if a request that changes something comes from a page of this service.

        Raises:
            ProblemError: It comes from elsewhere, or does not say.
        """
        site = request.headers.get("Sec-Fetch-Site")
        if site is None:  # browsers send it over https and to this machine alone
            host = request.headers.get("Origin", "").partition("://")[2]
            own = host in {request.host, self._public_host}
        else:
            own = site == "same-origin"
        if not own:
            raise ProblemError(
                status=403,
                code="other-site",
                title="From another site",
                detail="Expected a request of this service's own pages, received one that another site "
                "made or that does not say where it comes from. Nothing was changed. Open /monitor and try "
                "there; programs send `Authorization: Bearer`.",
            )


def bearer(request: web.Request) -> str | None:
    """Return the token of a program; browsers send an API key of the upload page as Basic along."""
    header = request.headers.get("Authorization", "")
    return header.removeprefix(_BEARER) if header.startswith(_BEARER) else None


class _Throttle:
    """Slows down who guesses, by address; it forgets after `TRIES_WITHIN_S`."""

    def __init__(self) -> None:
        self._failures: deque[tuple[float, str]] = deque()

    def require(self, sender: str) -> None:
        since = time.monotonic() - TRIES_WITHIN_S
        while self._failures and self._failures[0][0] < since:
            self._failures.popleft()
        if sum(who == sender for _, who in self._failures) >= TRIES:
            raise ProblemError(
                status=429,
                code="too-many-tries",
                title="Too many tries",
                detail=f"Expected at most {TRIES} wrong tokens within {TRIES_WITHIN_S:.0f} s, received more. "
                "Wait a minute.",
                headers={"Retry-After": f"{TRIES_WITHIN_S:.0f}"},
            )

    def failed(self, sender: str) -> None:
        self._failures.append((time.monotonic(), sender))
