"""What is alive: index, names, journals, and how much of each segment they keep.

The writer, recovery and the loader of a checkpoint all come through the same methods, so what the
running store counts is what a scan of its log would count.

Invariants
- A segment's live_bytes is what compaction would have to copy: blocks in the index, the newest
  record of each name, untrimmed journal records, the newest trim of each stream, and 24 bytes per
  tombstone whose target segment is still in use.
- A tombstone names one physical record. It may go only after that record's segment was freed.
- A name's removal may go only when no other record of that name is in any segment in use.
- The index counts the open views of each slot as pins: a pinned segment's bytes stay as they are.
- `damaged` are locations of records whose values were found rotten: they stay in the index, so that
  their keys are damaged and not missing, until they are put again or deleted.
- `bad_slots` are segments with unreadable sectors (see blkdev/bad_slots.py): never in `free`.
- Every slot is in `segments`, in `free`, in `withheld` (free, and about to be cut off by a resize)
  or holds a checkpoint.
- Not locked: the caller holds the store's state lock (writers also the write lock).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from blkdev import format as fmt
from blkdev.format import BytesLike
from blkdev.index import Index


@dataclass(slots=True)
class Segment:
    """One segment of the log that is in use.

    `end` is the offset after its last group. `copied` marks a segment whose compaction a crash
    interrupted: some of its records have newer copies, so it must be freed before any other.
    """

    slot: int
    sequence: int
    end: int
    live_bytes: int = 0
    sealed: bool = False
    copied: bool = False


@dataclass(slots=True)
class NameEntry:
    """Newest record of a name; `copies` counts its records, dead ones too, in segments in use."""

    sequence: int
    location: int
    removed: bool
    copies: int = 1


@dataclass(slots=True)
class Stream:
    """A journal: record sequence -> location, and where it was last trimmed."""

    records: dict[int, int] = field(default_factory=dict)
    trimmed_to: int = -1
    trim_sequence: int = -1
    trim_location: int = 0


class Catalog:
    """The state of a store that its log determines.

    `unbacked` are slots that are free too, but the device had no room for them when it was asked.
    """

    def __init__(self) -> None:
        self.index = Index()
        self.segments: dict[int, Segment] = {}
        self.by_sequence: dict[int, Segment] = {}
        self.names: dict[bytes, NameEntry] = {}
        self.streams: dict[int, Stream] = {}
        self.tombstones: dict[int, dict[int, int]] = {}
        self.free: deque[int] = deque()
        self.unbacked: list[int] = []
        self.withheld: list[int] = []
        self._withheld_from = fmt.NO_SLOT
        self.live_bytes = 0
        self.used_bytes = 0
        self.name_count = 0
        self.journal_record_count = 0
        self.damaged: set[int] = set()
        self.bad_slots: dict[int, bool] = {}

    def open_segment(self, slot: int, sequence: int, end: int) -> Segment:
        segment = Segment(slot, sequence, end)
        self.segments[slot] = segment
        self.by_sequence[sequence] = segment
        self.used_bytes += end
        return segment

    def extend(self, segment: Segment, end: int) -> None:
        """The segment's last group now ends at `end`."""
        self.used_bytes += end - segment.end
        segment.end = end

    def close_segment(self, segment: Segment) -> None:
        """Forget an emptied segment whose free mark is durable; its slot is not free yet."""
        del self.segments[segment.slot]
        del self.by_sequence[segment.sequence]
        self.used_bytes -= segment.end
        self._count(segment, -segment.live_bytes)
        for holder, count in self.tombstones.pop(segment.sequence, {}).items():
            if holder in self.by_sequence:
                self._count(self.by_sequence[holder], -count * fmt.TOMBSTONE.size_bytes)
        for holders in self.tombstones.values():
            holders.pop(segment.sequence, None)
        self.damaged = {at for at in self.damaged if fmt.location_slot(at) != segment.slot}

    def release(self, slots: Iterable[int]) -> None:
        """These slots hold nothing any more, durably; but bad ones are never used again."""
        for slot in [slot for slot in slots if slot not in self.bad_slots]:
            (self.free if slot < self._withheld_from else self.withheld).append(slot)

    @property
    def is_withholding(self) -> bool:
        return self._withheld_from != fmt.NO_SLOT

    def withhold(self, first_slot: int) -> None:
        """From now on no slot from `first_slot` on is used again."""
        self._withheld_from = first_slot
        free, self.free, self.unbacked = [*self.free, *self.unbacked], deque(), []
        self.release(free)

    def end_withholding(self, slot_count: int) -> None:
        """Slots up to `slot_count` are usable again; those beyond are no longer there."""
        withheld, self.withheld = self.withheld, []
        self._withheld_from = fmt.NO_SLOT
        self.release(slot for slot in withheld if slot < slot_count)

    def _count(self, segment: Segment, delta_bytes: int) -> None:
        segment.live_bytes += delta_bytes
        self.live_bytes += delta_bytes

    def _count_at(self, location: int, sign: int) -> None:
        self._count(self.segments[fmt.location_slot(location)], sign * fmt.location_size(location))

    def count_blocks(self, segment: Segment, size_bytes: int) -> None:
        """Blocks of so many bytes were put into the index and are in this segment."""
        self._count(segment, size_bytes)

    def put_block(self, fingerprint: int, location: int, moved_from: int = 0) -> None:
        """A block's record, or with `moved_from` a copy that takes the place of that one."""
        if moved_from:
            self.index.replace(fingerprint, moved_from, location)
            self._count_at(moved_from, -1)
        else:
            self.index.add(fingerprint, location)
        self._count_at(location, 1)

    def drop_block(self, fingerprint: int, location: int) -> None:
        """The record at `location` is dead, if it was alive."""
        if self.index.remove(fingerprint, location):
            self._count_at(location, -1)

    def drop_journal_record(self, stream: int, sequence: int) -> None:
        """That record is lost; those before and after it stay."""
        self._count_at(self.streams[stream].records.pop(sequence), -1)
        self.journal_record_count -= 1

    def enter(self, kind: int, key: bytes, value: BytesLike, sequence: int, location: int) -> None:
        """A record other than a block is in the log at `location`."""
        if kind == fmt.KIND_TOMBSTONES:
            self._add_tombstones(location, value)
        elif kind in (fmt.KIND_NAME, fmt.KIND_NAME_REMOVAL):
            self._add_name(key, sequence, location, removed=kind == fmt.KIND_NAME_REMOVAL)
        elif kind == fmt.KIND_JOURNAL:
            self._add_journal(int.from_bytes(key, "little"), sequence, location)
        else:
            position = int.from_bytes(value, "little", signed=True)
            self._add_trim(int.from_bytes(key, "little"), position, sequence, location)

    def is_current(self, kind: int, key: bytes, sequence: int, location: int) -> bool:
        """Whether a record other than a block or tombstones is alive. One that recovery met in a
        damaged group and left out is not.
        """
        if kind in (fmt.KIND_NAME, fmt.KIND_NAME_REMOVAL):
            return key in self.names and self.names[key].location == location
        stream = self.streams.get(int.from_bytes(key, "little"), Stream())
        if kind == fmt.KIND_JOURNAL_TRIM:
            return stream.trim_location == location
        return stream.records.get(sequence) == location

    def _add_tombstones(self, location: int, value: BytesLike) -> None:
        """What they name dies, if it is still there; the segment that holds them keeps them."""
        holder = self.segments[fmt.location_slot(location)]
        in_use, remove = self.by_sequence, self.index.remove
        buried: Counter[int] = Counter()
        for fingerprint, dead, target in fmt.tombstones(value):
            segment = in_use.get(target)
            if segment is None or segment.slot != fmt.location_slot(dead):
                continue
            if remove(fingerprint, dead):
                self._count(segment, -fmt.location_size(dead))
            buried[target] += 1
        for target, count in buried.items():
            holders = self.tombstones.setdefault(target, {})
            holders[holder.sequence] = holders.get(holder.sequence, 0) + count
            self._count(holder, count * fmt.TOMBSTONE.size_bytes)

    def _add_name(self, name: bytes, sequence: int, location: int, *, removed: bool) -> None:
        """A record of `name`: the newest sequence wins, of equal ones the one read later."""
        entry = self.names.get(name)
        if entry is None:
            self.names[name] = NameEntry(sequence, location, removed)
            self.name_count += not removed
        else:
            entry.copies += 1
            if sequence < entry.sequence:
                return
            self._count_at(entry.location, -1)
            self.name_count += entry.removed - removed
            entry.sequence, entry.location, entry.removed = sequence, location, removed
        self._count_at(location, 1)

    def drop_name_records(self, names: Iterable[bytes]) -> None:
        """These records' segment is freed; a removal that outlived its cause goes with them. More
        may be freed than were counted, when recovery left out a damaged group.
        """
        for name in names:
            entry = self.names.get(name)
            if entry is not None:
                entry.copies -= 1
                if entry.removed and entry.copies <= 0:
                    del self.names[name]

    def _add_journal(self, stream_number: int, sequence: int, location: int) -> None:
        stream = self.streams.setdefault(stream_number, Stream())
        if sequence <= stream.trimmed_to:
            return
        if sequence in stream.records:
            self._count_at(stream.records[sequence], -1)
            self.journal_record_count -= 1
        stream.records[sequence] = location
        self.journal_record_count += 1
        self._count_at(location, 1)

    def _add_trim(self, stream_number: int, position: int, sequence: int, location: int) -> None:
        stream = self.streams.setdefault(stream_number, Stream())
        if sequence < stream.trim_sequence:
            return
        if stream.trim_location:
            self._count_at(stream.trim_location, -1)
        self._count_at(location, 1)
        stream.trim_sequence, stream.trim_location = sequence, location
        stream.trimmed_to = max(stream.trimmed_to, position)
        for at in [at for at in stream.records if at <= position]:
            self.drop_journal_record(stream_number, at)

    def candidates(self, before_sequence: int) -> list[Segment]:
        """Sealed segments older than `before_sequence`."""
        return [s for s in self.segments.values() if s.sealed and s.sequence < before_sequence]
