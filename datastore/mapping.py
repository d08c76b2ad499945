"""How keys and values of a datastore become keys and values of the engine.

Twin of docs/formats/datastore.md; tests/datastore/test_format_doc.py compares the two.
"""

from __future__ import annotations

import hashlib
from typing import Final

from datastore.key import KEY_SIZE_MAX_BYTES

FORMAT_VERSION: Final = 1
MARK: Final = b"datastore"
"""The engine's name that says whose keys these are; its value is the version, one byte."""

SHORT: Final = b"/"
"""First byte of a key that fits: it is the key's own."""
LONG: Final = b"~"
"""First byte of the digest of one that does not."""
SHORT_KEY_SIZE_MAX_BYTES: Final = 64
LENGTH_SIZE_BYTES: Final = 2
FRONT_SIZE_MAX_BYTES: Final = LENGTH_SIZE_BYTES + KEY_SIZE_MAX_BYTES

assert 1 << 8 * LENGTH_SIZE_BYTES > KEY_SIZE_MAX_BYTES


def engine_key(raw: bytes) -> bytes:
    """The engine's key for one of ours."""
    if len(raw) <= SHORT_KEY_SIZE_MAX_BYTES:
        return raw
    return LONG + hashlib.sha256(raw).digest()


def front(raw: bytes) -> bytes:
    """What stands before the value: the key itself, where it did not fit."""
    if len(raw) <= SHORT_KEY_SIZE_MAX_BYTES:
        return b""
    return len(raw).to_bytes(LENGTH_SIZE_BYTES, "little") + raw


def front_size(raw: bytes) -> int:
    """Bytes before the value."""
    fits = len(raw) <= SHORT_KEY_SIZE_MAX_BYTES
    return 0 if fits else LENGTH_SIZE_BYTES + len(raw)


def key_in_front(key: bytes, start: bytes) -> bytes | None:
    """Our key, from the engine's and the first bytes of its value; None when they disagree."""
    length = int.from_bytes(start[:LENGTH_SIZE_BYTES], "little")
    raw = start[LENGTH_SIZE_BYTES : LENGTH_SIZE_BYTES + length]
    is_whole = len(raw) == length and key.startswith(LONG)
    return raw if is_whole and engine_key(raw) == key else None
