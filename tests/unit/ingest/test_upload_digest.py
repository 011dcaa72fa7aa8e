"""The hash of a resumable upload is one of its bytes on the disk, or none."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest

from ingest.uploads.store import StoredUpload, UploadStore
from pipeline.storage import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty installation."""
    storage = Storage(tmp_path / "data")
    storage.create_folders()
    return storage


@pytest.fixture
def store(storage: Storage) -> UploadStore:
    """Its uploads."""
    return UploadStore(storage, timedelta(hours=1))


def received(store: UploadStore, upload: StoredUpload, content: bytes) -> StoredUpload:
    """Append bytes as a request does."""
    digest = store.digest(upload)
    with upload.path.open("ab") as file:
        file.write(content)
    if digest is not None:
        digest.update(content)
    return store.read(upload.upload_id)


def test_what_came_in_pieces_is_hashed_once(store: UploadStore) -> None:
    """Request after request the hash goes on."""
    upload = received(store, store.create(6, ""), b"abc")
    upload = received(store, upload, b"def")
    digest = store.digest(upload)
    assert digest is not None
    assert digest.digest() == hashlib.sha256(b"abcdef").digest()


def test_what_another_process_received_has_no_hash(storage: Storage, store: UploadStore) -> None:
    """After a restart the file is read through instead."""
    upload = received(store, store.create(6, ""), b"abc")
    assert UploadStore(storage, timedelta(hours=1)).digest(upload) is None


def test_what_was_taken_back_is_in_no_hash(store: UploadStore) -> None:
    """Not even when other bytes have made the file as long as it was."""
    upload = received(store, store.create(6, ""), b"abcdef")
    upload.path.write_bytes(b"abc")
    upload = received(store, store.read(upload.upload_id), b"xyz")
    assert store.digest(upload) is None
