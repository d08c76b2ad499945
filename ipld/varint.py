"""Unsigned varints: little-endian groups of seven bits, the last one without its top bit.

Two dialects share the encoding. Multiformats (CIDs, multihashes, CAR frames) demand the shortest
form and at most 63 bits in 9 bytes. Protobuf carries 64 bits in up to 10 bytes, padded or not.
"""

from __future__ import annotations

from typing import TypeAlias

BytesLike: TypeAlias = bytes | bytearray | memoryview

# One entry for each value of one byte: lengths and field values are nearly always this small.
_ONE_BYTE = tuple(bytes([value]) for value in range(0x80))


def encode(value: int) -> bytes:
    """The shortest form of `value`, which must be >= 0."""
    if value < 0x80:
        return _ONE_BYTE[value]
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read(buffer: BytesLike, offset: int) -> tuple[int, int]:
    """The multiformats varint at `offset` and the offset after it.

    Raises ValueError when it is cut short, padded, or longer than 9 bytes; callers translate it
    into their own typed error.
    """
    value, end = _read(buffer, offset, 9)
    if end - offset > 1 and buffer[end - 1] == 0:
        raise ValueError("varint is not in its shortest form")
    return value, end


def read_protobuf(buffer: BytesLike, offset: int) -> tuple[int, int]:
    """The protobuf varint at `offset`, as 64 unsigned bits, and the offset after it."""
    value, end = _read(buffer, offset, 10)
    if value >> 64:
        raise ValueError("varint exceeds 64 bits")
    return value, end


def _read(buffer: BytesLike, offset: int, length_max: int) -> tuple[int, int]:
    value = shift = 0
    for position in range(offset, min(offset + length_max, len(buffer))):
        byte = buffer[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
    if offset + length_max <= len(buffer):
        raise ValueError(f"varint is longer than {length_max} bytes")
    raise ValueError("varint is cut short")
