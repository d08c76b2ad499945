"""Changes that a power cut takes or leaves together: new values, replaced values, deletions.

    group := ... | tombstones of the old records | the new records | ...

Invariants
- All records of a batch are in one group, so recovery finds all of them or none: a key that is
  replaced has its old value or its new one, and is never missing.
- Tombstones come first. They name physical records, so replay removes the old record before it
  meets the new one of the same key, and never takes the new one for a compaction's copy.
- A value that is stored already is not written again.
"""

from __future__ import annotations

from collections.abc import Mapping
from zlib import crc32

from blkdev import format as fmt
from blkdev.catalog import Catalog
from blkdev.errors import BlockDamaged, KeyTooLarge, ValueTooLarge
from blkdev.index import fingerprint_of
from blkdev.ledger import frozen
from blkdev.log import DATA, RELEASE, Draft, Log, tombstones_of
from blkdev.reader import Reader
from blkdev.segment import Volume

Changes = Mapping[bytes, fmt.BytesLike | None]
"""Key -> its new value, or None to delete it."""

_SLACK_BYTES = 2048
"""Beside the largest value: its header, its key, and the tombstone of what it replaces."""


def batch_size_max_bytes(value_size_max_bytes: int) -> int:
    """What the changes of one batch may cost together: any one change always fits."""
    return value_size_max_bytes + _SLACK_BYTES


def cost_bytes(key: bytes, value: fmt.BytesLike | None) -> int:
    """What one change counts in its batch: its record, and the tombstone of an older one."""
    record = 0 if value is None else fmt.record_size(len(key), len(value))
    return record + fmt.TOMBSTONE.size_bytes


class Batch:
    """Changes of an open store, checked; `write` makes them. `right` is what they may use of a full
    store (see blkdev/log.py): deletions alone work there.
    """

    def __init__(
        self, changes: Changes, volume: Volume, catalog: Catalog, log: Log, reader: Reader
    ) -> None:
        """Raises KeyTooLarge, ValueTooLarge."""
        self._salt = volume.index_salt
        self._catalog = catalog
        self._log = log
        self._reader = reader
        self._blocks: dict[bytes, Draft | None] = {}
        value_max, cost = volume.geometry.value_size_max_bytes, 0
        for key, value in changes.items():
            if not 0 < len(key) <= fmt.KEY_SIZE_MAX_BYTES:
                raise KeyTooLarge(f"a key has 1 to {fmt.KEY_SIZE_MAX_BYTES} bytes, not {len(key)}")
            if value is not None and len(value) > value_max:
                raise ValueTooLarge(f"value of {len(value)} bytes; this store takes {value_max}")
            cost += cost_bytes(key, value)
            self._blocks[key] = None if value is None else self._draft_of(key, frozen(value))
        if cost > batch_size_max_bytes(value_max):
            raise ValueTooLarge(f"{len(changes)} changes at once are too much (split the batch)")
        self.right = DATA if any(self._blocks.values()) else RELEASE

    def _draft_of(self, key: bytes, value: bytes | memoryview) -> Draft:
        fingerprint = fingerprint_of(key, self._salt)
        return Draft(fmt.KIND_BLOCK, key, value, crc32(value), fingerprint)

    def write(self) -> int:
        """Stage the records that bring the store there; how many. Raises StoreFull."""
        with self._log.write_lock:
            dead: dict[int, int] = {}
            new: list[Draft] = []
            for key, block in self._blocks.items():
                old, is_stored = self._old(key, block)
                if is_stored and len(old) == 1:
                    continue
                dead.update(old)
                if block is not None:
                    new.append(block)
            drafts = [*self._tombstones(dead), *new]
            if drafts:
                self._log.append(drafts, self.right)
            return len(drafts)

    def _old(self, key: bytes, block: Draft | None) -> tuple[dict[int, int], bool]:
        """Records that go (location -> fingerprint); whether one of them is as the key shall be."""
        fingerprint = fingerprint_of(key, self._salt)
        old: dict[int, int] = {}
        is_stored = False
        for location in self._catalog.index.locations(fingerprint):
            found = self._reader.key_at(location)
            # A damaged record with the key's fingerprint goes as well, as in a deletion.
            if found is None or found[1] == key:
                old[location] = fingerprint
                is_stored = found is not None and self._is_value(found[0], block)
        return old, is_stored

    def _is_value(self, header: fmt.Row, block: Draft | None) -> bool:
        """Whether the key's record holds the value already; read only where it is likely."""
        if block is None or header.value_checksum != block.value_checksum:
            return False
        try:
            return self._reader.value(block.key) == block.value
        except BlockDamaged:
            return False

    def _tombstones(self, dead: dict[int, int]) -> list[Draft]:
        items, most = list(dead.items()), fmt.TOMBSTONES_PER_RECORD_MAX
        chunks = [items[at : at + most] for at in range(0, len(items), most)]
        return [tombstones_of(dict(chunk), self._catalog) for chunk in chunks]
