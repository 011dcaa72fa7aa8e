"""What `corestream up` will run: addresses, settings and services, worked out before anything starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from corestream.service_commands import service_command
from corestream.up import redis_server
from corestream.up.data_folder import ADMIN_FILE, SECRET_FILE, claimed, kept_secret
from corestream.up.ports import free_ports, require_port
from corestream.up.supervisor import Service
from ingest.settings import IngestSettings
from notifier.settings import NotifierSettings
from pipeline.settings import PREFIX, load
from processor.settings import ProcessorSettings
from viewer.settings import ViewerSettings

_LOCAL = "127.0.0.1"
_LAST_PORT = 65_535
_GRACE_S = 40
"""Above the time that ingest and viewer give running requests, and the notifier a running mail."""
_BEYOND_GRACE_S = 10
"""How much later than its own grace a processor is killed."""


@dataclass(frozen=True)
class Plan:
    """An installation on one machine.

    Attributes:
        upload_url: Of the upload page, as links have it.
        viewer_url: Of the viewer, as links have it.
        mail_url: Of the page of caught mails; None where mails are sent.
        admin_token: Where the administrator finds the token of the monitor page, in words.
        data_dir: Where everything lies.
        drop_dir: What is put into this folder is submitted; None without one.
        redis_url: Of its Redis.
        owns_redis: Whether that Redis is one of `services`.
        readiness_urls: What answers 200 once a service can work, by service.
        services: What runs.
    """

    upload_url: str
    viewer_url: str
    mail_url: str | None
    admin_token: str
    data_dir: Path
    drop_dir: Path | None
    redis_url: str
    owns_redis: bool
    readiness_urls: Mapping[str, str]
    services: tuple[Service, ...]


@contextmanager
def prepared(data: Path, *, host: str, port: int, workers: int, drop: Path | None = None) -> Iterator[Plan]:
    """Claim the folder, check ports and settings, and put the settings into the environment of this process.

    Args:
        data: Where everything lies; made if need be.
        host: Address that ingest and viewer listen on.
        port: Of ingest; the viewer takes the next, the page of caught mails the one after, then come the
            metrics of the notifier and of each processor and what catches mails, where these are free.
        workers: Number of processors.
        drop: The drop folder; None for that of the environment, if it names one.

    Yields:
        What to run.

    Raises:
        ConfigurationError: A variable is wrong.
        FolderInUseError: Another `up` works in the folder.
        NoRedisError: There is no Redis to be had.
        PortUnavailableError: A port is taken.
        OSError: The folder cannot be written.
    """
    require_port(host, port, "upload page")
    require_port(host, port + 1, "viewer")
    with ExitStack() as stack:
        folder = stack.enter_context(claimed(data))
        services: list[Service] = []
        owns_redis = not _configured("REDIS_URL")
        if owns_redis:
            services.append(stack.enter_context(_redis(folder)))
        catches_mail = not _configured("SMTP_URL")
        if catches_mail:
            services.append(_mail_catcher(folder, port + 2, smtp_port=port + 4 + workers))
        _provide("SECRET_KEY", kept_secret(folder, SECRET_FILE))
        own_token = not _configured("ADMIN_TOKEN")
        _provide("ADMIN_TOKEN", kept_secret(folder, ADMIN_FILE))
        _provide("PUBLIC_URL", f"http://{_shown(host)}:{port}")
        _provide("VIEWER_URL", f"http://{_shown(host)}:{port + 1}")
        _set("DATA_DIR", str(folder))
        _set("HOST", host)
        _set("INGEST_PORT", str(port))
        _set("VIEWER_PORT", str(port + 1))
        if drop is not None:
            _set("DROP_DIR", str(drop.absolute()))
        settings, ingest = load(ProcessorSettings), load(IngestSettings)
        for others in (NotifierSettings, ViewerSettings):
            load(others)
        yield Plan(
            upload_url=settings.public_url.rstrip("/"),
            viewer_url=settings.viewer_url.rstrip("/"),
            mail_url=f"http://{_LOCAL}:{port + 2}" if catches_mail else None,
            admin_token=str(folder / ADMIN_FILE) if own_token else "CORESTREAM_ADMIN_TOKEN",
            data_dir=folder,
            drop_dir=ingest.drop_dir,
            redis_url=settings.redis_url,
            owns_redis=owns_redis,
            readiness_urls={
                "ingest": f"http://{_shown(host)}:{port}/readyz",
                "viewer": f"http://{_shown(host)}:{port + 1}/readyz",
            },
            services=(*services, *_own_services(workers, settings.grace_s, port + 3)),
        )


# Stages: what takes work in is stopped first, what the others lean on last.


def _own_services(workers: int, processor_grace_s: float, metrics_port: int) -> list[Service]:
    processors = ["processor"] if workers == 1 else [f"processor-{n}" for n in range(1, workers + 1)]

    def at(port: int) -> dict[str, str]:
        return {PREFIX + "METRICS_PORT": str(port) if port <= _LAST_PORT else "0"}

    return [
        *(Service(name, service_command(name), stage=0, grace_s=_GRACE_S) for name in ("ingest", "viewer")),
        *(
            Service(
                name,
                service_command("processor"),
                stage=0,
                grace_s=processor_grace_s + _BEYOND_GRACE_S,
                settings=at(metrics_port + number),
            )
            for number, name in enumerate(processors, start=1)
        ),
        Service(
            "notifier", service_command("notifier"), stage=1, grace_s=_GRACE_S, settings=at(metrics_port)
        ),
    ]


def _mail_catcher(folder: Path, page_port: int, smtp_port: int) -> Service:
    require_port(_LOCAL, page_port, "page of caught mails")
    # One that the kernel chose it may give to another program while the catcher starts, or starts again.
    smtp_port = free_ports(first=smtp_port if smtp_port <= _LAST_PORT else None)
    _set("SMTP_URL", f"smtp://{_LOCAL}:{smtp_port}")
    command = (
        *(sys.executable, "-m", "corestream", "catch-mail", "--dir", str(folder / "mail")),
        *("--host", _LOCAL, "--smtp-port", str(smtp_port), "--page-port", str(page_port)),
    )
    return Service("mail-catcher", command, stage=2)


@contextmanager
def _redis(folder: Path) -> Iterator[Service]:
    server = redis_server.find_server()
    home = folder / "redis"
    home.mkdir(mode=0o700, exist_ok=True)
    with redis_server.socket_path(home) as socket:
        _set("REDIS_URL", f"unix://{socket}")
        yield Service("redis", redis_server.command(server, home, socket), stage=3)


def _configured(name: str) -> bool:
    return bool(os.environ.get(PREFIX + name))


def _set(name: str, value: str) -> None:
    os.environ[PREFIX + name] = value


def _provide(name: str, value: str) -> None:
    if not _configured(name):
        _set(name, value)


def _shown(host: str) -> str:
    """Return how a browser on this machine names an address that servers listen on."""
    if host in {"0.0.0.0", "::", ""}:  # noqa: S104 - recognised, not bound
        return _LOCAL
    return f"[{host}]" if ":" in host else host
