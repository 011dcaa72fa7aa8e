"""Where one block of a deflate stream ends and the next begins, and how to get there with other content.

A stream (RFC 1951) is a chain of blocks; one may begin at any bit of a byte. What a block says depends on
itself and on the 32 kB of content before it. So the beginning of a stream can be written anew with other
content, and the rest be kept as it is, from a block on that begins 32 kB or more behind what has changed.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

WINDOW_BYTES = 32 * 1024
"""A block may repeat content from as far back as this."""

_MOST_BLOCKS = 100
"""That are looked through; an ordinary one holds 16 kB and more."""
_LONGEST_CODE = 15
_LENGTHS = (*range(3, 11), *range(11, 19, 2), *range(19, 35, 4), *range(35, 67, 8), *range(67, 131, 16))
_LENGTHS += (*range(131, 258, 32), 258)
"""What the symbols 257 to 285 stand for, at least."""
_LENGTH_BITS = (*[0] * 8, *[1] * 4, *[2] * 4, *[3] * 4, *[4] * 4, *[5] * 4, 0)
"""How many bits say how much more."""
_DISTANCE_BITS = (0, 0, *(code // 2 for code in range(28)))
_CODE_LENGTH_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
_REPEATS = {16: (2, 3), 17: (3, 3), 18: (7, 11)}
"""Of the symbols that repeat a length: bits that say how much more often, and how often at least."""
_END = 256
_FIXED_LENGTHS = ([8] * 144 + [9] * 112 + [7] * 24 + [8] * 8, [5] * 30)

_Codes = Sequence[tuple[int, int]]
"""For every value of the next 15 bits: the symbol they begin with, and how many bits it takes; 0 if none."""


@dataclass(frozen=True)
class Boundary:
    """Between two blocks.

    Attributes:
        bit: Of the stream, at which the second begins.
        content_bytes: What the first, and those before it, inflate to.
    """

    bit: int
    content_bytes: int


def first_boundary(stream: bytes, least_bytes: int) -> Boundary | None:
    """Return where the first block ends that reaches so far.

    Args:
        stream: From its beginning; may be cut off, or be no deflate at all.
        least_bytes: Of content that shall lie before the boundary.

    Returns:
        The boundary; None where these bytes hold none that another block follows.
    """
    bits = _Bits(stream)
    content_bytes = 0
    try:
        for _ in range(_MOST_BLOCKS):
            if bits.take(1):  # the last block
                break
            content_bytes += _block_bytes(bits)
            if content_bytes >= least_bytes and bits.position < 8 * len(stream):
                return Boundary(bits.position, content_bytes)
    except (IndexError, ValueError):
        pass
    return None


def begin_anew(content: bytes, stream: bytes, boundary: Boundary) -> bytes:
    """Return the beginning of a stream that another stream's blocks can follow.

    Args:
        content: What it shall inflate to.
        stream: The other stream, up to the boundary or further.
        boundary: From where on that is kept.

    Returns:
        The beginning, up to and with the byte of `stream` in which the boundary lies: what follows that
        byte there can follow here.
    """
    deflate = zlib.compressobj(level=1, wbits=-zlib.MAX_WBITS)
    begun = deflate.compress(content) + deflate.flush(zlib.Z_SYNC_FLUSH)  # ends with a whole byte
    byte, phase = divmod(boundary.bit, 8)
    bridge, bridge_bits = _BRIDGES[phase]
    bridged = bridge | stream[byte] >> phase << bridge_bits
    return begun + bridged.to_bytes((bridge_bits - phase) // 8 + 1, "little")


class _Bits:
    """Reads a stream's bits, the lowest of each byte first."""

    def __init__(self, stream: bytes) -> None:
        self._stream = stream
        self.position = 0

    def peek(self) -> int:
        """Return the next bits, 25 or more; zeros behind the end.

        Raises:
            IndexError: There is none.
        """
        byte, phase = divmod(self.position, 8)
        if byte >= len(self._stream):
            raise IndexError
        return int.from_bytes(self._stream[byte : byte + 4], "little") >> phase

    def take(self, count: int) -> int:
        """Return so many of them as a number, and go on behind them."""
        value = self.peek() & ((1 << count) - 1)
        self.position += count
        return value

    def symbol(self, codes: _Codes) -> int:
        """Return the symbol that comes next, and go on behind it.

        Raises:
            ValueError: These bits are no code.
        """
        symbol, count = codes[self.peek() & ((1 << _LONGEST_CODE) - 1)]
        if not count:
            raise ValueError
        self.position += count
        return symbol


def _block_bytes(bits: _Bits) -> int:
    """Go on to the end of a block and return how much content it holds."""
    match bits.take(2):
        case 0:
            bits.position += -bits.position % 8
            size = bits.take(16)
            if bits.take(16) != size ^ 0xFFFF:
                raise ValueError
            bits.position += 8 * size
            return size
        case 1:
            return _coded_bytes(bits, *map(_codes, _FIXED_LENGTHS))
        case 2:
            return _coded_bytes(bits, *map(_codes, _read_lengths(bits)))
        case _:
            raise ValueError


def _coded_bytes(bits: _Bits, literals: _Codes, distances: _Codes) -> int:
    size = 0
    while (symbol := bits.symbol(literals)) != _END:
        if symbol < _END:
            size += 1
        else:
            size += _LENGTHS[symbol - _END - 1] + bits.take(_LENGTH_BITS[symbol - _END - 1])
            bits.take(_DISTANCE_BITS[bits.symbol(distances)])
    return size


def _read_lengths(bits: _Bits) -> tuple[list[int], list[int]]:
    """Return how long the codes of a block are, of its literals and of its distances."""
    literals, distances, count = bits.take(5) + 257, bits.take(5) + 1, bits.take(4) + 4
    own = [0] * len(_CODE_LENGTH_ORDER)
    for symbol in _CODE_LENGTH_ORDER[:count]:
        own[symbol] = bits.take(3)
    codes = _codes(own)
    lengths: list[int] = []
    while len(lengths) < literals + distances:
        symbol = bits.symbol(codes)
        more_bits, least = _REPEATS.get(symbol, (0, 1))
        repeated = symbol if symbol not in _REPEATS else lengths[-1] if symbol == 16 else 0  # noqa: PLR2004 - deflate's
        lengths += [repeated] * (least + bits.take(more_bits))
    return lengths[:literals], lengths[literals:]


def _codes(lengths: Sequence[int]) -> _Codes:
    """Return the codes that follow from their lengths: RFC 1951, 3.2.2.

    Raises:
        ValueError: There are more than bits can tell apart.
    """
    codes = [(0, 0)] * (1 << _LONGEST_CODE)
    code = 0
    for length in range(1, _LONGEST_CODE + 1):
        code <<= 1
        for symbol in (symbol for symbol, own in enumerate(lengths) if own == length):
            if code >> length:
                raise ValueError
            first = int(f"{code:0{length}b}"[::-1], 2)  # codes come with their highest bit first
            codes[first :: 1 << length] = [(symbol, length)] * (1 << (_LONGEST_CODE - length))
            code += 1
    return codes


def _joined(*numbers: tuple[int, int]) -> tuple[int, int]:
    """Return bits that come one after another, each given as a number and a count, as one such pair."""
    value = size = 0
    for number, count in numbers:
        value |= number << size
        size += count
    return value, size


_EMPTY = _joined((0, 1), (1, 2), (0, 7))
"""A block with fixed codes and nothing but its end: 10 bits."""
_EMPTY_ODD = _joined(
    *((0, 1), (2, 2), (0, 5), (0, 5), (14, 4)),  # 257 codes of literals, 1 of distances, 18 of lengths
    *((symbol in {1, 18}, 3) for symbol in _CODE_LENGTH_ORDER[:18]),  # `0` is 1, `1` is 18
    *((1, 1), (138 - 11, 7), (1, 1), (117 - 11, 7)),  # 255 literals have no code
    *((0, 1), (0, 1), (0, 1)),  # the last has, the end, and a distance
    (1, 1),  # the end
)
"""One with codes of its own: 91 bits."""
_BRIDGES = tuple(
    _joined(*[_EMPTY_ODD] * (phase % 2), *[_EMPTY] * ((phase - 3 * (phase % 2)) % 8 // 2))
    for phase in range(8)
)
"""For each bit of a byte, empty blocks that lead from a whole byte to there."""
