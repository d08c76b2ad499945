"""A datastore on the device engine: safe from power cuts, every value checked when it is read.

Which key and value of the engine stand for which of ours: `datastore/mapping.py`. A put is one
batch of the engine (`blkdev/batch.py`), so a value is replaced in one step.

A batch of ours takes effect whole, for readers and after a power cut, as long as it fits one batch
of the engine: half a segment, at most 4 MiB. A larger one is split, in the order in which its keys
were first named, and a crash may leave its first parts alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from blkdev import errors as engine
from blkdev.batch import batch_size_max_bytes, cost_bytes
from blkdev.care.check import Finding as EngineFinding
from blkdev.store import Store
from datastore import mapping
from datastore.errors import (
    DatastoreError,
    KeyNotFound,
    NewerDatastore,
    NotADatastore,
    StoreClosed,
    StoreFailed,
    StoreFull,
    StoreReadOnly,
    ValueDamaged,
    ValueTooLarge,
)
from datastore.interface import BytesLike, Finding
from datastore.key import ROOT, Key
from datastore.pending import Changes, PendingBatch, checked, frozen, storable
from datastore.query import EVERYTHING, Entry, Query, answer


def translated(error: engine.StoreError, key: Key | None = None) -> DatastoreError:
    """Our error for one of the engine's, about this key where there is one."""
    if isinstance(error, engine.KeyNotFound) and key is not None:
        return KeyNotFound(key)
    if isinstance(error, engine.BlockDamaged) and key is not None:
        return ValueDamaged(key)
    if isinstance(error, engine.StoreFull):
        return StoreFull()
    if isinstance(error, engine.StoreClosed):
        return StoreClosed()
    if isinstance(error, engine.StoreReadOnly):
        return StoreReadOnly(str(error))
    return StoreFailed(str(error))


class BlkdevDatastore:
    """A Datastore; see `datastore.interface`. Locks: the engine's own."""

    def __init__(self, store: Store) -> None:
        """On an open store, empty or a datastore's, which `close` closes. Open it with reads
        verified, as is the default: nothing else checks the values.

        Raises NotADatastore, NewerDatastore, StoreFailed.
        """
        self._store = store
        self._is_closed = False
        value_max = store.geometry.value_size_max_bytes
        self._batch_size_max_bytes = batch_size_max_bytes(value_max)
        self._value_size_max_bytes = value_max
        try:
            mark = self._claim()
        except engine.StoreError as error:
            raise translated(error) from error
        if mark != bytes([mapping.FORMAT_VERSION]):
            raise NewerDatastore(
                f"{store.device.name} holds a datastore of version {mark.hex()} "
                "(use a newer version of this program)"
            )

    def _claim(self) -> bytes:
        """The mark on the store, set if the store is empty."""
        store, mark = self._store, self._store.name(mapping.MARK)
        if mark is not None:
            return mark
        stats = store.stats()
        if stats.keys or stats.names:
            raise NotADatastore(
                f"{store.device.name} holds no datastore but something else, such as a repository "
                "(open it with ipfs-mfs, or give the datastore another device)"
            )
        mark = bytes([mapping.FORMAT_VERSION])
        # The first record of all, so that no key is ever there without it.
        if not store.read_only:
            store.set_name(mapping.MARK, mark)
        return mark

    def get(self, key: Key) -> bytes:
        raw = checked(key).raw
        try:
            data = self._store.get(mapping.engine_key(raw))
        except engine.StoreError as error:
            raise translated(error, key) from error
        before = mapping.front(raw)
        if not before:
            return data
        if not data.startswith(before):
            raise ValueDamaged(key)
        return data[len(before) :]

    def has(self, key: Key) -> bool:
        """A miss needs no I/O. A record that cannot be read counts as there: `get` says so."""
        try:
            return self._store.has(mapping.engine_key(checked(key).raw))
        except engine.BlockDamaged:
            return True
        except engine.StoreError as error:
            raise translated(error, key) from error

    def get_size(self, key: Key) -> int:
        raw = checked(key).raw
        try:
            return self._store.size_of(mapping.engine_key(raw)) - mapping.front_size(raw)
        except engine.StoreError as error:
            raise translated(error, key) from error

    def put(self, key: Key, value: BytesLike) -> None:
        self._apply({storable(key): frozen(value)})

    def delete(self, key: Key) -> None:
        self._apply({checked(key): None})

    def batch(self) -> PendingBatch:
        return PendingBatch(self._apply)

    def _apply(self, changes: Changes) -> None:
        try:
            for part in self._parts(changes):
                self._store.apply(part)
        except engine.StoreError as error:
            raise translated(error) from error

    def _parts(self, changes: Changes) -> list[dict[bytes, bytes | None]]:
        """The changes as batches of the engine. Raises ValueTooLarge before any is made."""
        parts: list[dict[bytes, bytes | None]] = [{}]
        total = 0
        for key, value in changes.items():
            stored = None if value is None else mapping.front(key.raw) + value
            if stored is not None and len(stored) > self._value_size_max_bytes:
                most = self._value_size_max_bytes - mapping.front_size(key.raw)
                raise ValueTooLarge(
                    f"value of {len(stored)} bytes; this store takes {most} under such a key"
                )
            place = mapping.engine_key(key.raw)
            cost = cost_bytes(place, stored)
            if total + cost > self._batch_size_max_bytes:
                parts.append({})
                total = 0
            total += cost
            parts[-1][place] = stored
        return parts

    def query(self, query: Query = EVERYTHING) -> Iterator[Entry]:
        """One pass over all keys, whatever the prefix. A key that cannot be read is left out;
        `check` tells of it.
        """
        try:
            listing = self._store.keys()
        except engine.StoreError as error:
            raise translated(error) from error
        return answer(query, self._keys(listing), self.get, self.get_size)

    def _keys(self, listing: Iterator[bytes]) -> Iterator[Key]:
        try:
            for place in listing:
                key = self._key_at(place)
                if key is not None:
                    yield key
        except engine.StoreError as error:
            raise translated(error) from error

    def _key_at(self, place: bytes) -> Key | None:
        """Our key for one of the engine's; None when it is gone or cannot be read."""
        if place.startswith(mapping.SHORT):
            return Key.from_raw(place)
        try:
            # Our key in front of the value has the engine's key for a checksum.
            start = self._store.get_part(place, 0, mapping.FRONT_SIZE_MAX_BYTES, damaged_too=True)
        except (engine.KeyNotFound, engine.BlockDamaged):
            return None
        raw = mapping.key_in_front(place, start)
        return None if raw is None else Key.from_raw(raw)

    def sync(self, prefix: Key = ROOT) -> None:
        """Everything is synced, whatever the prefix: there is one log."""
        checked(prefix)
        try:
            self._store.commit()
        except engine.StoreError as error:
            raise translated(error) from error

    def disk_usage(self) -> int:
        """Exact, in constant time: what the log takes, dead records included."""
        if self._is_closed:
            raise StoreClosed
        stats = self._store.stats()
        return stats.used_bytes + stats.staged_bytes

    def collect_garbage(self) -> int:
        try:
            return max(0, self._store.compact().reclaimed_bytes)
        except engine.StoreError as error:
            raise translated(error) from error

    def check(self) -> list[Finding]:
        """Writers and compaction wait meanwhile."""
        try:
            return self._findings(self._store.check().findings)
        except engine.StoreError as error:
            raise translated(error) from error

    def scrub(self) -> list[Finding]:
        """Goes on where the last one was ended; for a slower one see `Store.scrub`."""
        try:
            return self._findings(self._store.scrub().findings)
        except engine.StoreError as error:
            raise translated(error) from error

    def _findings(self, found: list[EngineFinding]) -> list[Finding]:
        """With our keys; a long one that cannot be read is named by its digest."""
        findings: list[Finding] = []
        for each in found:
            ours = each.key.startswith((mapping.SHORT, mapping.LONG))
            key = self._key_at(each.key) if ours else None
            where = f"device offset {each.device_offset}"
            if key is None and each.key:
                where += f", engine key {each.key.hex()}"
            findings.append(Finding(f"{each.what} ({where})", key))
        return findings

    def close(self) -> None:
        self._is_closed = True
        try:
            self._store.close()
        except engine.StoreError as error:
            raise translated(error) from error
