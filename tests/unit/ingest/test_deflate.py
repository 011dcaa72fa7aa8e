"""A compressed stream goes on, bit for bit, behind a beginning that was written anew."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import isal_zlib

from ingest.deflate import WINDOW_BYTES, begin_anew, first_boundary

CHANGED_BYTES = 352
LOOKED_THROUGH_BYTES = 256 * 1024


def _voxels(kind: str) -> bytes:
    rng = np.random.default_rng(0)
    match kind:
        case "noise":
            return rng.normal(40, 12, 500_000).astype(np.int16).tobytes()
        case "air":
            return rng.normal(40, 12, 1000).astype(np.int16).tobytes().ljust(9_000_000, b"\0")
        case "nothing to compress":
            return rng.bytes(600_000)
        case _:
            return b"".join(b"%d," % (number % 7919) for number in range(300_000))


CONTENTS = {kind: _voxels(kind) for kind in ("noise", "air", "nothing to compress", "repeated text")}


def _zlib(level: int, strategy: int = zlib.Z_DEFAULT_STRATEGY, memory: int = 8) -> Callable[[bytes], bytes]:
    def compress(content: bytes) -> bytes:
        encoder = zlib.compressobj(level, zlib.DEFLATED, -15, memory, strategy)
        return encoder.compress(content) + encoder.flush()

    return compress


def _flushed(content: bytes) -> bytes:
    """As pigz does: every piece ends on a whole byte."""
    encoder = zlib.compressobj(6, zlib.DEFLATED, -15)
    pieces = (content[at : at + 40_000] for at in range(0, len(content), 40_000))
    return (
        b"".join(encoder.compress(piece) + encoder.flush(zlib.Z_SYNC_FLUSH) for piece in pieces)
        + encoder.flush()
    )


def _isal(content: bytes) -> bytes:
    encoder = isal_zlib.compressobj(2, isal_zlib.DEFLATED, -15)
    return encoder.compress(content) + encoder.flush()


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "stored": _zlib(0),
    "fastest": _zlib(1),
    "usual": _zlib(6),
    "best": _zlib(9, memory=9),
    "fixed codes": _zlib(6, zlib.Z_FIXED),
    "no repeats": _zlib(6, zlib.Z_HUFFMAN_ONLY),
    "runs": _zlib(6, zlib.Z_RLE),
    "flushed": _flushed,
    "ISA-L": _isal,
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS.keys())
@pytest.mark.parametrize("decode", [zlib.decompress, isal_zlib.decompress], ids=["zlib", "ISA-L"])
def test_the_rest_of_a_stream_follows_another_beginning(
    content: bytes, encode: Callable[[bytes], bytes], decode: Callable[[bytes, int], bytes]
) -> None:
    """Whoever encoded it, and at whatever bit its block begins: what was not changed inflates as before."""
    stream = encode(content)
    boundary = first_boundary(stream[:LOOKED_THROUGH_BYTES], CHANGED_BYTES + WINDOW_BYTES)
    if boundary is None:
        assert encode is _isal  # which can hold megabytes in one block
        return
    beginning = bytes(range(256)) + content[CHANGED_BYTES : boundary.content_bytes]
    anew = begin_anew(beginning, stream, boundary) + stream[boundary.bit // 8 + 1 :]
    assert decode(anew, -15) == beginning + content[boundary.content_bytes :]


def test_a_block_may_begin_at_any_bit() -> None:
    """There is a way from a whole byte to each of the eight."""
    phases = set()
    for cut in range(200):
        stream = _zlib(6)(CONTENTS["noise"][cut : cut + 100_000])
        boundary = first_boundary(stream, CHANGED_BYTES + WINDOW_BYTES)
        assert boundary is not None
        anew = begin_anew(b"", stream, boundary) + stream[boundary.bit // 8 + 1 :]
        decoder = zlib.decompressobj(
            -15, zdict=CONTENTS["noise"][cut : cut + boundary.content_bytes][-32768:]
        )
        assert decoder.decompress(anew) == CONTENTS["noise"][cut : cut + 100_000][boundary.content_bytes :]
        phases.add(boundary.bit % 8)
        if len(phases) == 8:
            return
    pytest.fail(f"Expected blocks at every bit, met {phases}.")


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=400), st.integers(0, 60_000)), st.integers(0, 255), st.integers(0, 3000))
def test_whatever_is_no_deflate_has_no_boundary_or_one_within(
    garbage: bytes | int, flip: int, at: int
) -> None:
    """Damaged, cut or foreign bytes are answered, and soon."""
    stream = bytearray(_zlib(6)(CONTENTS["repeated text"][:200_000]))
    if isinstance(garbage, int):
        stream = stream[:garbage]
        if at < len(stream):
            stream[at] ^= flip
    else:
        stream = bytearray(garbage)
    boundary = first_boundary(bytes(stream), CHANGED_BYTES + WINDOW_BYTES)
    assert boundary is None or boundary.bit < 8 * len(stream)


def test_empty_blocks_without_end_are_left() -> None:
    """A stream of blocks without content could be looked through for long; it is not."""
    empty_block = 0b010
    value = sum(empty_block << (10 * number) for number in range(4))
    stream = value.to_bytes(5, "little") * 50_000
    assert first_boundary(stream, 1) is None
