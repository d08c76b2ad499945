"""A snapshot of the catalog on the device, so that opening need not read the whole log.

    stream := head, slot number of each segment used (u32), body
    body := shard (homes u32, used u32)*, index slots, rest
    rest := log segments, tombstone counts, names, journal streams, summary entries of the segment
            that was being filled, checksum of each shard's slots (u32), trailer

The stream fills the segments it names, in order, each after its header page.

Opening a store that was closed reads and verifies all but the index slots, which are nearly all of
it; each shard is read and verified when it is first asked for.

Invariants
- It is only a shortcut: a missing or damaged checkpoint costs time, never data. A shard that is
  found damaged later is taken from the log: nothing that concerns it was logged since.
- The segments of a checkpoint stay as they are until all shards of it are in memory.
- The superblock names at most one, whose segments are freed only after it names another or none.
- It names only log segments that are in use; before one of those is freed, it is dropped.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from struct import Struct, error
from typing import Any, NamedTuple

from blkdev import format as fmt
from blkdev import superblock
from blkdev.bad_slots import with_bad_slots
from blkdev.catalog import Catalog, NameEntry, Stream
from blkdev.checksum import crc32
from blkdev.errors import StoreDamaged, StoreError
from blkdev.index import Index
from blkdev.log import DATA, Log
from blkdev.pure.shards import SHARD_COUNT, slot_count
from blkdev.segment import Volume

_SHARD = Struct("<II")
_U32 = Struct("<I")
_PAIR = Struct("<QQ")
_ENTRY_SIZE_BYTES = fmt.SUMMARY_ENTRY.size_bytes
_FLAG_SEALED = 1
_FLAG_COPIED = 2
_INTERVAL_MIN_BYTES = 64 << 20
_INTERVAL_RATIO = 32
"""Log bytes per checkpoint byte: checkpoints add at most about 3 % to what is written."""
_LOADED_WHOLE_MAX_BYTES = 4 << 20
"""A smaller checkpoint is read at once: that takes a few milliseconds."""

FromLog = Callable[[int], Index]
"""The index that the log gives, in which everything up to this group counts as durable. Raises
StoreDamaged where not all of the log can be read, NewerFormat."""


class Loaded(NamedTuple):
    """What a checkpoint held. `entries` are those of the segment that was being filled."""

    head: fmt.Row
    catalog: Catalog
    slots: tuple[int, ...]
    entries: array[int]


def slots_needed(volume: Volume, body_size_bytes: int) -> int:
    """Segments that a body of this size takes."""
    per_segment = volume.geometry.segment_size_bytes - fmt.PAGE_SIZE_BYTES - _U32.size
    return -(-(fmt.CHECKPOINT_HEAD.size_bytes + body_size_bytes) // per_segment)


class _Parts(NamedTuple):
    """A checkpoint's body: sizes of the shards, their slots, and the rest without its end."""

    sizes: bytes
    shards: list[bytes]
    rest: bytes

    def sealed(self, head: fmt.Row, listed: bytes, seed: int) -> list[bytes]:
        """The whole stream, with all checksums."""
        sums = array("I", map(crc32, self.shards)).tobytes()
        rest = self.rest + sums
        rest_checksum = _rest_checksum(head, listed + self.sizes, rest)
        trailer = fmt.CHECKPOINT_TRAILER.zero()._replace(rest_checksum=rest_checksum)
        body = [self.sizes, *self.shards, rest, fmt.CHECKPOINT_TRAILER.seal(trailer, seed)]
        # Who knows no trailer checks it all at once.
        checksum = crc32(listed)
        for part in body:
            checksum = crc32(part, checksum)
        head = head._replace(body_checksum=checksum)
        return [fmt.CHECKPOINT_HEAD.seal(head, seed), listed, *body]


def _rest_checksum(head: fmt.Row, front: bytes, rest: fmt.BytesLike) -> int:
    """Of everything but the slots of the index: the head without its checksums, what lies between
    it and the slots, and what follows them up to the trailer.
    """
    bare = head._replace(magic=b"", checksum=0, body_checksum=0)
    return crc32(rest, crc32(front, crc32(fmt.CHECKPOINT_HEAD.pack(bare))))


def _encode(catalog: Catalog, entries: array[int]) -> tuple[fmt.Row, _Parts]:
    """A head that counts what is in the body, and the body."""
    image = catalog.index.image()
    sizes = b"".join(_SHARD.pack(homes, used) for homes, used, _ in image)
    shards = [slots for _, _, slots in image]
    body: list[bytes] = []
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
    parts = _Parts(sizes, shards, b"".join((*body, entries.tobytes())))
    end_size = len(shards) * _U32.size + fmt.CHECKPOINT_TRAILER.size_bytes
    head = fmt.CHECKPOINT_HEAD.zero()._replace(
        body_size_bytes=len(sizes) + sum(map(len, shards)) + len(parts.rest) + end_size,
        shard_count=len(image),
        tail_entries=len(entries) >> 1,
        keys=catalog.index.count,
        segments=len(catalog.segments),
        tombstones=len(counts),
        names=len(catalog.names),
        streams=len(catalog.streams),
    )
    return head, parts


def load(volume: Volume, slot: int, sequence: int, from_log: FromLog | None) -> Loaded | None:
    """The checkpoint that starts in `slot`, or None when it is not there or damaged. With
    `from_log`, shards of a large index are put off.
    """
    geometry, page, seed = volume.geometry, fmt.PAGE_SIZE_BYTES, volume.seed
    if slot >= geometry.segment_count:
        return None
    header = fmt.SEGMENT_HEADER.open(volume.try_read(slot, 0, page), 0, seed)
    head_size = fmt.CHECKPOINT_HEAD.size_bytes
    head = fmt.CHECKPOINT_HEAD.open(volume.try_read(slot, page, head_size), 0, seed)
    if head is None or header is None or header.uuid != volume.uuid:
        return None
    listed_size = head.slot_count * _U32.size
    length = head_size + listed_size + head.body_size_bytes
    room = geometry.segment_size_bytes - page
    ours = header.kind == fmt.SEGMENT_CHECKPOINT and header.sequence == sequence
    ours = ours and head.shard_count <= SHARD_COUNT
    if not ours or -(-length // room) != head.slot_count or head_size + listed_size > room:
        return None
    listed = volume.try_read(slot, page + head_size, listed_size)
    slots = tuple(number for (number,) in _U32.iter_unpack(listed))
    if not slots or max(slots) >= geometry.segment_count:
        return None
    is_small = length < _LOADED_WHOLE_MAX_BYTES
    stored = _Stored(volume, head, slots, None if is_small else from_log)
    try:
        if is_small:
            stored.read_ahead(length)
        loaded = _decode(head, slots, stored.without_slots(length))
        stored.put_off(loaded.catalog.index)
    except (OSError, ValueError, IndexError, error):
        # Damaged; or whole, and yet nonsense: somebody made it. The log knows better.
        return None
    return loaded


class _Shard(NamedTuple):
    """Where a shard's slots lie in the stream, and its size."""

    at: int
    size_bytes: int
    homes: int
    used: int


class _Stored:
    """A checkpoint on the device, whose shards are loaded one by one."""

    def __init__(
        self, volume: Volume, head: fmt.Row, slots: tuple[int, ...], from_log: FromLog | None
    ) -> None:
        self._volume = volume
        self._head = head
        self._slots = slots
        self._from_log = from_log
        self._shards: list[_Shard] = []
        self._sums = array("I")
        self._ahead = b""

    def read_ahead(self, length: int) -> None:
        """Read a stream of that length at once. Raises OSError."""
        self._ahead = self._read(0, length)

    def without_slots(self, length: int) -> memoryview:
        """What follows the slots in a stream of that length, verified together with what precedes
        them. Raises OSError, ValueError.
        """
        head, seed = self._head, self._volume.seed
        begin, listed_size = fmt.CHECKPOINT_HEAD.size_bytes, head.slot_count * _U32.size
        front = self._read(begin, listed_size + head.shard_count * _SHARD.size)
        at = begin + len(front)
        for homes, used in _SHARD.iter_unpack(front[listed_size:]):
            self._shards.append(_Shard(at, slot_count(homes) * _ENTRY_SIZE_BYTES, homes, used))
            at += self._shards[-1].size_bytes
        if at > length:
            raise ValueError("larger than its stream")
        rest = memoryview(self._read(at, length - at))
        trailer = fmt.CHECKPOINT_TRAILER.open(rest[-fmt.CHECKPOINT_TRAILER.size_bytes :], 0, seed)
        if trailer is None:
            self._verify_all(front, rest)
            return rest
        rest = rest[: -fmt.CHECKPOINT_TRAILER.size_bytes]
        self._sums.frombytes(rest[len(rest) - head.shard_count * _U32.size :])
        checksum = _rest_checksum(head, front, rest)
        if (checksum, len(self._sums)) != (trailer.rest_checksum, len(self._shards)):
            raise ValueError("damaged")
        return rest

    def _verify_all(self, front: bytes, rest: memoryview) -> None:
        """For a checkpoint of a program that wrote no trailer, or whose trailer is damaged."""
        checksum = crc32(front)
        for shard in self._shards:
            slots = self._read(shard.at, shard.size_bytes)
            checksum = crc32(slots, checksum)
            self._sums.append(crc32(slots))
        if crc32(rest, checksum) != self._head.body_checksum:
            raise ValueError("damaged")

    def _read(self, at: int, size_bytes: int) -> bytes:
        """Bytes of the stream. Raises OSError."""
        if self._ahead:
            return self._ahead[at : at + size_bytes]
        room = self._volume.geometry.segment_size_bytes - fmt.PAGE_SIZE_BYTES
        parts: list[bytes] = []
        while size_bytes:
            number, skip = divmod(at, room)
            wanted = min(size_bytes, room - skip)
            parts.append(self._volume.read(self._slots[number], fmt.PAGE_SIZE_BYTES + skip, wanted))
            at, size_bytes = at + wanted, size_bytes - wanted
        return b"".join(parts)

    def put_off(self, index: Index) -> None:
        """Leave the shards to the first who asks for them, if the log can stand in for them; else
        load them. Raises OSError, ValueError.
        """
        for number, shard in enumerate(self._shards):
            if self._from_log is None:
                self._fetch(index, number)
            else:
                index.put_off(number, shard.homes, shard.used)
                index.source = self._fetch

    def _fetch(self, index: Index, number: int) -> None:
        at, size_bytes, homes, used = self._shards[number]
        try:
            slots = self._read(at, size_bytes)
            if crc32(slots) == self._sums[number]:
                index.load(number, homes, used, slots)
                return
        except (OSError, ValueError):
            if self._from_log is None:
                raise
        self._fetch_from_log(index)

    def _fetch_from_log(self, index: Index) -> None:
        """All shards that are put off, if the log has as many entries of each."""
        if self._from_log is None:
            raise ValueError("damaged")
        index.was_damaged = True
        missing = index.missing()
        found = self._from_log(self._head.group)
        if any(found.shard(number)[1] != self._shards[number].used for number in missing):
            raise StoreDamaged(
                f"{self._volume.device.name}: part of the index is damaged and so is the log (open "
                "the store again, which reads all of it; check says what is hit)"
            )
        for number in missing:
            index.load(number, *found.shard(number))


class _Cursor:
    """Takes bytes apart from front to back."""

    def __init__(self, left: memoryview) -> None:
        self._left = left

    def take(self, size_bytes: int) -> memoryview:
        """As many bytes, fewer only at the end."""
        taken, self._left = self._left[:size_bytes], self._left[size_bytes:]
        return taken

    def rows(self, layout: fmt.Layout, count: int) -> Iterator[fmt.Row]:
        """One by one, so that what follows a row can be taken before the next."""
        for _ in range(count):
            yield layout.unpack(self.take(layout.size_bytes))


def _decode(head: fmt.Row, taken: tuple[int, ...], rest: memoryview) -> Loaded:
    catalog, body = Catalog(), _Cursor(rest)
    rows = body.take(head.segments * fmt.CHECKPOINT_SEGMENT.size_bytes)
    for slot, flags, sequence, end, live_bytes in fmt.CHECKPOINT_SEGMENT.struct.iter_unpack(rows):
        segment = catalog.open_segment(slot, sequence, end)
        segment.live_bytes = live_bytes
        segment.sealed = bool(flags & _FLAG_SEALED)
        segment.copied = bool(flags & _FLAG_COPIED)
        catalog.live_bytes += live_bytes
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
    entries = array("Q")
    entries.frombytes(body.take(head.tail_entries * _ENTRY_SIZE_BYTES))
    return Loaded(head, catalog, taken, entries)


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
        """Whether nothing was logged since the checkpoint that the superblock names, and nothing
        of that was found damaged.
        """
        unchanged = self._log.written_bytes == self._log_bytes_then
        return bool(self._slots) and unchanged and not self._catalog.index.was_damaged

    def update_superblock(self, **changes: Any) -> None:
        """Rewrite all copies with these fields changed, durably. Raises StoreReadOnly."""
        changes["durable_group"] = self._log.durable_group
        changed = with_bad_slots(self._block._replace(**changes), self._catalog.bad_slots)
        self._block = self._log.guarded(lambda: superblock.store(self._volume.device, changed))

    def write(self) -> bool:
        """Replace the checkpoint; False when too little space is free for it, or part of the
        index cannot be had.
        """
        log, catalog, volume = self._log, self._catalog, self._volume
        try:
            catalog.index.complete()
        except StoreError:
            return False
        with log.write_lock:
            log.write_out()
            head, parts = self._snapshot()
            needed = slots_needed(volume, head.body_size_bytes)
            if not log.secure_slots(needed + DATA):
                return False
            with log.state_lock:
                slots = [catalog.free.popleft() for _ in range(needed)]
                log.reuse_count += 1
            sequence = log.take_segment_sequence()
        listed = b"".join(_U32.pack(slot) for slot in slots)
        stream = parts.sealed(head._replace(slot_count=needed), listed, volume.seed)
        room = volume.geometry.segment_size_bytes - fmt.PAGE_SIZE_BYTES
        for slot, piece in zip(slots, _pieces(stream, room), strict=True):
            padded = piece.ljust(fmt.aligned(len(piece)), b"\0")
            log.write_header(fmt.SEGMENT_CHECKPOINT, slot, sequence, 0, [padded])
        log.sync()
        self._free(self._point_at(slots, sequence))
        catalog.index.was_damaged = False
        self._log_bytes_then = log.written_bytes
        return True

    def _snapshot(self) -> tuple[fmt.Row, _Parts]:
        log, active = self._log, self._log.active
        head, parts = _encode(self._catalog, log.entries if active else array("Q"))
        head = head._replace(
            group=log.written_group,
            next_sequence=log.next_sequence,
            next_segment_sequence=log.next_segment_sequence,
        )
        if active is not None:
            head = head._replace(tail_sequence=active.sequence, tail_end=active.end)
        return head, parts

    def drop(self) -> None:
        """Make the store do without a checkpoint, durably. The next one is due when it was: a
        store that frees segments all the time would else write one for each of them.

        Raises as `Index.fetch`, and then nothing was done.
        """
        self._free(self.forget())

    def forget(self) -> tuple[int, ...]:
        """As `drop`, but the slots that it had are not free yet: the caller wipes and releases
        them, with others of its own and no sync more than for those alone.
        """
        if not self._slots:
            return ()
        self._catalog.index.complete()
        return self._point_at((), 0)

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
