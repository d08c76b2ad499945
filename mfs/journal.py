"""The journal: how `fsync` is durable without a flush. Format: `docs/formats/journal.md`.

A batch says what became true since the batch before it, in absolute values: rows of the table,
where files were cut, which leaves became blocks, and bytes that were written. It covers everything
unflushed in the root, so what a crash leaves is always the state at one moment, never a name
without its data. Each changed byte is in one batch.

A batch is one or more records of the stream; only a batch with its last record counts. A head says
up to which batch it contains them, so replaying is harmless however often it is done.

Fit for one batch per operation: a batch of one row and one range costs its bytes and some 30 more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from ipld import dagcbor
from ipld.errors import IpldError
from ipld.filedag import FileLink
from mfs import records
from mfs.content import Layer
from mfs.core import Core
from mfs.errors import JournalDamaged, NewerFormat, NoSpace
from mfs.flush import flush
from mfs.node import Inode
from mfs.pressure import has_room_twice
from repo.errors import StoreFull
from repo.service import Repo

_log = logging.getLogger(__name__)
FORMAT_VERSION = 1
RECORD_SIZE_BYTES = 1 << 20
"""A record is closed once it is this large; with its last item it stays below 4 MiB."""
BATCH_SIZE_MAX_BYTES = 16 << 20
"""More than this is flushed instead: written as blocks, it is written once. So is what the store
has no room for twice, in the journal and then as blocks."""

TOTALS, ROW, CUT, LEAF, BYTES = range(5)
"""What an item is about; the first element of each."""

Item = list[Any]


def commit(core: Core) -> None:
    """Everything done in this tree so far survives a power cut once this returns.

    Raises NoSpace, StoreFailed, and what a flush raises.
    """
    with core.durability:
        with core.lock:
            size = _fresh_size(core)
            too_much = size > BATCH_SIZE_MAX_BYTES or not has_room_twice(core, size)
            items = [] if too_much else _capture(core)
        if too_much:
            flush(core)
        elif items:
            _append(core, items)
    # Outside the lock, so that callers who come together share one flush of the device.
    core.repo.commit()


def _append(core: Core, items: list[Item]) -> None:
    core.journal_seq += 1
    journal = core.repo.journal(core.head.root_id)
    try:
        for record in encode_batch(core.journal_seq, items):
            core.journal_end = journal.append(record)
    except BaseException as error:
        # A part of a batch may be in the journal: it will never be complete, and is passed over.
        # The next batch has its number, so that a number that is missing means a batch was lost.
        core.journal_seq -= 1
        with core.lock:
            core.mark_all_fresh()
        if isinstance(error, StoreFull):
            raise NoSpace from error
        raise


# ------------------------------------------------------------------------------ capture


def _fresh_size(core: Core) -> int:
    """Bytes of content that a batch would have."""
    total = 0
    for inode in core.state.fresh.values():
        if inode is not None and inode.content is not None:
            layer = inode.content.active
            for index in layer.fresh:
                total += sum(end - start for start, end in layer.leaves[index].fresh)
    return total


def _capture(core: Core) -> list[Item]:
    """Items for everything fresh, which is then not fresh any more."""
    state = core.state
    if not (state.fresh or state.entries.fresh or state.links.fresh):
        return []
    items: list[Item] = [[TOTALS, *state.totals]]
    for ino, inode in state.fresh.items():
        value = None if inode is None else records.encode_inode(inode.to_record())
        items.append([ROW, records.inode_key(ino), value])
    for rows in (state.entries, state.links):
        items += [[ROW, key, value] for key, value in rows.fresh.items()]
        rows.fresh = {}
    for inode in state.fresh.values():
        if inode is not None and inode.content is not None:
            items += _content_items(inode)
    state.fresh = {}
    return items


def _content_items(inode: Inode) -> list[Item]:
    assert inode.content is not None, "the caller looked"
    layer = inode.content.active
    items: list[Item] = []
    if layer.cut is not None:
        items.append([CUT, inode.ino, layer.cut])
        layer.cut = None
    for index in sorted(layer.fresh):
        leaf = layer.leaves[index]
        if leaf.under_fresh and isinstance(leaf.under, FileLink):
            cid, tsize, size = leaf.under
            items.append([LEAF, inode.ino, index, dagcbor.Link(cid), tsize, size, leaf.under_limit])
            leaf.under_fresh = False
        first = index * layer.chunk_size
        items += [[BYTES, inode.ino, first + at, data] for at, data in leaf.fresh_pieces()]
        leaf.fresh.clear()
    layer.fresh.clear()
    return items


# -------------------------------------------------------------------------------- codec


def encode_batch(seq: int, items: list[Item]) -> Iterator[bytes]:
    """The records of one batch."""
    part: list[Item] = []
    number = size = 0
    for item in items:
        part.append(item)
        size += 32 + sum(len(field) for field in item if isinstance(field, bytes))
        if size >= RECORD_SIZE_BYTES:
            yield dagcbor.encode([FORMAT_VERSION, seq, number, False, part])
            part, number, size = [], number + 1, 0
    yield dagcbor.encode([FORMAT_VERSION, seq, number, True, part])


def decode_batches(stored: Iterator[bytes]) -> Iterator[tuple[int, list[Item]]]:
    """Number and items of each complete batch; parts of others are passed over.

    Raises JournalDamaged, NewerFormat.
    """
    items: list[Item] = []
    expected = (0, 0)
    for record in stored:
        seq, number, is_last, part = _decode_record(record)
        if number == 0:
            items = []
        elif (seq, number) != expected:
            continue
        items += part
        expected = (seq, number + 1)
        if is_last:
            yield seq, items
            items, expected = [], (0, 0)


def _decode_record(record: bytes) -> tuple[int, int, bool, list[Item]]:
    try:
        fields = dagcbor.decode(record)
    except IpldError as error:
        raise JournalDamaged(f"journal record: {error} (restore a snapshot)") from error
    if not isinstance(fields, list) or not fields or type(fields[0]) is not int:
        raise JournalDamaged("journal record: not a record of a journal (restore a snapshot)")
    if fields[0] > FORMAT_VERSION:
        raise NewerFormat(f"journal record of version {fields[0]} (update this program)")
    if [*map(type, fields)] != [int, int, int, bool, list]:
        raise JournalDamaged("journal record: not the fields of a record (restore a snapshot)")
    _, seq, number, is_last, part = fields
    for item in part:
        if not isinstance(item, list) or not item or _KINDS.get((*map(type, item),)) != item[0]:
            raise JournalDamaged("journal record: not an item of a batch (restore a snapshot)")
    return seq, number, is_last, part


_KINDS: dict[tuple[type, ...], int] = {
    (int, int, int, int): TOTALS,
    (int, bytes, bytes): ROW,
    (int, bytes, type(None)): ROW,
    (int, int, int): CUT,
    (int, int, int, dagcbor.Link, int, int, int): LEAF,
    (int, int, int, bytes): BYTES,
}
"""The kind of an item by the types of its elements."""


# ------------------------------------------------------------------------------- replay


def replay(core: Core) -> bool:
    """Do again what the journal has and the head has not; False when that is nothing.

    The tree is dirty afterwards: flush it, so that the journal is trimmed. Raises JournalDamaged,
    NewerFormat. Called before anybody else has the tree.
    """
    journal = core.repo.journal(core.head.root_id)

    def stored() -> Iterator[bytes]:
        for position, record in journal.replay():
            core.journal_end = position
            yield record

    changed = lost = False
    for seq, items in decode_batches(stored()):
        if seq > core.journal_seq + 1 and not lost:
            # What follows builds on what is gone: with it, the tree would be one that never was.
            lost = True
            _log.error("root %s: batch %d of its journal is lost; the tree is as before it",
                       core.head.root_id, core.journal_seq + 1)  # fmt: skip
        if seq > core.head.journal_seq and not lost:
            for item in items:
                _apply(core, item)
            core.journal_seq = seq
            changed = True
    return changed


def discard(repo: Repo, root_id: int) -> None:
    """Drop all that the journal of a root has; durable with the next commit."""
    journal = repo.journal(root_id)
    positions = [position for position, _ in journal.replay()]
    if positions:
        journal.trim(positions[-1])


def _apply(core: Core, item: Item) -> None:
    core.note_change()
    kind, values = item[0], item[1:]
    if kind == TOTALS:
        core.state.next_ino, core.state.inode_count, core.state.used_bytes = values
    elif kind == ROW:
        _apply_row(core, *values)
    elif kind == CUT:
        ino, size = values
        _change(core, ino, lambda layer: layer.truncate(size))
    elif kind == LEAF:
        ino, index, link, tsize, size, limit = values
        assert core.lease is not None, "a change was noted"
        # The block was written before the lease was opened, and no ref reaches it.
        core.lease.keep((link.cid,))
        leaf = FileLink(link.cid, tsize, size)
        _change(core, ino, lambda layer: layer.put_link(index, leaf, limit))
    else:
        ino, offset, data = values
        _change(core, ino, lambda layer: layer.write(offset, memoryview(data), {}))


def _apply_row(core: Core, key: bytes, value: bytes | None) -> None:
    state = core.state
    prefix = key[:1]
    if prefix == records.INODES:
        record = None if value is None else records.decode_inode(value)
        ino = records.parse_number(key[1:])
        known = state.cached(ino)
        if record is None and known is not None:
            core.drop_content(known)
        state.restore(ino, record)
    elif prefix == records.ENTRIES:
        state.entries.restore(key, value)
    elif prefix == records.LINKS:
        state.links.restore(key, value)
    else:
        raise JournalDamaged(f"journal row of unknown kind {prefix!r} (restore a snapshot)")


def _change(core: Core, ino: int, change: Callable[[Layer], object]) -> None:
    content = core.content(core.state.inode(ino))
    before = content.memory_bytes
    change(content.active)
    core.memory_bytes += content.memory_bytes - before
