"""A disk that takes less than it is given is an error, never a file without its end."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from ingest.door import admit
from ingest.received import pour
from tests.support.nifti_files import compressed, nifti

NOISE = compressed(nifti(np.random.default_rng(0).normal(40, 12, (60, 50, 40)).astype(np.int16)))


@contextmanager
def room_for(size_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a size: as on a full disk, a write that crosses it is done in part."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("worth_bytes", [0, 2**40], ids=["kept as it came", "compressed anew"])
def test_a_scan_that_does_not_fit_is_not_let_in(tmp_path: Path, worth_bytes: int) -> None:
    """Not even where only the last bytes of its gzip file are missing."""
    upload, target = tmp_path / "upload", tmp_path / "kept.part"
    upload.write_bytes(NOISE)
    with patch("ingest.repacking._WORTH_BYTES", worth_bytes):
        admit([upload], target, max_bytes=2**24).settle()
        whole = target.stat().st_size
        target.unlink()
        for missing in (1, 4, 9, 5000):
            with room_for(whole - missing), pytest.raises(OSError, match="too large"):
                admit([upload], target, max_bytes=2**24)
            assert not target.exists()


async def test_an_upload_that_does_not_fit_is_not_received(tmp_path: Path) -> None:
    """What fitted is on the disk, and the sender is told of an error."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(2):
            yield bytes(300_000)

    with room_for(599_999), pytest.raises(OSError, match="too large"):
        await pour(pieces(), tmp_path / "upload", lambda _size: None)
    assert (tmp_path / "upload").stat().st_size == 599_999
