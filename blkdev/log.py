"""Append and group commit: the only writer of segments and the only caller of Device.sync.

Records are staged in memory, readable at once, and leave in groups: one `write` of whole pages per
group. `commit` writes what is staged and syncs; callers that meet at the sync share it.

Locks, outermost first
- `write_lock` (re-entrant): log order. Held while records are staged and written; every change of
  the catalog happens under it.
- `_sync_lock`: at most one sync at a time. Never held while taking the write lock.
- `state_lock`: catalog and staged records against readers. Held for memory only, never for I/O.

Invariants
- Group numbers are consecutive over the whole log. A group says up to which group the log was
  durable when it was written: whatever is missing below that is damage, above it a torn tail.
- A segment's slot is used again only after its free mark is durable and no view pins it.
- One full group may be on its way to the device while the next is staged. Until it has arrived, its
  records are read from memory, and neither the catalog nor `written_group` knows of it.
- After any failed write or sync the log refuses everything: the device may hold less than we
  believe, and asking it again could report success for bytes that were dropped.
"""

from __future__ import annotations

import threading
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from blkdev import format as fmt
from blkdev.catalog import Catalog, Segment
from blkdev.checksum import crc32
from blkdev.device import Writing, Written
from blkdev.draft import Draft, Item
from blkdev.errors import StoreFull, StoreReadOnly
from blkdev.latch import whole
from blkdev.segment import FIRST_GROUP_OFFSET, Volume, encode_header, encode_summary, summary_size

STAGED_SIZE_MAX_BYTES = 4 << 20
_COPIED_VALUE_MAX_BYTES = 32 << 10

DATA = 2
"""Rights to the last free segments, as the number that must stay free: for values,"""
RELEASE = 1
"""for deletes, names and journal trims, which must work on a full store,"""
COMPACTION = 0
"""and for compaction, which gives back more than it takes."""

T = TypeVar("T")

if TYPE_CHECKING:
    from blkdev._native import stage as native_stage
else:
    try:
        from blkdev._native import stage as native_stage
    except ImportError:
        native_stage = None


class _Flight(NamedTuple):
    """A group on its way to the device. Its records are the first of those that are staged. With a
    summary, its segment is sealed as soon as it has arrived.
    """

    writing: Writing
    segment: Segment
    number: int
    end: int
    record_count: int
    summary: array[int] | None = None
    next_sequence: int = 0


class Tail(NamedTuple):
    """Where the log ends, as recovery found it."""

    group: int
    next_sequence: int
    next_segment_sequence: int
    active: Segment | None
    entries: array[int]


class Log:
    """The write side of one store."""

    def __init__(self, volume: Volume, catalog: Catalog, tail: Tail, epoch: int) -> None:
        self.write_lock = threading.RLock()
        self.state_lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._volume = volume
        self._catalog = catalog
        self._epoch = epoch
        half_segment = volume.geometry.segment_size_bytes // 2
        self.staged_size_max_bytes = min(STAGED_SIZE_MAX_BYTES, half_segment)
        self.active = tail.active
        self.entries = tail.entries
        self.next_sequence = tail.next_sequence
        self.next_segment_sequence = tail.next_segment_sequence
        self.written_group = tail.group
        self.durable_group = tail.group
        self.sync_count = 0
        self.reuse_count = 0
        self.written_bytes = 0
        self.discarded_bytes = 0
        self.staged: dict[int, tuple[bytes, bytes | memoryview]] = {}
        self.failure: OSError | None = None
        self._flight: _Flight | None = None
        self._reset_group()

    def _reset_group(self) -> None:
        self._chunk = bytearray(fmt.GROUP_HEADER.size_bytes)
        self._buffers: list[fmt.BytesLike] = [self._chunk]
        self._pending_bytes = fmt.GROUP_HEADER.size_bytes
        self._pending_count = 0
        self._pending_checksum = self._volume.seed

    @property
    def position(self) -> int:
        """Sequence of the newest record; -1 before the first."""
        return self.next_sequence - 1

    @whole
    def append(self, drafts: Sequence[Draft], right: int) -> int:
        """Stage records, all in one group, and enter them into the catalog; the position of the
        newest record in the log.

        Raises StoreFull (nothing was staged), StoreReadOnly.
        """
        with self.write_lock:
            self.check_writable()
            need = sum([fmt.record_size(len(draft.key), len(draft.value)) for draft in drafts])
            if not self._fits(need, len(drafts), right):
                self._make_room(need, len(drafts), right)
            staged = [(draft, *self._stage(draft)) for draft in drafts]
            # New blocks first: the lockless C helper finds a replaced key twice, and not never.
            staged.sort(key=lambda entry: entry[0].kind != fmt.KIND_BLOCK)
            with self.state_lock:
                for draft, sequence, location in staged:
                    if draft.kind == fmt.KIND_BLOCK:
                        self._catalog.put_block(draft.fingerprint, location, draft.moved_from)
                    else:
                        self._catalog.enter(draft.kind, draft.key, draft.value, sequence, location)
            if self._pending_bytes >= self.staged_size_max_bytes:
                self._hand_over(self._volume.device.write_behind)
            return self.position

    @whole
    def append_plain(
        self, items: list[Item], at: int = 0, *, together: bool = False
    ) -> tuple[int, int]:
        """Stage blocks of a list from number `at` on, up to the first that is not plain: not new,
        not small, without room in the group. (the number it stopped at, how many it staged)
        `together` stages all in one group, or none; no two of them may have the same key.

        None is plain without the C helper. Raises StoreReadOnly.
        """
        with self.write_lock:
            self.check_writable()
            segment = self.active
            if native_stage is None or segment is None or len(self._catalog.free) < DATA:
                return at, 0
            volume, catalog = self._volume, self._catalog
            geometry = volume.geometry
            with self.state_lock:
                stopped, entries, self._pending_checksum, total_bytes = native_stage(
                    catalog.index, self.staged, self._chunk, items, at, together,
                    volume.index_salt, volume.seed, self._pending_checksum, self.next_sequence,
                    segment.slot << fmt.OFFSET_BITS, self._group_begin, self._pending_bytes,
                    len(self.entries) >> 1, geometry.segment_size_bytes,
                    self.staged_size_max_bytes,
                    min(_COPIED_VALUE_MAX_BYTES, geometry.value_size_max_bytes),
                )  # fmt: skip
                count = len(entries) // fmt.SUMMARY_ENTRY.size_bytes
                catalog.count_blocks(segment, total_bytes)
            self.entries.frombytes(entries)
            self.next_sequence += count
            self._pending_bytes += total_bytes
            self._pending_count += count
            if self._pending_bytes >= self.staged_size_max_bytes:
                self._hand_over(self._volume.device.write_behind)
            return stopped, count

    def _stage(self, draft: Draft) -> tuple[int, int]:
        segment = self.active
        assert segment is not None
        sequence = draft.sequence
        if sequence < 0:
            sequence = self.next_sequence
            self.next_sequence += 1
        key, value = draft.key, draft.value
        head = fmt.encode_record_head(
            draft.kind, key, len(value), draft.value_checksum, sequence, self._volume.seed
        )
        size_bytes = len(head) + len(value)
        padded = (size_bytes + 7) & -8
        location = fmt.pack_location(segment.slot, self._group_begin + self._pending_bytes, padded)
        if len(value) <= _COPIED_VALUE_MAX_BYTES:
            self._chunk += b"".join((head, value, bytes(padded - size_bytes)))
        else:
            self._chunk += head
            self._chunk = bytearray(padded - size_bytes)
            self._buffers += (value, self._chunk)
        self._pending_bytes += padded
        self._pending_count += 1
        self._pending_checksum = crc32(head, self._pending_checksum)
        self.staged[location] = (head, value)
        mark = fmt.OTHER_KIND if draft.fingerprint == fmt.NO_FINGERPRINT else 0
        self.entries.extend((draft.fingerprint, location | mark))
        return sequence, location

    def _fits(self, size_bytes: int, count: int, right: int) -> bool:
        if self.active is None:
            return False
        if len(self._catalog.free) < right:
            # A higher right opened this segment: half of it is for that one alone.
            size_bytes += self._volume.geometry.segment_size_bytes // 2
        groups_end = self._group_begin + fmt.aligned(self._pending_bytes + size_bytes)
        summary = summary_size((len(self.entries) >> 1) + count)
        return groups_end + summary <= self._volume.geometry.segment_size_bytes

    def _make_room(self, size_bytes: int, count: int, right: int) -> None:
        while not self._fits(size_bytes, count, right):
            if self._pending_count:
                self._hand_over(self._volume.device.write_behind)
            elif not self.secure_slots(right + 1):
                raise StoreFull(self._volume.device.name)
            else:
                self._seal()
                self._open_segment()

    @whole
    def write_out(self) -> None:
        """Hand staged records to the device: from then on they survive the end of this process,
        but not yet a power cut.

        Raises StoreReadOnly when the device refuses.
        """
        with self.write_lock:
            if self._pending_count:
                self._hand_over(self._write)
            self._settle()

    def _write(self, offset: int, buffers: Sequence[fmt.BytesLike]) -> Writing:
        self._volume.device.write(offset, buffers)
        return Written()

    def _hand_over(self, write: Callable[[int, Sequence[fmt.BytesLike]], Writing]) -> None:
        """Let the device write what is staged, the group before which has arrived then."""
        segment = self.active
        assert segment is not None, "something is staged"
        self.check_writable()
        begin, number = self._group_begin, self._next_group
        size_bytes, count = self._pending_bytes, self._pending_count
        header = fmt.GROUP_HEADER.zero()._replace(
            size_bytes=size_bytes,
            record_count=count,
            records_checksum=self._pending_checksum,
            epoch=self._epoch,
            number=number,
            durable_group=self.durable_group,
            segment_sequence=segment.sequence,
            next_sequence=self.next_sequence,
        )
        first = self._buffers[0]
        assert isinstance(first, bytearray)
        first[: fmt.GROUP_HEADER.size_bytes] = fmt.GROUP_HEADER.seal(header, self._volume.seed)
        self._chunk += bytes(fmt.aligned(size_bytes) - size_bytes)
        at = self._volume.geometry.segment_offset(segment.slot) + begin
        writing = self.guarded(partial(write, at, self._buffers))
        self.written_bytes += fmt.aligned(size_bytes)
        self._settle()
        self._flight = _Flight(writing, segment, number, begin + fmt.aligned(size_bytes), count)
        self._reset_group()
        if writing.is_over():
            self._settle()

    def _settle(self) -> None:
        """Wait for the group on its way. Raises StoreReadOnly when the device refused it."""
        flight = self._flight
        if flight is None:
            return
        self.guarded(flight.writing.wait)
        with self.state_lock:
            self._catalog.extend(flight.segment, flight.end)
            self.staged = dict(islice(self.staged.items(), flight.record_count, None))
        self.written_group = flight.number
        self._flight = None
        if flight.summary is not None:
            summary, following = flight.summary, flight.next_sequence
            self.seal_segment(flight.segment, summary, flight.number, following)

    @property
    def _group_begin(self) -> int:
        """Where in the active segment the group begins that is being filled."""
        segment, flight = self.active, self._flight
        assert segment is not None, "whoever asks has one"
        return flight.end if flight and flight.segment is segment else segment.end

    @property
    def _next_group(self) -> int:
        return (self._flight.number if self._flight else self.written_group) + 1

    def commit(self) -> None:
        """Everything appended before this call survives a power cut when it returns.

        Raises StoreReadOnly when the device cannot promise that.
        """
        with self.write_lock:
            self.write_out()
            target = self.written_group
        if self.durable_group >= target:
            self.check_writable()
            return
        with self._sync_lock:
            if self.durable_group < target:
                self._sync()

    def sync(self) -> None:
        """Sync even when no group is pending: for free marks and checkpoints."""
        with self._sync_lock:
            self._sync()

    def _sync(self) -> None:
        self.check_writable()
        reached = self.written_group
        self.guarded(self._volume.device.sync)
        self.sync_count += 1
        self.durable_group = reached

    def check_writable(self) -> None:
        if self.failure is not None:
            raise StoreReadOnly(
                f"{self._volume.device.name} is read-only since a failed write: {self.failure} "
                "(it may be out of space or broken; look at it, then open it again)"
            ) from self.failure

    def guarded(self, write: Callable[[], T]) -> T:
        """Run a write or sync; a failure latches the store. Raises StoreReadOnly."""
        self.check_writable()
        try:
            return write()
        except OSError as error:
            self.failure = error
        self.check_writable()
        raise AssertionError("unreachable: the failure was just latched")

    def write_pages(self, slot: int, offset: int, buffers: Sequence[fmt.BytesLike]) -> None:
        """Write whole pages of a segment. Raises StoreReadOnly."""
        at = self._volume.geometry.segment_offset(slot) + offset
        self.guarded(lambda: self._volume.device.write(at, buffers))
        self.written_bytes += sum(len(buffer) for buffer in buffers)

    def wipe(self, slots: Sequence[int]) -> None:
        """Mark segments free, durably. First the headers alone, so that a crash leaves each
        segment either free or whole; then first group and footer, so that a torn header of the
        slot's next use cannot bring it back. Last, what lies between is discarded: a device may
        do that at once, later or never, so it must not tell what the slot is.
        """
        if not slots:
            return
        with self.state_lock:
            self.reuse_count += 1
        for slot in slots:
            self.write_header(fmt.SEGMENT_FREE, slot, 0, 0)
        self.sync()
        self.clear(slots)

    def clear(self, slots: Sequence[int]) -> None:
        """The second half of a wipe, for slots whose free mark is durable. The mark is not written
        again: torn, it would leave a footer alone to say what the slot holds.
        """
        if not slots:
            return
        for slot in slots:
            self.write_pages(slot, FIRST_GROUP_OFFSET, [bytes(fmt.PAGE_SIZE_BYTES)])
            self.wipe_footer(slot)
        self.sync()
        geometry, begin = self._volume.geometry, FIRST_GROUP_OFFSET + fmt.PAGE_SIZE_BYTES
        length = geometry.segment_size_bytes - begin - fmt.PAGE_SIZE_BYTES
        for slot in slots:
            self._volume.device.discard(geometry.segment_offset(slot) + begin, length)
            self.discarded_bytes += length

    def wipe_footer(self, slot: int) -> None:
        end = self._volume.geometry.segment_size_bytes
        self.write_pages(slot, end - fmt.PAGE_SIZE_BYTES, [bytes(fmt.PAGE_SIZE_BYTES)])

    def retire(self) -> None:
        """Seal the segment that is being filled, so that it can be emptied."""
        with self.write_lock:
            self.write_out()
            self._seal()

    def _seal(self) -> None:
        """End the active segment: at once, or as soon as its last group has arrived."""
        segment, flight = self.active, self._flight
        self.active = None
        if segment is None:
            return
        if flight is not None and flight.segment is segment:
            self._flight = flight._replace(summary=self.entries, next_sequence=self.next_sequence)
        else:
            self.seal_segment(segment, self.entries, self.written_group, self.next_sequence)

    def seal_segment(
        self, segment: Segment, entries: array[int], last_group: int, next_sequence: int
    ) -> None:
        """End a segment with the summary that makes a rebuild cheap."""
        footer = fmt.SEGMENT_FOOTER.zero()._replace(
            slot=segment.slot,
            sequence=segment.sequence,
            last_group=last_group,
            durable_group=self.durable_group,
            entry_count=len(entries) >> 1,
            groups_end=segment.end,
            epoch=self._epoch,
            next_sequence=next_sequence,
        )
        packed = encode_summary(entries, footer, self._volume.seed)
        end = self._volume.geometry.segment_size_bytes
        self.write_pages(segment.slot, end - len(packed), [packed])
        segment.sealed = True

    def _open_segment(self) -> None:
        with self.state_lock:
            slot = self._catalog.free.popleft()
            self.reuse_count += 1
        sequence = self.take_segment_sequence()
        self.write_header(fmt.SEGMENT_LOG, slot, sequence, self._next_group)
        with self.state_lock:
            self.active = self._catalog.open_segment(slot, sequence, FIRST_GROUP_OFFSET)
        self.entries = array("Q")

    def secure_slots(self, count: int) -> bool:
        """Whether there are so many free slots; the next ones to be taken then have room on the
        device. So what may be written on a full store finds room on a full file system too. The
        caller holds the write lock.
        """
        catalog, geometry = self._catalog, self._volume.geometry

        def has_room(slot: int) -> bool:
            offset = geometry.segment_offset(slot)
            return self._volume.device.reserve(offset, geometry.segment_size_bytes)

        front: list[int] = []
        refused: list[int] = []
        rest = deque(catalog.free)
        while rest and len(front) < count:
            slot = rest.popleft()
            (front if has_room(slot) else refused).append(slot)
        # Something below may have been deleted since.
        missing = len(front) < count
        back = [slot for slot in catalog.unbacked if has_room(slot)] if missing else []
        if refused or back:
            kept = [slot for slot in catalog.unbacked if slot not in back]
            with self.state_lock:
                catalog.free = deque((*front, *back, *rest))
                catalog.unbacked = kept + refused
        return len(front) + len(back) >= count

    def take_segment_sequence(self) -> int:
        """The next number for a segment; never given twice. The caller holds the write lock."""
        self.next_segment_sequence += 1
        return self.next_segment_sequence - 1

    def write_header(
        self, kind: int, slot: int, sequence: int, first_group: int, after: Sequence[bytes] = ()
    ) -> None:
        """Write a segment's header page and what follows it, whole pages."""
        header = fmt.SEGMENT_HEADER.zero()._replace(
            kind=kind,
            slot=slot,
            epoch=self._epoch,
            sequence=sequence,
            first_group=first_group,
            durable_group=self.durable_group,
            uuid=self._volume.uuid,
        )
        self.write_pages(slot, 0, [encode_header(header, self._volume.seed), *after])

    @property
    def staged_bytes(self) -> int:
        """Bytes of records that no group on the device holds yet."""
        flight = self._flight
        on_its_way = flight.end - flight.segment.end if flight else 0
        return on_its_way + self._pending_bytes - fmt.GROUP_HEADER.size_bytes

    def room_bytes(self) -> int:
        """Bytes that the active segment could still take."""
        if self.active is None:
            return 0
        used = (
            self._group_begin
            + fmt.aligned(self._pending_bytes)
            + summary_size(len(self.entries) >> 1)
        )
        return max(0, self._volume.geometry.segment_size_bytes - used)
