"""A bounded map of what was used recently, cheap enough for the path of every block read.

Two generations instead of a list in order of use: entries enter the young one; when it holds half
of the capacity it becomes the old one, and what was in the old one is forgotten unless it was used
since. A hit in the young generation takes no lock and moves nothing, and an entry that is used at
all between two turns survives.

Invariant: the young generation weighs at most half of the capacity after every `put`, so both
together weigh at most the capacity (plus one entry that is heavier than half by itself).
"""

from __future__ import annotations

from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Thread-safe. Weights are whatever the caller counts in: entries, bytes."""

    __slots__ = ("_half", "_lock", "_old", "_weight", "_young")

    def __init__(self, capacity: int) -> None:
        self._half = max(1, capacity // 2)
        self._lock = Lock()
        self._young: dict[Key, tuple[Value, int]] = {}
        self._old: dict[Key, tuple[Value, int]] = {}
        self._weight = 0

    def get(self, key: Key) -> Value | None:
        """The value, or None when it was never put or is forgotten."""
        entry = self._young.get(key)
        if entry is not None:
            return entry[0]
        if key not in self._old:
            return None
        with self._lock:
            # Looked up again under the lock: a `discard` since the test above must stay discarded.
            entry = self._old.pop(key, None)
            if entry is not None:
                self._insert(key, entry)
                return entry[0]
            entry = self._young.get(key)
            return None if entry is None else entry[0]

    def put(self, key: Key, value: Value, weight: int = 1) -> None:
        """Remember a value, perhaps forgetting others."""
        with self._lock:
            if key in self._young or key in self._old:
                self._remove(key)
            self._insert(key, (value, weight))

    def discard(self, key: Key) -> None:
        """Forget one entry; fine when there is none."""
        with self._lock:
            self._remove(key)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._young, self._old, self._weight = {}, {}, 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def _insert(self, key: Key, entry: tuple[Value, int]) -> None:
        self._young[key] = entry
        self._weight += entry[1]
        if self._weight > self._half:
            # A fresh dict, not a cleared one: readers without the lock keep a consistent view.
            self._old, self._young, self._weight = self._young, {}, 0

    def _remove(self, key: Key) -> None:
        entry = self._young.pop(key, None)
        if entry is not None:
            self._weight -= entry[1]
        self._old.pop(key, None)
