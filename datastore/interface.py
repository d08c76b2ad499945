"""What a datastore is, as a protocol. One conformance suite runs on every implementation.

The contract is that of go-datastore, in Python's words: what is missing raises, what is optional
there is always here.

- `put` is visible at once and durable after `sync`. What one `sync` covers, a power cut leaves.
- `put` replaces: readers and power cuts find the old value or the new one, never none.
- Nothing is promised about two puts of different keys between two syncs, and no more about a
  batch than its implementation says.
- A query lists the keys there are when it is called. A value comes as it is when it is read; keys
  deleted meanwhile may be left out.
- Deleting what is not there is no error. Nothing is ever stored under the root.

Everything is thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from datastore.key import ROOT, Key
from datastore.query import EVERYTHING, Entry, Query

BytesLike = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; `key` is None where it cannot be told or is none of a user's."""

    what: str
    key: Key | None = None


class Batch(Protocol):
    """Changes that wait for `commit`; nobody sees them before. For one thread."""

    def put(self, key: Key, value: BytesLike) -> None:
        """Raises InvalidKey, InvalidValue."""

    def delete(self, key: Key) -> None:
        """Raises InvalidKey."""

    def commit(self) -> None:
        """Make the changes, the last one of each key; then the batch is spent.

        A commit that fails can be repeated. Raises BatchSpent, ValueTooLarge, StoreFull.
        """


class Datastore(Protocol):
    """Values by key. All methods raise InvalidKey, StoreClosed and StoreFailed."""

    def get(self, key: Key) -> bytes:
        """Raises KeyNotFound, ValueDamaged."""

    def has(self, key: Key) -> bool: ...

    def get_size(self, key: Key) -> int:
        """Bytes of the value. Raises KeyNotFound."""

    def put(self, key: Key, value: BytesLike) -> None:
        """Raises InvalidValue, ValueTooLarge, StoreFull, StoreReadOnly."""

    def delete(self, key: Key) -> None:
        """Raises StoreReadOnly."""

    def query(self, query: Query = EVERYTHING) -> Iterator[Entry]:
        """Raises ValueDamaged, also while it is read."""

    def batch(self) -> Batch: ...

    def sync(self, prefix: Key = ROOT) -> None:
        """What was changed at or below the prefix survives a power cut when this returns."""

    def disk_usage(self) -> int:
        """Bytes that the store takes where it lies, with what can be reclaimed."""

    def collect_garbage(self) -> int:
        """Give back the space of what was deleted and replaced; bytes given back."""

    def check(self) -> list[Finding]:
        """Read and verify everything, structures as well; writers may have to wait."""

    def scrub(self) -> list[Finding]:
        """Read and verify every value while others work. Raises StoreReadOnly."""

    def close(self) -> None:
        """Sync and let go. A second call does nothing."""
