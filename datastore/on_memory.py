"""A datastore in memory: for tests, and for what need not last."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock

from datastore.errors import KeyNotFound, StoreClosed
from datastore.interface import BytesLike, Finding
from datastore.key import ROOT, Key
from datastore.pending import Changes, PendingBatch, checked, frozen, storable
from datastore.query import EVERYTHING, Entry, Query, answer


class MemoryDatastore:
    """A Datastore; see `datastore.interface`. A batch is atomic. Nothing survives the process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._values: dict[Key, bytes] = {}
        self._is_closed = False

    def get(self, key: Key) -> bytes:
        with self._lock:
            self._check_open()
            value = self._values.get(checked(key))
        if value is None:
            raise KeyNotFound(key)
        return value

    def has(self, key: Key) -> bool:
        with self._lock:
            self._check_open()
            return checked(key) in self._values

    def get_size(self, key: Key) -> int:
        return len(self.get(key))

    def put(self, key: Key, value: BytesLike) -> None:
        self._apply({storable(key): frozen(value)})

    def delete(self, key: Key) -> None:
        self._apply({checked(key): None})

    def query(self, query: Query = EVERYTHING) -> Iterator[Entry]:
        with self._lock:
            self._check_open()
            keys = list(self._values)
        return answer(query, keys, self.get, self.get_size)

    def batch(self) -> PendingBatch:
        return PendingBatch(self._apply)

    def _apply(self, changes: Changes) -> None:
        with self._lock:
            self._check_open()
            for key, value in changes.items():
                if value is None:
                    self._values.pop(key, None)
                else:
                    self._values[key] = value

    def sync(self, prefix: Key = ROOT) -> None:
        checked(prefix)
        self._check_open()

    def disk_usage(self) -> int:
        """Bytes of keys and values: what they would take on a disk."""
        with self._lock:
            self._check_open()
            return sum(len(key.raw) + len(value) for key, value in self._values.items())

    def collect_garbage(self) -> int:
        self._check_open()
        return 0

    def check(self) -> list[Finding]:
        self._check_open()
        return []

    def scrub(self) -> list[Finding]:
        self._check_open()
        return []

    def close(self) -> None:
        self._is_closed = True

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreClosed
