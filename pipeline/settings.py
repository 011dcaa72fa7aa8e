"""Settings that several services share, read from the environment (prefix `CORESTREAM_`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.audit import AuditLog
from pipeline.errors import ConfigurationError
from pipeline.keys import Keys
from pipeline.links import Links, Tokens
from pipeline.storage import JobRecord, Storage
from pipeline.web.sender import Proxies

PREFIX = "CORESTREAM_"
INGEST_PORT = 7605
VIEWER_PORT = 7606
MIN_SECRET_LENGTH = 32
"""Characters; a key of 16 random bytes in hexadecimal."""


class PipelineSettings(BaseSettings):
    """What ingest, processor, notifier and viewer agree on."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    redis_url: str = Field(default="redis://127.0.0.1:6379/0", pattern=r"^(rediss?|unix)://")
    data_dir: Path = Path("data")
    stream_prefix: str = "corestream:"
    public_url: str = Field(default=f"http://127.0.0.1:{INGEST_PORT}", pattern=r"^https?://[^/]+/?$")
    viewer_url: str = Field(default=f"http://127.0.0.1:{VIEWER_PORT}", pattern=r"^https?://[^/]+/?$")
    secret_key: SecretStr = Field(
        min_length=MIN_SECRET_LENGTH,
        description=f"Set it to at least {MIN_SECRET_LENGTH} random characters, the same for every service "
        "(python3 -c 'import secrets; print(secrets.token_hex())').",
    )
    retention_hours: float = Field(default=24, gt=0)
    link_ttl_hours: float = Field(default=24, gt=0)
    lease_ms: int = Field(default=15_000, ge=100)
    max_deliveries: int = Field(default=3, ge=1)
    log_format: Literal["json", "console"] | None = None
    """None: `console` on a terminal, `json` elsewhere."""

    @property
    def keys(self) -> Keys:
        """The names in Redis."""
        return Keys(self.stream_prefix)

    @property
    def storage(self) -> Storage:
        """The folders under DATA_DIR."""
        return Storage(self.data_dir)

    @property
    def audit(self) -> AuditLog:
        """The audit log."""
        return AuditLog(self.storage.audit, self.secret_key.get_secret_value())

    @property
    def tokens(self) -> Tokens:
        """The signer of links."""
        return Tokens(self.secret_key.get_secret_value())

    @property
    def retention(self) -> timedelta:
        """How long a job's files are kept."""
        return timedelta(hours=self.retention_hours)

    @property
    def link_ttl(self) -> timedelta:
        """How long a job's links work; never longer than there is something to see."""
        return min(timedelta(hours=self.link_ttl_hours), self.retention)

    def links(self, job: JobRecord) -> Links:
        """Return the addresses of a job."""
        token = self.tokens.issue(job.job_id, job.links_expire_at)
        return Links(self.public_url.rstrip("/"), self.viewer_url.rstrip("/"), job.job_id, token)


class ServerSettings(PipelineSettings):
    """What ingest and viewer share: where they listen, and who stands in front."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    trusted_proxies: str = "127.0.0.1, ::1"
    """Whose X-Forwarded-For says where a request comes from: addresses and networks."""

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        Proxies(value)
        return value

    @property
    def proxies(self) -> Proxies:
        """What tells who sends a request."""
        return Proxies(self.trusted_proxies)


class WorkerSettings(PipelineSettings):
    """What processor and notifier share: where they tell of themselves."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    metrics_port: int = Field(default=0, ge=0, le=65_535)
    """TCP port of `healthz`, `readyz` and `metrics`; 0 serves none. Two workers on one machine need two."""


SettingsT = TypeVar("SettingsT", bound=BaseSettings)
_PASSWORD = re.compile(r":[^@]*@")
"""Of an address, with whatever stands between it and the scheme."""


def load(settings: type[SettingsT]) -> SettingsT:
    """Read settings from the environment.

    Raises:
        ConfigurationError: A variable is missing or wrong; the message names it, what it holds, and what its
            `description` says to do. No secret is shown, nor the password of an address.
    """
    try:
        return settings()
    except ValidationError as error:
        lines = []
        for e in error.errors():
            name = str(e["loc"][0])
            field, variable = settings.model_fields[name], f"{PREFIX}{name.upper()}"
            hint = field.description or ""
            if e["type"] == "missing":
                lines.append(f"{variable} is not set. {hint}")
            else:
                is_secret = field.annotation in (SecretStr, SecretStr | None)
                shown = "(hidden)" if is_secret else repr(_PASSWORD.sub(":(hidden)@", str(e["input"])))
                lines.append(f"{variable} is {shown}: {e['msg']}. {hint}")
        raise ConfigurationError("\n".join(line.strip() for line in lines)) from error


@contextmanager
def needed_folder(variable: str, folder: Path) -> Iterator[None]:
    """Name the variable of a folder that cannot be made or written.

    Args:
        variable: Without its prefix.
        folder: What it holds.

    Raises:
        ConfigurationError: The block could not do what it is for.
    """
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"{PREFIX}{variable} is {str(folder)!r}: expected a folder that can be written, "
            f"but: {error.strerror}. Name another, or change its owner."
        ) from error
