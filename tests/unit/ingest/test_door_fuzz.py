"""Whatever comes to the door is let in or refused in words, and soon.

`CORESTREAM_FUZZ_EXAMPLES=5000` runs each of these that often; the default is for every day.
"""

from __future__ import annotations

import gzip
import io
import os
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import nibabel as nib
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.dicom.archive import unpack
from ingest.dicom.conversion import convert
from ingest.dicom.images import read_slices
from ingest.dicom.series import choose
from ingest.door import admit
from pipeline.web.problems import ProblemError
from tests.support.dicom_files import archive_of, as_bytes, series
from tests.support.nifti_files import compressed, nifti, voxels
from tests.support.waiting import PATIENCE_S

EXAMPLES = int(os.environ.get("CORESTREAM_FUZZ_EXAMPLES", "100"))
LIMIT_BYTES = 4 * 1024**2
SMALL = nifti(voxels((12, 10, 8)))
NOISE = nifti(np.random.default_rng(0).normal(40, 12, (50, 40, 30)).astype(np.int16), text=b"Doe^Jane")
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=timedelta(seconds=PATIENCE_S),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

any_int16 = st.integers(-(2**15), 2**15 - 1)
any_float32 = st.floats(width=32)
plausible_shape = st.lists(st.integers(1, 14), min_size=7, max_size=7)


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """Build a NIfTI-1 or NIfTI-2 file whose header fields hold anything their types can hold."""
    kind = draw(st.sampled_from([nib.Nifti1Header, nib.Nifti2Header]))
    header = kind(endianness=draw(st.sampled_from("<>")))  # type: ignore[no-untyped-call]  # nibabel does not type it
    length = draw(st.one_of(st.integers(1, 4), any_int16))
    header["dim"] = [length, *draw(st.one_of(plausible_shape, st.lists(any_int16, min_size=7, max_size=7)))]
    header["datatype"] = draw(st.one_of(st.sampled_from([2, 4, 8, 16, 64, 128, 256, 512, 1792]), any_int16))
    header["pixdim"] = draw(st.lists(st.one_of(st.just(1.0), any_float32), min_size=8, max_size=8))
    offset = draw(st.one_of(st.just(float(len(header.binaryblock) + 4)), any_float32))
    if kind is nib.Nifti1Header or (np.isfinite(offset) and abs(offset) < 2**62):
        header["vox_offset"] = offset
    for form in ("qform_code", "sform_code"):
        header[form] = draw(st.one_of(st.integers(0, 4), any_int16))
    near_one = st.one_of(st.sampled_from([0.0, 1.0, -1.0]), any_float32)
    for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
        header[name] = draw(near_one)
    for name in ("srow_x", "srow_y", "srow_z"):
        header[name] = draw(st.lists(near_one, min_size=4, max_size=4))
    header["scl_slope"], header["scl_inter"] = draw(any_float32), draw(any_float32)
    header["descrip"] = draw(st.binary(max_size=80))
    return bytes(header.binaryblock) + draw(st.sampled_from([bytes(4), b"\1\0\0\0"])) + bytes(4000)


def flipped(content: bytes, flips: list[tuple[float, int]]) -> bytes:
    """Change bytes: each flip is a place, from 0 to 1, and what to add there."""
    changed = bytearray(content)
    for place, change in flips:
        changed[int(place * (len(changed) - 1))] ^= change
    return bytes(changed)


flips = st.lists(
    st.tuples(st.one_of(st.floats(0, 1), st.floats(0, 0.02)), st.integers(1, 255)), min_size=1, max_size=20
)


def bring(content: bytes) -> None:
    """Bring bytes to the door; any error but a refusal is a failure of the service."""
    refusal: ProblemError | None = None
    with tempfile.TemporaryDirectory() as folder:
        upload, target = Path(folder, "upload"), Path(folder, "kept.part")
        upload.write_bytes(content)
        try:
            admit([upload], target, max_bytes=LIMIT_BYTES).settle()
        except ProblemError as problem:
            refusal = problem
        if refusal is None:  # what was kept is a volume
            kept = target.read_bytes()
            kept = gzip.decompress(kept) if content[:2] == b"\x1f\x8b" else kept
            assert b"Doe^Jane" not in kept
            kind = nib.Nifti2Image if kept[4:7] == b"n+2" else nib.Nifti1Image
            assert kind.from_stream(io.BytesIO(kept)).ndim == 3
        left = {path.name for path in Path(folder).iterdir()}
    assert left == {"upload"} | ({"kept.part"} if refusal is None else set())
    assert refusal is None or "Expected " in refusal.detail


@fuzz
@given(headers(), st.booleans())
def test_any_header_is_answered(content: bytes, packed: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    """A header may hold anything."""
    bring(compressed(content) if packed else content)


@fuzz
@given(st.sampled_from([SMALL, compressed(SMALL)]), flips)
def test_any_damage_is_answered(content: bytes, changes: list[tuple[float, int]]) -> None:
    """Bytes change on their way."""
    bring(flipped(content, changes))


@fuzz
@given(st.sampled_from([1, 6, 9]), flips)
def test_any_damage_to_a_file_whose_blocks_are_kept_is_answered(
    level: int, changes: list[tuple[float, int]]
) -> None:
    """Also where the beginning alone is compressed anew."""
    with patch("ingest.repacking._WORTH_BYTES", 0):
        bring(flipped(gzip.compress(NOISE, level), changes))


@fuzz
@given(st.binary(max_size=2000))
def test_any_bytes_are_answered(content: bytes) -> None:
    """A file may be anything."""
    bring(content)


DICOM = [archive_of(series(3)), as_bytes(series(1)[0])]


@fuzz
@given(st.sampled_from(DICOM), flips)
def test_any_damaged_dicom_is_answered(content: bytes, changes: list[tuple[float, int]]) -> None:
    """The process that reads DICOM ends with an answer; here it is run in this one, to be quick."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upload = folder / "upload"
        upload.write_bytes(flipped(content, changes))
        work = folder / "work"
        work.mkdir()
        with suppress(ProblemError):
            zipped = upload.read_bytes()[:2] == b"PK"
            files = unpack(upload, folder, max_bytes=LIMIT_BYTES) if zipped else [upload]
            convert(choose(read_slices(files)), work)
