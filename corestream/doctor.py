"""`corestream doctor`: what is missing on this machine, and how to get it."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import typer
from rich.markup import escape

from corestream.console import ExitStatus, out
from corestream.up import redis_server
from ingest.settings import IngestSettings
from notifier.settings import NotifierSettings, SmtpServer
from pipeline.errors import ConfigurationError
from pipeline.settings import INGEST_PORT, PREFIX, VIEWER_PORT, load
from pipeline.streams import RedisError, connect, durability_warnings
from processor.models import resolve_model
from processor.precision import usable
from processor.settings import ProcessorSettings
from viewer.settings import ViewerSettings

_ANSWER_TIMEOUT_S = 5
_VIEWER_FILES = ("papaya.js", "papaya.css")
_MIN_REDIS = (6, 2)
_GIB = 1024**3
_PROVIDED = {
    f"{PREFIX}SECRET_KEY": secrets.token_hex(),
    f"{PREFIX}ADMIN_TOKEN": secrets.token_hex(),
    f"{PREFIX}REDIS_URL": "redis://127.0.0.1",
    f"{PREFIX}SMTP_URL": "smtp://127.0.0.1",
    f"{PREFIX}PUBLIC_URL": f"http://127.0.0.1:{INGEST_PORT}",
    f"{PREFIX}VIEWER_URL": f"http://127.0.0.1:{VIEWER_PORT}",
}
_WANTED_FREE_BYTES = 2 * _GIB
"""Ingest refuses uploads below CORESTREAM_MIN_FREE_BYTES; this leaves room for some scans above it."""


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Attributes:
        name: The thing.
        state: `missing` keeps the pipeline from working; `note` is good to know.
        text: What was found, and what to do about it.
    """

    name: str
    state: Literal["ok", "note", "missing"]
    text: str


_MARKS = {"ok": "[green]ok     [/]", "note": "[yellow]note   [/]", "missing": "[red]missing[/]"}


def doctor() -> None:
    """Say what is missing on this machine, and how to get it.

    Looks with the settings of the environment, as the services would. Exit status 1 if something needed is
    missing.
    """
    findings = list(examine())
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        out.print(f"{_MARKS[finding.state]} {finding.name:<{width}}  {escape(finding.text)}")
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(ExitStatus.FAILED)


def examine() -> Iterator[Finding]:
    """Give every finding, one after the other."""
    try:
        with _as_up_provides():
            load(IngestSettings)
            load(ViewerSettings)
            processor, notifier = load(ProcessorSettings), load(NotifierSettings)
    except ConfigurationError as error:
        yield Finding("settings", "missing", str(error))
        return
    yield Finding("settings", "ok", "every CORESTREAM_ variable can be read")
    yield _redis(processor.redis_url)
    yield _tensorflow()
    yield _template()
    yield _model(processor)
    yield _precision(processor)
    yield _viewer_files()
    yield _mail(notifier.smtp_server)
    yield _disk(processor.data_dir)
    yield _chromium()


@contextmanager
def _as_up_provides() -> Iterator[None]:
    """Fill in while the block runs what `up` does where nothing is set: the services cannot do without."""
    before = dict(os.environ)
    os.environ.update({name: value for name, value in _PROVIDED.items() if not os.environ.get(name)})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _redis(url: str) -> Finding:
    if os.environ.get(f"{PREFIX}REDIS_URL"):
        return asyncio.run(_redis_at(url))
    try:
        return Finding("Redis", "ok", f"{redis_server.find_server()}, started by `corestream up`")
    except redis_server.NoRedisError as error:
        return Finding("Redis", "missing", str(error))


async def _redis_at(url: str) -> Finding:
    client = connect(url)
    try:
        version = str((await client.info("server"))["redis_version"])
        if tuple(map(int, version.split(".")[:2])) < _MIN_REDIS:
            return Finding("Redis", "missing", f"Expected Redis 6.2 or newer, found {version}. Upgrade it.")
        warnings = await durability_warnings(client)
    except (RedisError, OSError) as error:
        return Finding(
            "Redis",
            "missing",
            f"Expected a server at CORESTREAM_REDIS_URL, but: {error}. Start it, or unset the variable "
            "and let `corestream up` run one.",
        )
    finally:
        await client.aclose()
    if warnings:
        return Finding("Redis", "note", f"version {version}. {' '.join(warnings)}")
    return Finding("Redis", "ok", f"version {version}, append-only file, noeviction")


def _tensorflow() -> Finding:
    for name in ("tensorflow-cpu", "tensorflow"):
        try:
            return Finding("TensorFlow", "ok", f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return Finding("TensorFlow", "missing", "pip install 'corestream[processor]' on the machine that detects")


def _template() -> Finding:
    from processor.alignment.template import template_path  # noqa: PLC0415 - SciPy would slow every command

    try:
        path = template_path()
    except importlib.metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        return Finding(
            "template",
            "missing",
            "nothing to align scans to: pip install 'corestream[processor]' brings nilearn",
        )
    return Finding("template", "ok", "MNI152 of nilearn")


def _model(settings: ProcessorSettings) -> Finding:
    try:
        found = resolve_model(settings.model, settings.model_dir)
    except ConfigurationError as error:
        return Finding("model", "missing", str(error))
    return Finding("model", "ok", f"{found.name}: {found.description}")


def _precision(settings: ProcessorSettings) -> Finding:
    wanted = settings.precision
    try:
        reason = usable(wanted, resolve_model(settings.model, settings.model_dir)).reason
    except ConfigurationError:
        reason = "There is no model to use it with."
    if reason:
        return Finding("precision", "note", f"float32 instead of {wanted} (CORESTREAM_PRECISION). {reason}")
    return Finding("precision", "ok", wanted)


def _viewer_files() -> Finding:
    spec = importlib.util.find_spec("viewer")
    folders = (
        [Path(place) / "static" / "vendor" for place in (spec.submodule_search_locations or ())]
        if spec
        else []
    )
    for folder in folders:
        if all((folder / name).is_file() for name in _VIEWER_FILES):
            return Finding("viewer", "ok", str(folder))
    return Finding("viewer", "missing", "Papaya's files are not here. Run viewer/build-assets (needs npm).")


def _mail(server: SmtpServer) -> Finding:
    if not os.environ.get(f"{PREFIX}SMTP_URL"):
        if importlib.util.find_spec("aiosmtpd"):
            return Finding(
                "mail", "note", "caught by `corestream up`, not sent. Set CORESTREAM_SMTP_URL to send it."
            )
        return Finding("mail", "missing", "Set CORESTREAM_SMTP_URL, or pip install 'corestream[local]'.")
    shown = f"{server.host}:{server.port}"  # never the password
    try:
        socket.create_connection((server.host, server.port), timeout=_ANSWER_TIMEOUT_S).close()
    except OSError as error:
        return Finding(
            "mail", "missing", f"Expected a mail server at {shown}, but: {error}. Check CORESTREAM_SMTP_URL."
        )
    return Finding("mail", "ok", f"{shown} answers")


def _disk(data_dir: Path) -> Finding:
    folder = data_dir.absolute()
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free_bytes = shutil.disk_usage(existing).free
    text = f"{free_bytes / _GIB:.1f} GiB free for {folder}"
    if not os.access(existing, os.W_OK):
        return Finding(
            "disk", "missing", f"Expected to write to {existing}, but may not. Choose another --data."
        )
    if free_bytes < _WANTED_FREE_BYTES:
        return Finding(
            "disk", "note", f"{text}: uploads are soon refused. Free some, or move CORESTREAM_DATA_DIR."
        )
    return Finding("disk", "ok", text)


def _chromium() -> Finding:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return Finding("Chromium", "ok", f"{found} (for the tests alone)")
    return Finding("Chromium", "note", "not here; only the tests need it (Debian: apt-get install chromium)")
