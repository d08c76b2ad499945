"""The metadata of one tree in memory: inodes and rows that changed, above the stored table.

    changed        since the last flush began
    frozen         the same of a flush that is running
    table          as of the last flush

Reading looks through them in this order. `fresh` is what no journal batch has, a part of what
changed; after a batch or a flush that failed it is all of it.

Invariants
- There is at most one `Inode` object for a number. It stays in memory while it is changed, frozen
  or open; others are forgotten when the cache is full.
- A number is in `changed` or `frozen` with None once its inode is deleted, so that the table is not
  asked for it any more.

The owner's lock guards everything here. Reading from the table may read blocks under that lock:
they are small, and local.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from typing import NamedTuple

from mfs import records
from mfs.errors import StaleInode
from mfs.node import Inode, InodeRecord
from mfs.table import Table

INODE_CACHE_COUNT = 8_000
"""Inodes kept in memory, beside those that must stay: about 6 MB."""
_SWEEP_STEP_COUNT = 4_000

Row = tuple[bytes, bytes]
Changes = dict[bytes, bytes | None]


class Rows:
    """The rows of one letter, by the inode that owns them and the rest of their key."""

    __slots__ = ("_changed", "_frozen", "_prefix", "fresh")

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._changed: dict[int, Changes] = {}
        self._frozen: dict[int, Changes] = {}
        self.fresh: Changes = {}

    def key(self, owner: int, suffix: bytes) -> bytes:
        """The key in the table."""
        return self._prefix + records.number(owner) + suffix

    def get(self, table: Table, owner: int, suffix: bytes) -> bytes | None:
        """The value as of now."""
        for layer in (self._changed, self._frozen):
            of_owner = layer.get(owner)
            if of_owner is not None and suffix in of_owner:
                return of_owner[suffix]
        return table.lookup(self.key(owner, suffix))

    def is_removed(self, owner: int, suffix: bytes) -> bool:
        """Whether it was removed since the last flush, so that the DAG may still have it."""
        for layer in (self._changed, self._frozen):
            of_owner = layer.get(owner)
            if of_owner is not None and suffix in of_owner:
                return of_owner[suffix] is None
        return False

    def set(self, owner: int, suffix: bytes, value: bytes | None) -> None:
        """Set or, with None, remove a row."""
        self._changed.setdefault(owner, {})[suffix] = value
        self.fresh[self.key(owner, suffix)] = value

    def restore(self, key: bytes, value: bytes | None) -> None:
        """Set a row as a journal batch has it."""
        self._changed.setdefault(records.parse_number(key[1:9]), {})[key[9:]] = value

    def scan(self, table: Table, owner: int) -> Iterator[Row]:
        """Suffix and value of all rows of an owner, ascending; nothing may change meanwhile."""
        changes = {**self._frozen.get(owner, {}), **self._changed.get(owner, {})}
        first = self.key(owner, b"")
        stored = (
            (key[9:], value)
            for key, value in table.range(first, self._prefix + records.number(owner + 1))
            if key[9:] not in changes
        )
        updated = [(suffix, value) for suffix, value in changes.items() if value is not None]
        return merge(stored, sorted(updated)) if updated else stored

    def freeze(self) -> dict[int, Changes]:
        """Begin a flush: hand out what changed."""
        self._frozen, self._changed = self._changed, {}
        self.fresh = {}
        return self._frozen

    def settle(self) -> None:
        """The flush went well."""
        self._frozen = {}

    def thaw(self) -> None:
        """The flush failed: everything is unflushed again."""
        for owner, changes in self._changed.items():
            self._frozen.setdefault(owner, {}).update(changes)
        self._changed, self._frozen = self._frozen, {}

    def mark_all_fresh(self) -> None:
        """All that is unflushed belongs into the next batch."""
        self.fresh = {
            self.key(owner, suffix): value
            for owner, changes in self._changed.items()
            for suffix, value in changes.items()
        }


class Totals(NamedTuple):
    """Counters of a root, kept with its head. Counts of what only the DAG knows are estimates."""

    next_ino: int
    inode_count: int
    used_bytes: int


class State:
    """See the module. `table` is replaced by `settle`."""

    def __init__(self, table: Table, totals: Totals) -> None:
        self.table = table
        self.entries = Rows(records.ENTRIES)
        self.links = Rows(records.LINKS)
        self.next_ino, self.inode_count, self.used_bytes = totals
        self.changed: dict[int, Inode | None] = {}
        self.frozen: dict[int, InodeRecord | None] = {}
        self.fresh: dict[int, Inode | None] = {}
        self.orphans: dict[int, Inode] = {}
        """Deleted and still open: in no table, in no DAG, and alive."""
        self._inodes: dict[int, Inode] = {}
        self._sweep_at = INODE_CACHE_COUNT

    @property
    def totals(self) -> Totals:
        """As a head has them: files that are only open count for now, and not after a crash."""
        orphaned = sum(inode.size for inode in self.orphans.values() if inode.is_file)
        return Totals(self.next_ino, self.inode_count, max(0, self.used_bytes - orphaned))

    def inode(self, ino: int) -> Inode:
        """The inode of a number. Raises StaleInode."""
        inode = self._inodes.get(ino)
        if inode is None:
            return self._load(ino)
        inode.used = True
        return inode

    def cached(self, ino: int) -> Inode | None:
        """The inode if it is in memory. The only method that needs no lock."""
        return self._inodes.get(ino)

    def _load(self, ino: int) -> Inode:
        if ino in self.changed or ino in self.frozen:
            raise StaleInode(ino)
        value = self.table.lookup(records.inode_key(ino))
        if value is None:
            raise StaleInode(ino)
        return self.adopt(ino, records.decode_inode(value))

    def adopt(self, ino: int, record: InodeRecord) -> Inode:
        """Make the object of an inode that is stored, or that a journal batch has."""
        if len(self._inodes) >= self._sweep_at:
            self._sweep()
        inode = self._inodes[ino] = Inode(ino, record)
        return inode

    def create(self, record: InodeRecord) -> Inode:
        """A new inode with the next number."""
        inode = self.adopt(self.next_ino, record)
        self.next_ino += 1
        self.inode_count += 1
        self.used_bytes += record.size if inode.is_file else 0
        self.touch(inode)
        return inode

    def touch(self, inode: Inode) -> None:
        """It changed."""
        # What nobody can find any more is not stored, except in memory while it is open.
        if inode.nlink:
            self.changed[inode.ino] = inode
            self.fresh[inode.ino] = inode

    def delete(self, inode: Inode) -> None:
        """Its last name is gone: forget it in the table; the object lives on while it is open."""
        ino = inode.ino
        self.changed[ino] = None
        self.fresh[ino] = None
        self.inode_count = max(1, self.inode_count - 1)
        if inode.opens:
            self.orphans[ino] = inode
        else:
            self.forget(inode)

    def forget(self, inode: Inode) -> None:
        """Drop the object of a deleted inode."""
        self.orphans.pop(inode.ino, None)
        self._inodes.pop(inode.ino, None)
        if inode.is_file:
            self.used_bytes = max(0, self.used_bytes - inode.size)

    def restore(self, ino: int, record: InodeRecord | None) -> None:
        """Set or remove an inode as a journal batch has it; its content in memory stays."""
        known = self._inodes.pop(ino, None)
        self.changed[ino] = None
        if record is not None:
            inode = self.changed[ino] = self.adopt(ino, record)
            inode.content = known.content if known else None

    # ------------------------------------------------------------------------------ flushing

    def freeze(self) -> dict[int, InodeRecord | None]:
        """Begin a flush of the inodes: hand out what changed."""
        self.frozen = {
            ino: None if inode is None else inode.to_record() for ino, inode in self.changed.items()
        }
        self.changed = {}
        self.fresh = {}
        return self.frozen

    def settle(self, table: Table) -> None:
        """The flush went well and is in `table`."""
        self.table = table
        self.frozen = {}
        self.entries.settle()
        self.links.settle()

    def shrink(self) -> None:
        """Forget clean inodes down to what the cache may hold. No operation may be going on."""
        for _ in range(2):
            if len(self._inodes) > INODE_CACHE_COUNT:
                self._sweep()

    def thaw(self) -> None:
        """The flush failed."""
        for ino, record in self.frozen.items():
            if ino not in self.changed:
                self.changed[ino] = None if record is None else self._inodes[ino]
        self.frozen = {}
        self.entries.thaw()
        self.links.thaw()

    def mark_all_fresh(self) -> None:
        """All that is unflushed belongs into the next batch."""
        self.fresh = dict(self.changed)
        self.entries.mark_all_fresh()
        self.links.mark_all_fresh()

    def _sweep(self) -> None:
        """Forget clean inodes that were not used since the last sweep.

        Those of the operation that is going on were used, so they stay.
        """
        for ino, inode in list(self._inodes.items()):
            if inode.opens or ino in self.changed or ino in self.frozen:
                continue
            if inode.used:
                inode.used = False
            else:
                del self._inodes[ino]
        # However little that freed: a sweep for each new inode would cost more than the memory.
        self._sweep_at = max(INODE_CACHE_COUNT, len(self._inodes)) + _SWEEP_STEP_COUNT
