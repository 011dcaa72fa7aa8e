"""Settings of the upload service."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from pipeline.settings import INGEST_PORT, ServerSettings

_MIB = 1024**2
MIN_ADMIN_TOKEN_LENGTH = 16
"""Characters; of random ones, more than can be guessed."""


class IngestSettings(ServerSettings):
    """What the upload service needs beside what the services share."""

    ingest_port: int = Field(default=INGEST_PORT, ge=1, le=65_535)
    max_upload_bytes: int = Field(default=500 * _MIB, ge=1)
    """Largest scan, as uploaded and as inflated."""
    max_files_per_job: int = Field(default=5, ge=1)
    drop_dir: Path | None = None
    """What is put into this folder is submitted; None for no such folder."""
    uploads_per_minute: int = Field(default=600, ge=1)
    """Submissions and announced uploads that one address may begin."""
    max_waiting_scans: int = Field(default=1000, ge=1)
    """Submissions are refused while so many scans wait or run."""
    min_free_bytes: int = Field(default=1024 * _MIB, ge=0)
    """Uploads never take the disk below this; results, mails and Redis's append-only file need it."""

    admin_token: SecretStr | None = Field(
        default=None,
        min_length=MIN_ADMIN_TOKEN_LENGTH,
        description="Set it to random characters (python3 -c 'import secrets; print(secrets.token_hex())').",
    )
    """Opens the monitor page and the dead letters; without it nobody sees them."""
    api_keys: bool = False
    """Whether submissions need one of the keys that `corestream keys add` makes."""
