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
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Any
from zlib import crc32

from blkdev import format as fmt
from blkdev import superblock
from blkdev.catalog import Catalog, NameEntry, Stream
from blkdev.index import SHARD_COUNT, Index
from blkdev.log import DATA, Log
from blkdev.segment import Volume

_SHARD = Struct("<II")
_SLOT = Struct("<I")
_PAIR = Struct("<QQ")
_FLAG_SEALED = 1
_FLAG_COPIED = 2
_INTERVAL_MIN_BYTES = 64 << 20
_INTERVAL_RATIO = 32
"""Log bytes per checkpoint byte: checkpoints add at most about 3 % to what is written."""


@dataclass
class Snapshot:
    """A catalog as it was at one moment, and where the log ended then."""

    head: fmt.CheckpointHead
    body: list[bytes]

    @property
    def body_size_bytes(self) -> int:
        return sum(len(part) for part in self.body)


@dataclass
class Loaded:
    """What a checkpoint held."""

    head: fmt.CheckpointHead
    catalog: Catalog
    slots: tuple[int, ...]
    entries: array[int]


def slots_needed(volume: Volume, body_size_bytes: int) -> int:
    """Segments that a body of this size takes."""
    per_segment = volume.geometry.segment_size_bytes - fmt.PAGE_SIZE_BYTES - _SLOT.size
    return -(-(fmt.CHECKPOINT_HEAD.size_bytes + body_size_bytes) // per_segment)


def snapshot(
    catalog: Catalog, group: int, next_sequence: int, next_segment_sequence: int,
    tail: tuple[int, int], entries: array[int],
) -> Snapshot:  # fmt: skip
    """Copy the catalog. `tail` is (sequence, end) of the open segment, (0, 0) for none.

    The caller holds the write and state locks and has written out everything staged.
    """
    image = catalog.index.image()
    used = catalog.index.used()
    body = [_SHARD.pack(homes, count) for (homes, _), count in zip(image, used, strict=True)]
    body += [table.tobytes() for _, table in image]
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
    head = fmt.CheckpointHead(
        magic=b"", checksum=0, slot_count=0, body_size_bytes=sum(map(len, body)),
        body_checksum=0, shard_count=SHARD_COUNT, group=group, next_sequence=next_sequence,
        next_segment_sequence=next_segment_sequence, tail_sequence=tail[0], tail_end=tail[1],
        tail_entries=len(entries) >> 1, keys=catalog.index.count,
        segments=len(catalog.segments), tombstones=len(counts),
        names=len(catalog.names), streams=len(catalog.streams),
    )  # fmt: skip
    return Snapshot(head, body)


def pages(volume: Volume, taken: Snapshot, slots: list[int]) -> Iterator[tuple[int, bytes]]:
    """(slot, bytes) to write after the header page of each of `slots`, whole pages."""
    listed = b"".join(_SLOT.pack(slot) for slot in slots)
    checksum = crc32(listed)
    for part in taken.body:
        checksum = crc32(part, checksum)
    head = taken.head._replace(slot_count=len(slots), body_checksum=checksum)
    stream = b"".join([fmt.CHECKPOINT_HEAD.seal(head, volume.seed), listed, *taken.body])
    room = volume.geometry.segment_size_bytes - fmt.PAGE_SIZE_BYTES
    for number, slot in enumerate(slots):
        part = stream[number * room : (number + 1) * room]
        yield slot, part.ljust(fmt.aligned(len(part)), b"\0")


def load(volume: Volume, slot: int, sequence: int) -> Loaded | None:
    """The checkpoint that starts in `slot`, or None when it is not there or damaged."""
    try:
        stream = _read(volume, slot, sequence)
    except OSError:
        return None
    if stream is None:
        return None
    head, slots, body = stream
    return _decode(head, slots, memoryview(body))


def _read(
    volume: Volume, slot: int, sequence: int
) -> tuple[fmt.CheckpointHead, tuple[int, ...], bytes] | None:
    geometry, page, seed = volume.geometry, fmt.PAGE_SIZE_BYTES, volume.seed
    if slot >= geometry.segment_count:
        return None
    header = fmt.SEGMENT_HEADER.open(volume.read(slot, 0, page), 0, seed)
    head_size = fmt.CHECKPOINT_HEAD.size_bytes
    head = fmt.CHECKPOINT_HEAD.open(volume.read(slot, page, head_size), 0, seed)
    if head is None or header is None or header.uuid != volume.uuid:
        return None
    if header.kind != fmt.SEGMENT_CHECKPOINT or header.sequence != sequence:
        return None
    room = geometry.segment_size_bytes - page
    length = head_size + head.slot_count * _SLOT.size + head.body_size_bytes
    if not head.slot_count or -(-length // room) != head.slot_count:
        return None
    # A list of slots longer than the first segment would need 4 million of them.
    listed = volume.read(
        slot, page + head_size, min(head.slot_count * _SLOT.size, room - head_size)
    )
    slots = tuple(number for (number,) in _SLOT.iter_unpack(listed))
    if len(slots) != head.slot_count or max(slots) >= geometry.segment_count:
        return None
    parts = [
        volume.read(at, page, min(room, length - number * room)) for number, at in enumerate(slots)
    ]
    stream = b"".join(parts)[head_size:]
    if crc32(stream) != head.body_checksum:
        return None
    return head, slots, stream[len(listed) :]


def _decode(head: fmt.CheckpointHead, slots: tuple[int, ...], body: memoryview) -> Loaded:
    catalog = Catalog(())
    at = head.shard_count * _SHARD.size
    image = []
    for homes, used in _SHARD.iter_unpack(body[:at]):
        table = array("Q")
        size_bytes = Index.slot_count(homes) * fmt.SUMMARY_ENTRY.size_bytes
        table.frombytes(body[at : at + size_bytes])
        image.append((homes, used, table))
        at += size_bytes
    catalog.index = Index.from_image(image)
    for _ in range(head.segments):
        row = fmt.CHECKPOINT_SEGMENT.unpack(body, at)
        segment = catalog.open_segment(row.slot, row.sequence, row.end)
        segment.live_bytes = row.live_bytes
        segment.sealed = bool(row.flags & _FLAG_SEALED)
        segment.copied = bool(row.flags & _FLAG_COPIED)
        catalog.live_bytes += row.live_bytes
        at += fmt.CHECKPOINT_SEGMENT.size_bytes
    for _ in range(head.tombstones):
        target, holder, count = fmt.CHECKPOINT_TOMBSTONES.unpack(body, at)
        catalog.tombstones.setdefault(target, {})[holder] = count
        at += fmt.CHECKPOINT_TOMBSTONES.size_bytes
    for _ in range(head.names):
        named = fmt.CHECKPOINT_NAME.unpack(body, at)
        at += fmt.CHECKPOINT_NAME.size_bytes
        name = bytes(body[at : at + named.size_bytes])
        catalog.names[name] = NameEntry(
            named.sequence, named.location, bool(named.removed), named.copies
        )
        at += named.size_bytes
    for _ in range(head.streams):
        row_ = fmt.CHECKPOINT_STREAM.unpack(body, at)
        at += fmt.CHECKPOINT_STREAM.size_bytes
        end = at + row_.record_count * _PAIR.size
        records = dict(_PAIR.iter_unpack(body[at:end]))
        catalog.streams[row_.stream] = Stream(
            records, row_.trimmed_to, row_.trim_sequence, row_.trim_location
        )
        at = end
    entries = array("Q")
    entries.frombytes(body[at : at + head.tail_entries * fmt.SUMMARY_ENTRY.size_bytes])
    return Loaded(head, catalog, slots, entries)


class Checkpointer:
    """Writes and drops checkpoints of one open store. The caller holds the maintenance lock."""

    def __init__(
        self,
        volume: Volume,
        catalog: Catalog,
        log: Log,
        block: fmt.Superblock,
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
    def segment_count(self) -> int:
        return len(self._slots)

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
        changed = self._block._replace(**changes)
        self._block = self._log.guarded(lambda: superblock.store(self._volume.device, changed))

    def write(self) -> bool:
        """Replace the checkpoint; False when too little space is free for it."""
        log, catalog = self._log, self._catalog
        with log.write_lock:
            log.write_out()
            with log.state_lock:
                taken = self._snapshot()
                needed = slots_needed(self._volume, taken.body_size_bytes)
                if len(catalog.free) < needed + DATA:
                    return False
                slots = [catalog.free.popleft() for _ in range(needed)]
                log.reuse_count += 1
            sequence = log.take_segment_sequence()
        for slot, part in pages(self._volume, taken, slots):
            log.write_header(fmt.SEGMENT_CHECKPOINT, slot, sequence, 0, [part])
        log.sync()
        self._point_at(slots, sequence)
        self._log_bytes_then = log.written_bytes
        return True

    def drop(self) -> None:
        """Make the store do without a checkpoint, durably."""
        if self._slots:
            self._point_at([], 0)
        # The next one is due as if this had never been.
        self._log_bytes_then = 0

    def _point_at(self, slots: list[int], sequence: int) -> None:
        old, self._slots = self._slots, tuple(slots)
        first = slots[0] if slots else fmt.NO_SLOT
        self.update_superblock(checkpoint_slot=first, checkpoint_sequence=sequence)
        if old:
            self._log.wipe(old)
            with self._log.write_lock, self._log.state_lock:
                self._catalog.free.extend(old)

    def _snapshot(self) -> Snapshot:
        log = self._log
        active = log.active
        tail = (active.sequence, active.end) if active else (0, 0)
        return snapshot(
            self._catalog, log.written_group, log.next_sequence, log.next_segment_sequence,
            tail, log.entries if active else array("Q"),
        )  # fmt: skip
