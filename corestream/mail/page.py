"""The page of the mail catcher: a list, each mail's text with links to click, its HTML in a sandbox.

Mails hold signed links, so whoever reads them sees the results: the page is for this machine's user.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler
from markupsafe import Markup, escape

from corestream.mail.mailbox import Mail, Mailbox
from pipeline.metrics import new_registry
from pipeline.web.app import PAGE_CSP, build_app
from pipeline.web.pages import render
from pipeline.web.problems import ProblemError

_HERE = Path(__file__).parent
_MAILBOX = web.AppKey("mailbox", Mailbox)
_ADDRESS = re.compile(r"https?://[^\s<>\"]+")
_FRAMING_CSP = f"{PAGE_CSP}; frame-src 'self'"
_FRAMED_CSP = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""Of a mail's HTML: no script, no request to anywhere, links only into a new window."""


_INTO_NEW_WINDOW = '<base target="_blank">'
"""In the frame itself our own pages refuse to be shown."""


def build_page(mailbox: Mailbox, host: str) -> web.Application:
    """Return the page as an application.

    Args:
        mailbox: What it shows.
        host: The address it will be served at.
    """
    app = build_app(templates=_HERE / "templates", checks={}, registry=new_registry())
    app[_MAILBOX] = mailbox
    if _is_loopback(host):
        app.middlewares.append(_refuse_other_names)
    app.router.add_get("/", _list)
    app.router.add_static("/assets/", _HERE / "static")
    app.router.add_get("/mails/{name}", _show)
    app.router.add_get("/mails/{name}/html", _show_html)
    return app


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@web.middleware
async def _refuse_other_names(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Keep web pages from reading mails by a name of theirs that points at this machine (DNS rebinding)."""
    if not _is_loopback(request.url.host or ""):
        raise ProblemError(
            status=403,
            code="host-refused",
            title="Not under this name",
            detail="Expected this page to be asked for as 127.0.0.1 or localhost. Use that address.",
        )
    return await handler(request)


async def _list(request: web.Request) -> web.Response:
    return render(request, "mails.html", mails=request.app[_MAILBOX].mails())


async def _show(request: web.Request) -> web.Response:
    mail = _find(request)
    answer = render(request, "mail.html", mail=mail, text=with_links(mail.text))
    answer.headers["Content-Security-Policy"] = _FRAMING_CSP
    return answer


async def _show_html(request: web.Request) -> web.Response:
    mail = _find(request)
    html = mail.html
    if html is None:
        raise web.HTTPNotFound
    for name, picture in mail.pictures():
        html = html.replace(f"cid:{name}", f"data:image/png;base64,{base64.b64encode(picture).decode()}")
    return web.Response(
        text=_INTO_NEW_WINDOW + html,
        content_type="text/html",
        headers={"Content-Security-Policy": _FRAMED_CSP},
    )


def _find(request: web.Request) -> Mail:
    mail = request.app[_MAILBOX].get(request.match_info["name"])
    if mail is None:
        raise web.HTTPNotFound
    return mail


def with_links(text: str) -> Markup:
    """Return text as HTML in which addresses can be clicked, and nothing else is markup."""
    parts: list[Markup] = []
    end = 0
    for found in _ADDRESS.finditer(text):
        address = found[0].rstrip(".,;:!?)")
        parts += [
            escape(text[end : found.start()]),
            Markup('<a href="{0}" rel="noreferrer">{0}</a>').format(address),
        ]
        end = found.start() + len(address)
    return Markup("").join([*parts, escape(text[end:])])
