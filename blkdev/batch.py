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

from blkdev import format as fmt
from blkdev.catalog import Catalog
from blkdev.checksum import crc32
from blkdev.draft import Draft, tombstones_of
from blkdev.errors import BlockDamaged, KeyTooLarge, ValueTooLarge
from blkdev.index import fingerprint_of
from blkdev.ledger import frozen
from blkdev.reader import Reader

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


def check(changes: Changes, value_size_max_bytes: int) -> None:
    """Raises KeyTooLarge, ValueTooLarge."""
    cost = 0
    for key, value in changes.items():
        if not 0 < len(key) <= fmt.KEY_SIZE_MAX_BYTES:
            raise KeyTooLarge(f"a key has 1 to {fmt.KEY_SIZE_MAX_BYTES} bytes, not {len(key)}")
        cost += cost_bytes(key, value)
        if value is not None and len(value) > value_size_max_bytes:
            raise ValueTooLarge(
                f"value of {len(value)} bytes; this store takes {value_size_max_bytes}"
            )
    if cost > batch_size_max_bytes(value_size_max_bytes):
        raise ValueTooLarge(f"{len(changes)} changes at once are too much (split the batch)")


def blocks_of(changes: Changes, salt: int) -> dict[bytes, Draft | None]:
    """The record that each key shall have."""
    blocks: dict[bytes, Draft | None] = dict.fromkeys(changes)
    for key, value in changes.items():
        if value is not None:
            kept, fingerprint = frozen(value), fingerprint_of(key, salt)
            blocks[key] = Draft(fmt.KIND_BLOCK, key, kept, crc32(kept), fingerprint)
    return blocks


def drafts_of(
    blocks: Mapping[bytes, Draft | None], catalog: Catalog, reader: Reader, salt: int
) -> list[Draft]:
    """The records that bring the store there: tombstones, then blocks. The caller holds the write
    lock from here until they are appended.
    """
    dead: dict[int, int] = {}
    new: list[Draft] = []
    for key, block in blocks.items():
        fingerprint = fingerprint_of(key, salt)
        old: dict[int, int] = {}
        is_stored = False
        for location in catalog.index.locations(fingerprint):
            found = reader.key_at(location)
            # A damaged record with the key's fingerprint goes as well, as in a deletion.
            if found is None or found[1] == key:
                old[location] = fingerprint
                is_stored = found is not None and _is_value(found[0], block, reader)
        if is_stored and len(old) == 1:
            continue
        dead.update(old)
        if block is not None:
            new.append(block)
    return [*tombstones_of(dead, catalog), *new]


def _is_value(header: fmt.Row, block: Draft | None, reader: Reader) -> bool:
    """Whether the key's record holds the block's value already; read only where it is likely."""
    if block is None or header.value_checksum != block.value_checksum:
        return False
    try:
        return reader.value(block.key) == block.value
    except BlockDamaged:
        return False
