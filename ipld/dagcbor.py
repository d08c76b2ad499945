"""dag-cbor: one encoding per value, so that one value has one CID.

Values are None, bool, int, float, str, bytes, list, dict with str keys, and `Link`. A link is a
type of its own. The C codecs at hand give links and byte strings both as `bytes`, and write a byte
string that looks like a CID as a link; here a user's bytes would then keep blocks alive or make gc
look for blocks that never were. Hence this codec; libipld is its oracle in the tests.

Strictness (ipld.io dag-cbor spec): shortest heads, definite lengths, map keys sorted by length then
bytes and unique, 64-bit floats that are finite, tag 42 only, nothing after the value. Nesting is
limited to `DEPTH_MAX` in both directions.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from ipld import cid as cids
from ipld.errors import InvalidParameter, MalformedCbor, TooDeep
from ipld.varint import BytesLike

DEPTH_MAX = 128

_LINK_TAG = b"\xd8\x2a"
_COMMON_LINK_HEAD = b"\xd8\x2a\x58\x25\x00"  # of a link to a CID of 36 bytes
_INTEGER_MAX = 2**64 - 1
# How a link to a version 1 sha2-256 CID of a one-byte codec begins, after the tag's first byte: the
# rest is 32 bytes of digest, so the CID is valid without being taken apart.
_COMMON_LINKS = frozenset(
    bytes((0x2A, 0x58, 37, 0, 1, codec, 0x12, 0x20))
    for codec in (cids.RAW, cids.DAG_PB, cids.DAG_CBOR)
)
_new_tuple = tuple.__new__
_SIMPLE = {False: b"\xf4", True: b"\xf5", None: b"\xf6"}


class Link(NamedTuple):
    """A link to another block, by binary CID."""

    cid: bytes


def encode(value: Any) -> bytes:
    """The only dag-cbor encoding of `value`.

    Tuples are written as lists, bytearray and memoryview as byte strings. Raises InvalidParameter
    for values that dag-cbor cannot hold.
    """
    parts: list[bytes] = []
    _write_item(parts, value, 0)
    return b"".join(parts)


def decode(block: BytesLike) -> Any:
    """The value of one strict dag-cbor block. Raises MalformedCbor, TooDeep, InvalidCid and
    UnsupportedHash (a link to a hash that this node cannot check)."""
    data = bytes(block)
    try:
        value, end = _read_item(data, 0, 0)
    except IndexError:
        raise MalformedCbor("dag-cbor is cut short") from None
    except UnicodeDecodeError:
        raise MalformedCbor("dag-cbor string is not UTF-8") from None
    if end != len(data):
        raise MalformedCbor(f"{len(data) - end} bytes after the dag-cbor value")
    return value


def links_of(value: Any) -> Iterator[bytes]:
    """CIDs of all links in a decoded value, in the order of the encoding, duplicates kept."""
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) is Link:
            yield item.cid
        elif type(item) is list:
            stack.extend(reversed(item))
        elif type(item) is dict:
            stack.extend(reversed(item.values()))


# ------------------------------------------------------------------------------------- decoder


def _read_item(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """The item whose head is at `at`, inside `depth` containers, and the offset after it."""
    major = data[at] >> 5
    if major == 7:
        return _read_simple(data, at)
    argument, at = _read_head(data, at)
    if major == 0:
        return argument, at
    if major == 1:
        return -1 - argument, at
    if major == 2:
        return _take(data, at, argument)
    if major == 3:
        text, at = _take(data, at, argument)
        return text.decode(), at
    if major == 6:
        return _read_link(data, at, argument)
    if depth == DEPTH_MAX:
        raise TooDeep(f"dag-cbor is nested deeper than {DEPTH_MAX} levels")
    if argument > len(data) - at:
        raise MalformedCbor("dag-cbor list or map is longer than its block")
    if major == 4:
        return _read_list(data, at, argument, depth)
    return _read_map(data, at, argument, depth)


def _read_list(data: bytes, at: int, count: int, depth: int) -> tuple[list[Any], int]:
    """Long lists are lists of byte strings or of links (nodes of the table), so these two come
    first and without a call per item."""
    items: list[Any] = []
    for _ in range(count):
        head = data[at]
        if 0x40 <= head < 0x58:
            at, end = at + 1, at + head - 0x3F
            items.append(data[at:end])
        elif head == 0x58 and data[at + 1] >= 24:
            at, end = at + 2, at + 2 + data[at + 1]
            items.append(data[at:end])
        elif head == 0xD8 and data[at + 1 : at + 9] in _COMMON_LINKS:
            at, end = at + 5, at + 5 + data[at + 3] - 1
            items.append(_new_tuple(Link, (data[at:end],)))
        else:
            item, end = _read_item(data, at, depth + 1)
            items.append(item)
        at = end
        if end > len(data):
            raise MalformedCbor("dag-cbor is cut short")
    return items, at


def _read_head(data: bytes, at: int) -> tuple[int, int]:
    """The argument of the head at `at`, which must be in its shortest form."""
    low = data[at] & 0x1F
    if low < 24:
        return low, at + 1
    if low > 27:
        raise MalformedCbor("dag-cbor allows no indefinite lengths and no reserved heads")
    size_bytes = 1 << (low - 24)
    raw, end = _take(data, at + 1, size_bytes)
    argument = int.from_bytes(raw, "big")
    if argument < 24 or (low > 24 and argument >> (4 * size_bytes) == 0):
        raise MalformedCbor("dag-cbor head is not in its shortest form")
    return argument, end


def _read_simple(data: bytes, at: int) -> tuple[Any, int]:
    head = data[at]
    if head == 0xFB:
        raw, end = _take(data, at + 1, 8)
        number: float = struct.unpack(">d", raw)[0]
        if not math.isfinite(number):
            raise MalformedCbor("dag-cbor holds finite floats only")
        return number, end
    if head not in b"\xf4\xf5\xf6":
        raise MalformedCbor(f"dag-cbor has no simple value or float of head 0x{head:02x}")
    return (False, True, None)[head - 0xF4], at + 1


def _read_map(data: bytes, at: int, count: int, depth: int) -> tuple[dict[str, Any], int]:
    items: dict[str, Any] = {}
    previous: tuple[int, bytes] | None = None
    for _ in range(count):
        if data[at] >> 5 != 3:
            raise MalformedCbor("dag-cbor map keys must be strings")
        length, at = _read_head(data, at)
        key, at = _take(data, at, length)
        if previous is not None and previous >= (length, key):
            raise MalformedCbor("dag-cbor map keys must be sorted and unique")
        previous = (length, key)
        items[key.decode()], at = _read_item(data, at, depth + 1)
    return items, at


def _read_link(data: bytes, at: int, tag: int) -> tuple[Link, int]:
    if tag != 42 or data[at] >> 5 != 2:
        raise MalformedCbor("dag-cbor allows no tag but 42, on a byte string")
    length, at = _read_head(data, at)
    raw, end = _take(data, at, length)
    if not raw.startswith(b"\0"):
        raise MalformedCbor("dag-cbor link lacks its leading zero byte")
    cids.decode(raw[1:])
    return Link(raw[1:]), end


def _take(data: bytes, at: int, length: int) -> tuple[bytes, int]:
    end = at + length
    if end > len(data):
        raise MalformedCbor("dag-cbor is cut short")
    return data[at:end], end


# ------------------------------------------------------------------------------------- encoder


def _write_item(parts: list[bytes], value: Any, depth: int) -> None:
    if isinstance(value, Link):
        parts.append(_LINK_TAG + _head(2, len(value.cid) + 1) + b"\0")
        parts.append(value.cid)
    elif value is None or isinstance(value, bool):
        parts.append(_SIMPLE[value])
    elif isinstance(value, int):
        if not -_INTEGER_MAX - 1 <= value <= _INTEGER_MAX:
            raise InvalidParameter(f"dag-cbor integers have 64 bits, {value} has more")
        parts.append(_head(0, value) if value >= 0 else _head(1, -1 - value))
    elif isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        parts += (_head(2, len(data)), data)
    elif isinstance(value, str):
        data = _utf8(value)
        parts += (_head(3, len(data)), data)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidParameter(f"dag-cbor cannot hold {value}")
        parts.append(struct.pack(">Bd", 0xFB, value))
    elif depth == DEPTH_MAX:
        raise InvalidParameter(f"value is nested deeper than {DEPTH_MAX} levels (flatten it)")
    elif isinstance(value, list | tuple):
        parts.append(_head(4, len(value)))
        for item in value:
            if type(item) is bytes:
                parts.append(_head(2, len(item)))
                parts.append(item)
            elif type(item) is int and 0 <= item <= _INTEGER_MAX:
                parts.append(_head(0, item))
            elif type(item) is Link and len(item.cid) == 36:
                parts.append(_COMMON_LINK_HEAD)
                parts.append(item.cid)
            else:
                _write_item(parts, item, depth + 1)
    elif isinstance(value, dict):
        _write_map(parts, value, depth)
    else:
        raise InvalidParameter(f"dag-cbor cannot hold a {type(value).__name__}")


def _write_map(parts: list[bytes], value: dict[str, Any], depth: int) -> None:
    parts.append(_head(5, len(value)))
    keys = [(len(raw), raw, key) for key in value for raw in (_utf8(key),)]
    for length, raw, key in sorted(keys):
        parts += (_head(3, length), raw)
        _write_item(parts, value[key], depth + 1)


def _utf8(text: str) -> bytes:
    if not isinstance(text, str):
        raise InvalidParameter(f"dag-cbor map keys are strings, not {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidParameter("dag-cbor strings are UTF-8 (use bytes)") from None


def _head(major: int, argument: int) -> bytes:
    if argument < 0x100:
        return _SMALL_HEADS[major][argument]
    if argument < 0x10000:
        return struct.pack(">BH", major << 5 | 25, argument)
    if argument < 0x100000000:
        return struct.pack(">BI", major << 5 | 26, argument)
    return struct.pack(">BQ", major << 5 | 27, argument)


_SMALL_HEADS = tuple(
    tuple(
        bytes((major << 5 | argument,)) if argument < 24 else bytes((major << 5 | 24, argument))
        for argument in range(0x100)
    )
    for major in range(7)
)
