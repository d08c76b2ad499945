"""A snapshot of the catalog on the device, so that opening need not read the whole log.

    stream := head, slot number of each segment used (u32), body
    body := shard (homes u32, used u32)*, index slots, log segments, tombstone counts,
            names, journal streams, summary entries of the segment that was being filled

The stream fills the segments it names, in order, each after its header page.

Invariants
- It is only a shortcut: a missing or damaged checkpoint costs time, never data.
- The superblock names at most one, whose segments are freed only after it names another or none.
- It names only log segments that are in use; before one of those is freed, it is dropped.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from struct import Struct, error
from typing import Any, NamedTuple
from zlib import crc32

from blkdev import format as fmt
from blkdev import superblock
from blkdev.care.bad_slots import with_bad_slots
from blkdev.catalog import Catalog, NameEntry, Stream
from blkdev.index import Index
from blkdev.log import DATA, Log
from blkdev.segment import Volume
from blkdev.shards import slot_count

_SHARD = Struct("<II")
_SLOT = Struct("<I")
_PAIR = Struct("<QQ")
_FLAG_SEALED = 1
_FLAG_COPIED = 2
_INTERVAL_MIN_BYTES = 64 << 20
_INTERVAL_RATIO = 32
"""Log bytes per checkpoint byte: checkpoints add at most about 3 % to what is written."""


class Loaded(NamedTuple):
    """What a checkpoint held. `entries` are those of the segment that was being filled."""

    head: fmt.Row
    catalog: Catalog
    slots: tuple[int, ...]
    entries: array[int]


def slots_needed(volume: Volume, body_size_bytes: int) -> int:
    """Segments that a body of this size takes."""
    per_segment = volume.geometry.segment_size_bytes - fmt.PAGE_SIZE_BYTES - _SLOT.size
    return -(-(fmt.CHECKPOINT_HEAD.size_bytes + body_size_bytes) // per_segment)


def _encode(catalog: Catalog, entries: array[int]) -> tuple[fmt.Row, list[bytes]]:
    """The body in parts, and a head that counts what is in it."""
    image = catalog.index.image()
    body = [_SHARD.pack(homes, used) for homes, used, _ in image]
    body += [bytes(slots) for _, _, slots in image]
    for segment in catalog.segments.values():
        flags = _FLAG_SEALED * segment.sealed | _FLAG_COPIED * segment.copied
        row = (segment.slot, flags, segment.sequence, segment.end, segment.live_bytes)
        body.append(fmt.CHECKPOINT_SEGMENT.struct.pack(*row))
    counts = [
        fmt.CHECKPOINT_TOMBSTONES.struct.pack(target, holder, count)
        for target, holders in catalog.tombstones.items()
        for holder, count in holders.items()
    ]
    body += counts
    for name, entry in catalog.names.items():
        named = (entry.sequence, entry.location, entry.copies, entry.removed, len(name))
        body.append(fmt.CHECKPOINT_NAME.struct.pack(*named) + name)
    for number, stream in catalog.streams.items():
        trim = (stream.trimmed_to, stream.trim_sequence, stream.trim_location)
        body.append(fmt.CHECKPOINT_STREAM.struct.pack(number, *trim, len(stream.records)))
        body += [_PAIR.pack(*pair) for pair in stream.records.items()]
    body.append(entries.tobytes())
    head = fmt.CHECKPOINT_HEAD.zero()._replace(
        body_size_bytes=sum(map(len, body)),
        shard_count=len(image),
        tail_entries=len(entries) >> 1,
        keys=catalog.index.count,
        segments=len(catalog.segments),
        tombstones=len(counts),
        names=len(catalog.names),
        streams=len(catalog.streams),
    )
    return head, body


def load(volume: Volume, slot: int, sequence: int) -> Loaded | None:
    """The checkpoint that starts in `slot`, or None when it is not there or damaged."""
    geometry, page, seed = volume.geometry, fmt.PAGE_SIZE_BYTES, volume.seed
    if slot >= geometry.segment_count:
        return None
    header = fmt.SEGMENT_HEADER.open(volume.try_read(slot, 0, page), 0, seed)
    head_size = fmt.CHECKPOINT_HEAD.size_bytes
    head = fmt.CHECKPOINT_HEAD.open(volume.try_read(slot, page, head_size), 0, seed)
    if head is None or header is None or header.uuid != volume.uuid:
        return None
    listed_size = head.slot_count * _SLOT.size
    length = head_size + listed_size + head.body_size_bytes
    room = geometry.segment_size_bytes - page
    ours = header.kind == fmt.SEGMENT_CHECKPOINT and header.sequence == sequence
    if not ours or -(-length // room) != head.slot_count or head_size + listed_size > room:
        return None
    listed = volume.try_read(slot, page + head_size, listed_size)
    slots = tuple(number for (number,) in _SLOT.iter_unpack(listed))
    if not slots or max(slots) >= geometry.segment_count:
        return None
    # Views, because with millions of keys it is as large as the index itself.
    faults = volume.device.fault_count
    sizes = [min(room, length - number * room) for number in range(len(slots))]
    try:
        parts = [volume.view(at, page, size) for at, size in zip(slots, sizes, strict=True)]
    except OSError:
        return None
    body = _Cursor(parts)
    body.take(head_size)
    if body.checksum() != head.body_checksum:
        return None
    body.take(listed_size)
    try:
        loaded = _decode(head, slots, body)
    except (ValueError, IndexError, error):
        # Whole, and yet nonsense: somebody made it. The log knows better.
        return None
    return loaded if volume.device.fault_count == faults else None


class _Cursor:
    """Takes a stream apart from front to back; what crosses parts is joined."""

    def __init__(self, parts: list[memoryview]) -> None:
        self._left = deque(parts)

    def checksum(self) -> int:
        """Of all that is left."""
        checksum = 0
        for part in self._left:
            checksum = crc32(part, checksum)
        return checksum

    def take(self, size_bytes: int) -> memoryview:
        """As many bytes, fewer only at the end."""
        taken: list[memoryview] = []
        while size_bytes and self._left:
            part = self._left.popleft()
            taken.append(part[:size_bytes])
            if len(part) > size_bytes:
                self._left.appendleft(part[size_bytes:])
            size_bytes -= len(taken[-1])
        return taken[0] if len(taken) == 1 else memoryview(b"".join(taken))

    def rows(self, layout: fmt.Layout, count: int) -> Iterator[fmt.Row]:
        """One by one, so that what follows a row can be taken before the next."""
        for _ in range(count):
            yield layout.unpack(self.take(layout.size_bytes))

    def slots(self, count: int) -> array[int]:
        taken = array("Q")
        taken.frombytes(self.take(count * fmt.SUMMARY_ENTRY.size_bytes))
        return taken


def _decode(head: fmt.Row, slots: tuple[int, ...], body: _Cursor) -> Loaded:
    catalog = Catalog()
    shards = list(_SHARD.iter_unpack(body.take(head.shard_count * _SHARD.size)))
    catalog.index = Index.from_image(
        (homes, used, body.take(slot_count(homes) * fmt.SUMMARY_ENTRY.size_bytes))
        for homes, used in shards
    )
    for row in body.rows(fmt.CHECKPOINT_SEGMENT, head.segments):
        segment = catalog.open_segment(row.slot, row.sequence, row.end)
        segment.live_bytes = row.live_bytes
        segment.sealed = bool(row.flags & _FLAG_SEALED)
        segment.copied = bool(row.flags & _FLAG_COPIED)
        catalog.live_bytes += row.live_bytes
    for counted in body.rows(fmt.CHECKPOINT_TOMBSTONES, head.tombstones):
        catalog.tombstones.setdefault(counted.target, {})[counted.holder] = counted.tombstones
    for named in body.rows(fmt.CHECKPOINT_NAME, head.names):
        entry = NameEntry(named.sequence, named.location, bool(named.removed), named.copies)
        catalog.names[bytes(body.take(named.size_bytes))] = entry
        catalog.name_count += not entry.removed
    for journal in body.rows(fmt.CHECKPOINT_STREAM, head.streams):
        records = dict(_PAIR.iter_unpack(body.take(journal.record_count * _PAIR.size)))
        trim = (journal.trimmed_to, journal.trim_sequence, journal.trim_location)
        catalog.streams[journal.stream] = Stream(records, *trim)
        catalog.journal_record_count += len(records)
    return Loaded(head, catalog, slots, body.slots(head.tail_entries))


def _pieces(parts: Iterable[fmt.BytesLike], size_bytes: int) -> Iterator[bytes]:
    """The same bytes in pieces of one size, the last one shorter."""
    piece = bytearray()
    for part in parts:
        left = memoryview(part)
        while left:
            room = size_bytes - len(piece)
            piece += left[:room]
            left = left[room:]
            if len(piece) == size_bytes:
                yield bytes(piece)
                piece = bytearray()
    if piece:
        yield bytes(piece)


class Checkpointer:
    """Writes and drops checkpoints of one open store. The caller holds the maintenance lock."""

    def __init__(
        self,
        volume: Volume,
        catalog: Catalog,
        log: Log,
        block: fmt.Row,
        slots: tuple[int, ...],
        replayed_bytes: int,
    ) -> None:
        self._volume = volume
        self._catalog = catalog
        self._log = log
        self._block = block
        self._slots = slots
        self._log_bytes_then = -replayed_bytes

    @property
    def slots(self) -> tuple[int, ...]:
        """Slots of the checkpoint that the superblock names."""
        return self._slots

    @property
    def block(self) -> fmt.Row:
        """The superblock as it was written last."""
        return self._block

    def is_due(self) -> bool:
        """Whether a replay from the last one would take long enough to pay for another, and
        there is space for it.
        """
        size_bytes = self._catalog.index.size_bytes
        since = self._log.written_bytes - self._log_bytes_then
        if since < max(_INTERVAL_MIN_BYTES, _INTERVAL_RATIO * size_bytes):
            return False
        return len(self._catalog.free) > slots_needed(self._volume, size_bytes) + DATA

    def is_current(self) -> bool:
        """Whether nothing was logged since the checkpoint that the superblock names."""
        return bool(self._slots) and self._log.written_bytes == self._log_bytes_then

    def update_superblock(self, **changes: Any) -> None:
        """Rewrite all copies with these fields changed, durably. Raises StoreReadOnly."""
        changes["durable_group"] = self._log.durable_group
        changed = with_bad_slots(self._block._replace(**changes), self._catalog.bad_slots)
        self._block = self._log.guarded(lambda: superblock.store(self._volume.device, changed))

    def write(self) -> bool:
        """Replace the checkpoint; False when too little space is free for it."""
        log, catalog, volume = self._log, self._catalog, self._volume
        with log.write_lock:
            log.write_out()
            head, body = self._snapshot()
            needed = slots_needed(volume, head.body_size_bytes)
            if not log.secure_slots(needed + DATA):
                return False
            with log.state_lock:
                slots = [catalog.free.popleft() for _ in range(needed)]
                log.reuse_count += 1
            sequence = log.take_segment_sequence()
        listed = b"".join(_SLOT.pack(slot) for slot in slots)
        checksum = crc32(listed)
        for part in body:
            checksum = crc32(part, checksum)
        head = head._replace(slot_count=needed, body_checksum=checksum)
        stream: list[fmt.BytesLike] = [fmt.CHECKPOINT_HEAD.seal(head, volume.seed), listed, *body]
        room = volume.geometry.segment_size_bytes - fmt.PAGE_SIZE_BYTES
        for slot, piece in zip(slots, _pieces(stream, room), strict=True):
            padded = piece.ljust(fmt.aligned(len(piece)), b"\0")
            log.write_header(fmt.SEGMENT_CHECKPOINT, slot, sequence, 0, [padded])
        log.sync()
        self._free(self._point_at(slots, sequence))
        self._log_bytes_then = log.written_bytes
        return True

    def _snapshot(self) -> tuple[fmt.Row, list[bytes]]:
        log, active = self._log, self._log.active
        head, body = _encode(self._catalog, log.entries if active else array("Q"))
        head = head._replace(
            group=log.written_group,
            next_sequence=log.next_sequence,
            next_segment_sequence=log.next_segment_sequence,
        )
        if active is not None:
            head = head._replace(tail_sequence=active.sequence, tail_end=active.end)
        return head, body

    def drop(self) -> None:
        """Make the store do without a checkpoint, durably. The next one is due when it was: a
        store that frees segments all the time would else write one for each of them.
        """
        self._free(self.forget())

    def forget(self) -> tuple[int, ...]:
        """As `drop`, but the slots that it had are not free yet: the caller wipes and releases
        them, with others of its own and no sync more than for those alone.
        """
        return self._point_at((), 0) if self._slots else ()

    def _point_at(self, slots: Sequence[int], sequence: int) -> tuple[int, ...]:
        """The slots of the one before."""
        old, self._slots = self._slots, tuple(slots)
        first = slots[0] if slots else fmt.NO_SLOT
        self.update_superblock(checkpoint_slot=first, checkpoint_sequence=sequence)
        return old

    def _free(self, slots: tuple[int, ...]) -> None:
        self._log.wipe(slots)
        with self._log.write_lock, self._log.state_lock:
            self._catalog.release(slots)
