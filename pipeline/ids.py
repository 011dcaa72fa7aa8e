"""Identifiers of jobs, scans and uploads: unguessable, and safe as a path's last part."""

from __future__ import annotations

import uuid
from typing import Annotated

from pydantic import StringConstraints

ID_PATTERN = r"^[0-9a-f]{32}$"
Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
"""A pydantic field type: 32 hexadecimal digits and nothing that could leave a folder."""


def new_id() -> str:
    """Return a new identifier of 122 random bits."""
    return uuid.uuid4().hex
