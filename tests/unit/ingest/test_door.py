"""The door lets whole volumes of any geometry in, without their names, and says why it refuses the others."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from isal import isal_zlib

from ingest.door import admit
from pipeline.web.problems import ProblemError
from tests.support.bad_scans import DIM, PIXDIM, QFORM, REFUSALS, SCL_INTER
from tests.support.nifti_files import AFFINE, compressed, good, nifti, patched, voxels

LIMIT_BYTES = 64 * 1024**2


def at_the_door(
    tmp_path: Path, content: bytes, limit_bytes: int = LIMIT_BYTES
) -> tuple[Path, tuple[str, ...]]:
    """Bring bytes to the door and return what is kept and what was removed."""
    upload, target = tmp_path / "upload", tmp_path / "kept.part"
    upload.write_bytes(content)
    admitted = admit([upload], target, max_bytes=limit_bytes)
    admitted.settle()
    assert upload.read_bytes() == content
    kept = target.rename(target.with_suffix(".nii.gz" if admitted.compressed else ".nii"))
    return kept, admitted.removed


@pytest.mark.parametrize(("build", "status", "code", "words"), REFUSALS.values(), ids=REFUSALS.keys())
def test_the_door_refuses(
    tmp_path: Path, build: Callable[[], bytes], status: int, code: str, words: str
) -> None:
    """A refusal has a stable code, says what was expected and received, and leaves no file."""
    with pytest.raises(ProblemError) as caught:
        at_the_door(tmp_path, build())
    problem = caught.value
    assert (problem.status, problem.code) == (status, code)
    assert problem.title
    assert "Expected " in problem.detail
    assert "received " in problem.detail
    assert words in problem.detail
    assert [path.name for path in tmp_path.iterdir()] == ["upload"]


ACCEPTED: dict[str, Callable[[], bytes]] = {
    "uncompressed": good,
    "compressed": lambda: compressed(good()),
    "in two gzip members": lambda: compressed(good()[:100_000]) + compressed(good()[100_000:]),
    "with zeros after the gzip": lambda: compressed(good()) + bytes(512),
    "NIfTI-2": lambda: nifti(version=nib.Nifti2Image),
    "big endian": lambda: nifti(byte_order=">"),
    "float32": lambda: nifti(voxels().astype(np.float32) / 3),
    "one time point": lambda: nifti(voxels()[..., np.newaxis]),
    "axes in another order": lambda: nifti(voxels((182, 133, 146)), affine=np.array(AFFINE[:, [1, 2, 0, 3]])),
    "flipped left to right": lambda: nifti(affine=np.diag([-1.0, 1, 1, 1]) @ AFFINE),
    "sform only": lambda: patched(good(), QFORM, "2h", 0, 1),
    "qform only": lambda: patched(good(), QFORM, "2h", 1, 0),
    "qfac 0, which the standard reads as 1": lambda: patched(
        nifti(affine=np.diag([-1.0, 1, 1, 1]) @ AFFINE), PIXDIM, "f", 0
    ),
    "a slope and an intercept": lambda: patched(good(), SCL_INTER - 4, "2f", 2, -1024),
}


@pytest.mark.parametrize("build", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_is_kept_has_the_same_voxels_at_the_same_place(
    tmp_path: Path, build: Callable[[], bytes]
) -> None:
    """Only the header is written anew; values, type, scaling and geometry are the uploader's."""
    content = build()
    target, removed = at_the_door(tmp_path, content)
    plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    kind = nib.Nifti2Image if plain[4:7] == b"n+2" else nib.Nifti1Image
    sent = kind.from_bytes(
        plain if plain[PIXDIM : PIXDIM + 4] != bytes(4) else patched(plain, PIXDIM, "f", 1)
    )
    kept = kind.from_filename(target)
    assert removed == ()
    assert np.array_equal(kept.get_fdata(), sent.get_fdata().reshape(kept.shape))
    assert kept.header["datatype"] == sent.header["datatype"]
    assert np.array_equal(kept.affine, sent.affine)
    for form in ("sform", "qform"):
        assert kept.header[f"{form}_code"] == sent.header[f"{form}_code"]
    if sent.header["qform_code"]:
        assert np.allclose(kept.get_qform(), sent.get_qform())


@pytest.mark.parametrize("pack", [bytes, compressed], ids=["uncompressed", "compressed"])
def test_names_stay_outside(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """Text fields and extensions may hold a patient's name: their names are told, their values are gone."""
    target, removed = at_the_door(tmp_path, pack(nifti(text=b"Doe^Jane") + b"Doe^Jane"))
    assert set(removed) == {"descrip", "aux_file", "intent_name", "db_name", "extensions", "trailing bytes"}
    content = target.read_bytes()
    plain = gzip.decompress(content) if target.suffix == ".gz" else content
    assert b"Doe" not in plain
    assert np.array_equal(nib.Nifti1Image.from_bytes(plain).get_fdata(), voxels())


def test_the_name_in_a_gzip_header_stays_outside(tmp_path: Path) -> None:
    """A gzip file keeps its original's name: what is kept has a header of its own, without one."""
    named = io.BytesIO()
    with gzip.GzipFile("doe_jane.nii", "wb", 1, named) as file:
        file.write(good())
    assert b"doe_jane" in named.getvalue()
    target, _ = at_the_door(tmp_path, named.getvalue())
    assert b"doe_jane" not in target.read_bytes()


def test_a_volume_of_our_own_is_not_copied(tmp_path: Path) -> None:
    """An uncompressed upload becomes what is kept, once all of its submission is let in; not before."""
    upload, target = tmp_path / "upload", tmp_path / "kept.part"
    content = nifti(text=b"Doe^Jane")
    upload.write_bytes(content)
    admitted = admit([upload], target, max_bytes=LIMIT_BYTES, ours=True)
    assert (admitted.path, upload.read_bytes(), target.exists()) == (upload, content, False)
    admitted.settle()
    assert b"Doe" not in upload.read_bytes()
    assert np.array_equal(nib.Nifti1Image.from_bytes(upload.read_bytes()).get_fdata(), voxels())


@pytest.mark.usefixtures("compressed_bytes_kept")
def test_compressed_bytes_are_kept_where_they_can_be(tmp_path: Path) -> None:
    """A scan is not compressed anew but for its beginning: what is kept ends as the upload does."""
    content = gzip.compress(nifti(text=b"Doe^Jane"), 6)
    target, _ = at_the_door(tmp_path, content)
    assert target.read_bytes()[-len(content) // 2 : -8] == content[-len(content) // 2 : -8]


@pytest.fixture
def compressed_bytes_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the bytes of small files too as they came, where that is possible."""
    monkeypatch.setattr("ingest.repacking._WORTH_BYTES", 0)


@pytest.mark.usefixtures("compressed_bytes_kept")
@pytest.mark.parametrize("build", ACCEPTED.values(), ids=ACCEPTED.keys())
@pytest.mark.parametrize("level", [1, 6])
def test_large_files_are_kept_whole_as_well(tmp_path: Path, build: Callable[[], bytes], level: int) -> None:
    """What holds of files that are compressed anew holds of those whose compressed bytes are kept."""
    content = build()
    if content[:2] != b"\x1f\x8b":
        content = gzip.compress(content, level)
    test_what_is_kept_has_the_same_voxels_at_the_same_place(tmp_path, lambda: content)


@pytest.mark.usefixtures("compressed_bytes_kept")
def test_one_block_of_a_hundred_megabytes_is_not_held_in_memory(tmp_path: Path) -> None:
    """Some encoders, and whoever means ill, write blocks that inflate to any size."""
    slices = 200
    header = patched(good()[:352], DIM, "4h", 3, 512, 512, slices)
    encoder = isal_zlib.compressobj(1, isal_zlib.DEFLATED, 31)
    content = encoder.compress(header) + encoder.compress(bytes((slices - 1) * 512 * 512 * 2))
    content += (
        encoder.flush(isal_zlib.Z_SYNC_FLUSH) + encoder.compress(bytes(512 * 512 * 2)) + encoder.flush()
    )
    tracemalloc.start()
    try:
        target, _ = at_the_door(tmp_path, content, limit_bytes=2 * LIMIT_BYTES)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert nib.Nifti1Image.from_filename(target).shape == (512, 512, slices)
    assert peak_bytes < 16 * 1024**2


@pytest.mark.usefixtures("compressed_bytes_kept")
def test_names_stay_outside_of_large_files(tmp_path: Path) -> None:
    """Nothing of the old header is left where the compressed bytes are kept."""
    test_names_stay_outside(tmp_path, compressed)


@pytest.mark.usefixtures("compressed_bytes_kept")
@pytest.mark.parametrize(("build", "status", "code", "words"), REFUSALS.values(), ids=REFUSALS.keys())
def test_the_door_refuses_large_files(
    tmp_path: Path, build: Callable[[], bytes], status: int, code: str, words: str
) -> None:
    """Large files are refused in the same words."""
    test_the_door_refuses(tmp_path, build, status, code, words)


def test_a_bomb_is_stopped_at_the_limit(tmp_path: Path) -> None:
    """A gzip of 300 MB of zeros after a good header is refused without being held in memory or on disk."""
    bomb = compressed(patched(good()[:352], 0, "i", 348) + bytes(300 * 1024**2))
    tracemalloc.start()
    try:
        with pytest.raises(ProblemError) as caught:
            at_the_door(tmp_path, bomb)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (caught.value.status, caught.value.code) == (413, "inflated-too-large")
    assert peak_bytes < 8 * 1024**2
    assert [path.name for path in tmp_path.iterdir()] == ["upload"]
