"""`/api/uploads`: tus 1.0.0, its core and the extensions that `headers.EXTENSIONS` names."""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from email.utils import format_datetime

import structlog
from aiohttp import ClientError, StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_exceptions import HTTPMethodNotAllowed
from aiohttp.web_protocol import RequestPayloadError

from ingest.intake import no_room_is_a_problem
from ingest.rates import Rates
from ingest.received import Digest, Limits, pour, temporary_parts, too_large
from ingest.settings import IngestSettings
from ingest.uploads import headers
from ingest.uploads.headers import Checksum
from ingest.uploads.store import StoredUpload, UploadStore
from ingest.uploads.writers import EvictedError, Writers
from pipeline.storage import Storage
from pipeline.web.openapi import Operation, by_method, described
from pipeline.web.problems import ProblemError

log = structlog.get_logger()

ROUTE = "/api/uploads"
_COPIES = 2
"""Of an upload lie on the disk at once: as received, and as a job keeps it."""

_Handler = Callable[[web.Request], Awaitable[web.Response]]


class Uploads:
    """Speaks tus.

    Args:
        settings: Of this service.
        storage: Where uploads lie.
        store: Keeps them.
        writers: Lets one request at a time write one.
        limits: Of a scan, and of the disk.
        rates: Says how often one address may announce an upload.
    """

    def __init__(
        self,
        settings: IngestSettings,
        storage: Storage,
        store: UploadStore,
        writers: Writers,
        limits: Limits,
        rates: Rates,
    ) -> None:
        self._public_url = settings.public_url.rstrip("/")
        self._storage = storage
        self._store = store
        self._limits = limits
        self._rates = rates
        self._writers = writers

    def add_routes(self, app: web.Application) -> None:
        """Serve uploads."""
        collection = {"OPTIONS": self._options, "POST": self._create}
        one = {
            "OPTIONS": self._options,
            "HEAD": self._head,
            "PATCH": self._patch,
            "DELETE": self._delete,
        }
        app.router.add_route("*", ROUTE, _by_method(collection))
        app.router.add_route("*", f"{ROUTE}/{{upload_id}}", _by_method(one))
        app.on_response_prepare.append(_add_version)

    @described(Operation(summary="Ask what tus this speaks", tag="resumable uploads", answers={204: None}))
    async def _options(self, _request: web.Request) -> web.Response:
        return web.Response(
            status=204,
            headers={
                "Tus-Version": headers.VERSION,
                "Tus-Extension": headers.EXTENSIONS,
                "Tus-Max-Size": str(self._limits.max_upload_bytes),
                "Tus-Checksum-Algorithm": ",".join(headers.CHECKSUM_ALGORITHMS),
            },
        )

    @described(
        Operation(
            summary="Begin an upload",
            tag="resumable uploads",
            answers={201: None},
            problems=(400, 401, 409, 412, 413, 415, 422, 429, 503, 507),
            headers=headers.TUS | headers.CREATE,
            body={headers.CONTENT_TYPE: None},
            access="API key",
        )
    )
    async def _create(self, request: web.Request) -> web.Response:
        self._rates.require(request)
        length = headers.read_length(request)
        metadata = headers.read_metadata(request)
        if length is not None and length > self._limits.max_upload_bytes:
            raise too_large(self._limits.max_upload_bytes)
        if request.can_read_body:
            headers.require_content_type(request)
        self._limits.require_room(self._storage, _COPIES * (length or 0))
        upload = await asyncio.to_thread(self._store.create, length, metadata)
        if request.can_read_body:
            try:
                async with self._writers.alone(upload.upload_id, request.content):
                    upload = await self._receive(request, upload)
            except BaseException:
                self._store.remove(upload.upload_id)  # its sender never learns its address
                raise
        address = f"{self._origin(request)}{ROUTE}/{upload.upload_id}"
        return web.Response(status=201, headers=_state(upload) | {"Location": address})

    @described(
        Operation(
            summary="Ask how far an upload is",
            tag="resumable uploads",
            answers={200: None},
            problems=(400, 401, 404, 409, 410, 412, 423, 429),
            headers=headers.TUS,
            access="API key",
        )
    )
    async def _head(self, request: web.Request) -> web.Response:
        """Tell how far an upload is; who asks has given up the request before, so that nothing more comes."""
        upload_id = request.match_info["upload_id"]
        self._store.read(upload_id)
        async with self._writers.alone(upload_id):
            upload = self._store.read(upload_id)
        known = (
            {"Upload-Defer-Length": "1"}
            if upload.length_bytes is None
            else {"Upload-Length": str(upload.length_bytes)}
        )
        if upload.metadata:
            known["Upload-Metadata"] = upload.metadata
        return web.Response(headers=_state(upload) | known)

    @described(
        Operation(
            summary="Go on with an upload",
            tag="resumable uploads",
            answers={204: None},
            problems=(400, 401, 404, 409, 410, 412, 423, 413, 415, 422, 429, 460, 507),
            headers=headers.TUS | headers.PATCH,
            body={headers.CONTENT_TYPE: None},
            access="API key",
        )
    )
    async def _patch(self, request: web.Request) -> web.Response:
        upload_id = request.match_info["upload_id"]
        headers.require_content_type(request)
        offset = headers.read_offset(request)
        self._store.read(upload_id)
        async with self._writers.alone(upload_id, request.content):
            upload = self._store.read(upload_id)
            if offset != upload.offset_bytes:
                raise headers.wrong_offset(upload.offset_bytes, offset)
            upload = await self._receive(request, await self._with_length(request, upload))
        return web.Response(status=204, headers=_state(upload))

    @described(
        Operation(
            summary="Give an upload up",
            tag="resumable uploads",
            answers={204: None},
            problems=(400, 401, 404, 409, 410, 412, 423, 429),
            headers=headers.TUS,
            access="API key",
        )
    )
    async def _delete(self, request: web.Request) -> web.Response:
        upload_id = request.match_info["upload_id"]
        self._store.read(upload_id)
        async with self._writers.alone(upload_id):
            self._store.remove(upload_id)
        return web.Response(status=204)

    async def _with_length(self, request: web.Request, upload: StoredUpload) -> StoredUpload:
        """Take in a length that was not known at first."""
        length = headers.read_integer(request, "Upload-Length")
        if length is None or length == upload.length_bytes:
            return upload
        if upload.length_bytes is not None or length < upload.offset_bytes:
            raise headers.header_invalid(
                f"an Upload-Length that stays, and is at least {upload.offset_bytes:,}", str(length)
            )
        if length > self._limits.max_upload_bytes:
            raise too_large(self._limits.max_upload_bytes)
        await asyncio.to_thread(self._store.set_length, upload, length)
        return self._store.read(upload.upload_id)

    async def _receive(self, request: web.Request, upload: StoredUpload) -> StoredUpload:
        """Append a request's body to an upload; what came before a cut stays, unless it has a checksum."""
        checksum = headers.read_checksum(request)
        check = self._check(upload)
        check(request.content_length or 0)
        with no_room_is_a_problem():
            if checksum is None:
                await self._append(request.content, upload, check)
            else:
                await self._append_checked(request.content, upload, check, checksum)
        upload = self._store.read(upload.upload_id)
        if upload.complete:
            log.info("upload.complete", size_bytes=upload.offset_bytes)
        return upload

    def _check(self, upload: StoredUpload) -> Callable[[int], None]:
        def check(more_bytes: int) -> None:
            end = upload.offset_bytes + more_bytes
            if upload.length_bytes is not None and end > upload.length_bytes:
                raise headers.beyond_length(upload.length_bytes)
            if end > self._limits.max_upload_bytes:
                raise too_large(self._limits.max_upload_bytes)
            self._limits.require_room(self._storage, 0)

        return check

    async def _append(self, body: StreamReader, upload: StoredUpload, check: Callable[[int], None]) -> None:
        try:
            await pour(_pieces(body), upload.path, check, digest=self._store.digest(upload))
        except ProblemError as problem:
            if problem.status == web.HTTPRequestEntityTooLarge.status_code:
                os.truncate(
                    upload.path, upload.offset_bytes
                )  # nothing of a request that lied about its length
            raise
        if not self._store.read(upload.upload_id).complete:  # else it is its job that makes it last
            await asyncio.to_thread(_fsync, upload)

    async def _append_checked(
        self, body: StreamReader, upload: StoredUpload, check: Callable[[int], None], checksum: Checksum
    ) -> None:
        digest = Digest(checksum.algorithm)
        with temporary_parts(self._storage) as new_part:
            chunk = new_part()
            await pour(_pieces(body), chunk, check, digest=digest)
            if not hmac.compare_digest(digest.digest(), checksum.digest):
                raise headers.wrong_checksum()
            await asyncio.to_thread(self._store.append, upload, chunk)

    def _origin(self, request: web.Request) -> str:
        """Return the address of this service as its client knows it.

        A browser says where its page came from. Where that is this very service it must go on there,
        whatever PUBLIC_URL says: its page may talk to no other origin.
        """
        origin = request.headers.get("Origin", "")
        return origin if origin.partition("://")[2] == request.host else self._public_url


def _by_method(handlers: Mapping[str, _Handler]) -> _Handler:
    async def handle(request: web.Request) -> web.Response:
        method = headers.method(request)
        if method not in handlers:
            raise HTTPMethodNotAllowed(method, handlers)
        if method != "OPTIONS":
            headers.require_version(request)
        return await handlers[method](request)

    by_method(handle, handlers)
    return handle


async def _add_version(request: web.Request, answer: web.StreamResponse) -> None:
    """Every answer says which tus it speaks, refusals among them."""
    if request.path.startswith(ROUTE):
        answer.headers["Tus-Resumable"] = headers.VERSION


async def _pieces(body: StreamReader) -> AsyncIterator[bytes]:
    try:
        while piece := await body.readany():
            yield piece
    except (ClientError, HttpProcessingError, RequestPayloadError, ConnectionError, EvictedError) as error:
        log.info("upload.cut", reason=type(error).__name__)
        raise ProblemError(
            status=400,
            code="upload-cut",
            title="Upload cut off",
            detail="Expected as many bytes as the request announced, received fewer before the "
            "connection broke or a newer request took over. Ask for the offset by HEAD and go on from there.",
        ) from error


def _fsync(upload: StoredUpload) -> None:
    with upload.path.open("rb") as file:
        os.fsync(file.fileno())


def _state(upload: StoredUpload) -> dict[str, str]:
    return {
        "Upload-Offset": str(upload.offset_bytes),
        "Upload-Expires": format_datetime(upload.expires_at, usegmt=True),
    }
