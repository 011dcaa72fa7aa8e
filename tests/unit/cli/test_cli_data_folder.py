"""The folder of `corestream up`."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from corestream.up.data_folder import ADMIN_FILE, SECRET_FILE, FolderInUseError, claimed, kept_secret
from corestream.up.redis_server import socket_path


def test_a_folder_that_is_made_is_private(tmp_path: Path) -> None:
    """It will hold scans and the key that opens them."""
    with claimed(tmp_path / "new" / "data") as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_second_up_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    """Two Redis servers on one append-only file would spoil it."""
    with claimed(tmp_path), pytest.raises(FolderInUseError, match="--data"), claimed(tmp_path):
        pass


def test_a_folder_can_be_claimed_again_after_it_was_left(tmp_path: Path) -> None:
    """A lock that outlives its owner would need a hand to remove it."""
    for _ in range(2):
        with claimed(tmp_path):
            pass


@pytest.mark.parametrize("name", [SECRET_FILE, ADMIN_FILE])
def test_a_secret_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path, name: str) -> None:
    """Links made before a restart work after it, and so does the administrator's token."""
    secret = kept_secret(tmp_path, name)
    assert kept_secret(tmp_path, name) == secret
    assert len(secret) == 64
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_socket_whose_path_would_be_too_long_lies_elsewhere_in_private(tmp_path: Path) -> None:
    """The kernel takes about a hundred bytes; a user's folder may be deeper."""
    deep = tmp_path / ("d" * 120)
    with socket_path(deep) as path:
        assert len(bytes(path)) < 104
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.parent.exists()
