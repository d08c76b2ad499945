"""What all implementations do alike: look at arguments, collect a batch."""

from __future__ import annotations

from collections.abc import Callable

from datastore.errors import BatchSpent, InvalidKey, InvalidValue
from datastore.interface import BytesLike
from datastore.key import Key

Changes = dict[Key, bytes | None]
"""Key -> its new value, or None to delete it."""


def checked(key: Key) -> Key:
    """Raises InvalidKey unless it is a key."""
    if not isinstance(key, Key):
        raise InvalidKey(f"a key is a Key, not {type(key).__name__} (write Key({key!r}))")
    return key


def storable(key: Key) -> Key:
    """Raises InvalidKey unless something can be stored under it."""
    if checked(key).is_root:
        raise InvalidKey("nothing is stored under the root (give the key a name)")
    return key


def frozen(value: BytesLike) -> bytes:
    """The value as it is now. Raises InvalidValue."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise InvalidValue(value)


class PendingBatch:
    """A Batch; see `datastore.interface`. `apply` makes the changes of a commit."""

    def __init__(self, apply: Callable[[Changes], None]) -> None:
        self._apply = apply
        self._changes: Changes = {}
        self._is_spent = False

    def put(self, key: Key, value: BytesLike) -> None:
        self._add(storable(key), frozen(value))

    def delete(self, key: Key) -> None:
        self._add(checked(key), None)

    def _add(self, key: Key, value: bytes | None) -> None:
        self._check()
        self._changes[key] = value

    def commit(self) -> None:
        self._check()
        self._apply(self._changes)
        self._changes, self._is_spent = {}, True

    def _check(self) -> None:
        if self._is_spent:
            raise BatchSpent
