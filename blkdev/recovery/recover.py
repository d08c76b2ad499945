"""From a device to the state its log determines; reads only.

    checkpoint (or nothing) -> sealed segments by their summaries -> tail group by group

Invariants
- The log is accepted up to its first bad group beyond the durable mark. A device may keep a later
  write and lose an earlier one, so nothing after a torn group is ever trusted.
- The durable mark is the highest group that any header says was synced when it was written. Damage
  below it is not a torn tail: it costs the records it hits, is reported, and ends nothing.
- What the device cannot read is not free: a slot that nothing identifies for that reason is left as
  it is, and reported.
- Running twice on the same bytes gives the same result.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from blkdev import format as fmt
from blkdev.bad_slots import bad_slots
from blkdev.catalog import Catalog, Segment
from blkdev.checkpoint import Loaded, load
from blkdev.errors import StoreDamaged
from blkdev.index import Index
from blkdev.log import Tail
from blkdev.recovery.past_damage import group_headers, salvage
from blkdev.segment import (
    FIRST_GROUP_OFFSET,
    Identity,
    Record,
    Volume,
    decode_record,
    identify,
    read_entries,
    read_record,
    read_summary,
)

if TYPE_CHECKING:
    from blkdev._native import enter as enter_plain
else:
    try:
        from blkdev._native import enter as enter_plain
    except ImportError:

        def enter_plain(_index, _entries, at, _slot):
            """None is plain without the C helper."""
            return at, 0


@dataclass
class Report:
    """What recovery met. Slots are segment slots."""

    from_checkpoint: bool = False
    segments_by_summary: int = 0
    groups_replayed: int = 0
    bytes_replayed: int = 0
    tail_torn: bool = False
    damaged_slots: list[int] = field(default_factory=list)


class Unsealed(NamedTuple):
    """A segment that is full but whose footer is lost or damaged."""

    segment: Segment
    entries: array[int]
    last_group: int


@dataclass
class Recovered:
    """A store's state, and what to put in order on the device before anything is written to it:
    slots to wipe, free ones to clear, a stale footer, footers and headers to write again. It
    `is_cut_short` when the log may go on behind segments that the device cannot read.
    """

    catalog: Catalog
    tail: Tail
    epoch: int
    checkpoint_slots: tuple[int, ...] = ()
    report: Report = field(default_factory=Report)
    garbage_slots: list[int] = field(default_factory=list)
    leftover_slots: list[int] = field(default_factory=list)
    stale_footer_slot: int | None = None
    unsealed: list[Unsealed] = field(default_factory=list)
    damaged_headers: list[tuple[Segment, int]] = field(default_factory=list)
    is_cut_short: bool = False


class _Found(NamedTuple):
    """A log segment on the device, and where in it the log is taken up."""

    slot: int
    identity: Identity
    start: int = FIRST_GROUP_OFFSET


def recover(volume: Volume, block: fmt.Row, *, lazily: bool = False) -> Recovered:
    """Rebuild the state of a store. Of one that was closed, `lazily` leaves most of a large index
    on the device until it is asked for.

    Raises NewerFormat for records that only a newer program understands, StoreDamaged when the
    device reads nothing.
    """
    bad = bad_slots(block)
    loaded = None
    if block.checkpoint_slot != fmt.NO_SLOT:
        from_log = partial(_index_of_log, volume, block) if lazily and block.clean else None
        loaded = load(volume, block.checkpoint_slot, block.checkpoint_sequence, from_log)
    if loaded is not None and block.clean:
        return _as_closed(volume, block, loaded, bad)
    identities = _identities(volume, bad)
    if len(volume.failed_slots) == len(identities):
        raise StoreDamaged(f"{volume.device.name}: no segment can be read (look at the disk)")
    if loaded is not None and not _is_current(loaded, identities):
        loaded = None
    replay = _Replay(volume, identities, loaded, block.durable_group)
    replay.run()
    active, catalog = replay.active, replay.catalog
    slots = loaded.slots if loaded is not None else ()
    newest = max(identity.sequence for identity in identities)
    tail = Tail(replay.last, replay.next_sequence, newest + 1, active, replay.entries)
    found = Recovered(catalog, tail, max(block.epoch, replay.epoch), slots, replay.report)
    if active is not None and identities[active.slot].footer is not None:
        if replay.is_sealed(active, replay.last):
            active.sealed, found.tail = True, tail._replace(active=None)
        else:
            found.stale_footer_slot = active.slot
    # Nothing is written any more to a segment with unreadable sectors.
    found.unsealed = [full for full in replay.unsealed if full.segment.slot not in bad]
    catalog.bad_slots = bad
    for slot, identity in enumerate(identities):
        segment, free = catalog.segments.get(slot), identity.kind == fmt.SEGMENT_FREE
        if slot in bad:
            continue
        if segment is not None and not identity.whole:
            found.damaged_headers.append((segment, identity.first_group))
        elif segment is None and slot not in (volume.failed_slots if free else slots):
            # A dropped tail, a lost free mark, a checkpoint that was never pointed at. Nobody
            # knows what an unreadable slot holds: it is left as it is.
            which = found.leftover_slots if free else found.garbage_slots
            (catalog.free if free and identity.whole else which).append(slot)
    dropped = any(identities[slot].first_group > replay.last for slot in found.garbage_slots)
    # Segments before the last one that was read are followed by others: they hide nothing.
    followed = {*catalog.segments} - ({active.slot} if active is not None else set())
    found.is_cut_short = dropped and not volume.failed_slots <= followed
    replay.report.damaged_slots = sorted({*replay.report.damaged_slots, *volume.failed_slots})
    return found


def _identities(volume: Volume, bad: dict[int, bool]) -> list[Identity]:
    return [
        # What a retired segment holds has left the log, though it is still there.
        Identity() if bad.get(slot) else identify(volume, slot)
        for slot in range(volume.geometry.segment_count)
    ]


class _WholeVolume(Volume):
    """One where everything can be read: half a log is not better than none."""

    def try_read(self, slot: int, offset: int, length: int) -> bytes:
        return self.read(slot, offset, length)


def _index_of_log(volume: Volume, block: fmt.Row, group: int) -> Index:
    """See `checkpoint.FromLog`. Groups beyond that one may be written meanwhile."""
    whole = _WholeVolume.of(volume.device, block)
    try:
        identities = _identities(whole, bad_slots(block))
        replay = _Replay(whole, identities, None, max(group, block.durable_group))
        replay.run()
    except OSError as error:
        raise StoreDamaged(
            f"{volume.device.name}: part of the index is damaged, and of the log, which has it "
            f"too, not all can be read: {error} (look at the disk, then open the store again)"
        ) from error
    return replay.catalog.index


def _as_closed(volume: Volume, block: fmt.Row, loaded: Loaded, bad: dict[int, bool]) -> Recovered:
    """A store that was closed: its checkpoint is the state, nothing was written after it."""
    head, catalog = loaded.head, loaded.catalog
    catalog.bad_slots = bad
    taken = {*catalog.segments, *loaded.slots, *bad}
    slots = range(volume.geometry.segment_count)
    catalog.free.extend(slot for slot in slots if slot not in taken)
    active = catalog.by_sequence.get(head.tail_sequence)
    # The checkpoint took one number itself.
    following = head.next_segment_sequence + 1
    tail = Tail(head.group, head.next_sequence, following, active, loaded.entries)
    return Recovered(catalog, tail, block.epoch, loaded.slots, Report(from_checkpoint=True))


def _is_current(loaded: Loaded, identities: list[Identity]) -> bool:
    """Whether every segment that the checkpoint names is still what it was."""
    found = (
        (identities[segment.slot], segment.sequence) for segment in loaded.catalog.segments.values()
    )
    return all(
        identity.kind == fmt.SEGMENT_LOG and identity.sequence == sequence
        for identity, sequence in found
    )


class _Replay:
    """Applies the log beyond the checkpoint, oldest segment first."""

    def __init__(
        self, volume: Volume, identities: list[Identity], loaded: Loaded | None, durable: int
    ) -> None:
        self._volume = volume
        self._identities = identities
        self.report = Report(from_checkpoint=loaded is not None)
        self.unsealed: list[Unsealed] = []
        self.epoch = -1
        # The segment that takes the next record, unless later ones turn out to follow it.
        self.active: Segment | None = None
        if loaded is None:
            self.catalog, self.entries, base, following = Catalog(), array("Q"), 0, 0
            self.next_sequence = 0
        else:
            self.catalog, self.entries, head = loaded.catalog, loaded.entries, loaded.head
            base, following = head.group, head.next_segment_sequence
            self.next_sequence = head.next_sequence
            self.active = self.catalog.by_sequence.get(head.tail_sequence)
        self._logs = sorted(
            (
                _Found(slot, identity)
                for slot, identity in enumerate(identities)
                if identity.kind == fmt.SEGMENT_LOG and identity.sequence >= following
            ),
            key=lambda found: found.identity.sequence,
        )
        if self.active is not None:
            slot = self.active.slot
            self._logs.insert(0, _Found(slot, identities[slot], self.active.end))
        self._segment_last = base
        self._durable = self.last = self._durable_mark(max(base, durable))

    def _durable_mark(self, base: int) -> int:
        """The highest group that anything on the device says was synced."""
        durable = base
        for identity in self._identities:
            footer = identity.footer
            durable = max(durable, identity.durable_group, footer.durable_group if footer else 0)
        for found in reversed(self._logs):
            if not self._has_summary(found, durable):
                durable = max([durable, *(head.durable_group for _, head in self._groups(found))])
        return durable

    def _groups(self, found: _Found) -> Iterator[tuple[int, fmt.Row]]:
        return group_headers(self._volume, found.slot, found.identity.sequence, found.start)

    @staticmethod
    def _has_summary(found: _Found, durable: int) -> bool:
        footer = found.identity.footer
        fresh = found.start == FIRST_GROUP_OFFSET
        return fresh and footer is not None and bool(footer.last_group <= durable)

    def run(self) -> None:
        for found in self._logs:
            if self.active is not None and found.slot != self.active.slot:
                self._full(self.active)
            summarized = self._has_summary(found, self._durable)
            if summarized and self._by_summary(found):
                continue
            goes_on = self._by_groups(found)
            footer = found.identity.footer
            if summarized and footer is not None and footer.last_group != self._segment_last:
                self._damaged(found.slot)
            if not goes_on:
                break

    def _full(self, segment: Segment) -> None:
        """Later segments follow this one, so it takes no more records."""
        segment.sealed = True
        if not self.is_sealed(segment, self._segment_last):
            self.unsealed.append(Unsealed(segment, self.entries, self._segment_last))
        self.active, self.entries = None, array("Q")

    def is_sealed(self, segment: Segment, last_group: int) -> bool:
        """Whether footer and summary are whole and of that end: a footer whose summary is torn
        off is no seal.
        """
        footer = self._identities[segment.slot].footer
        if footer is None or footer.last_group != last_group:
            return False
        return read_summary(self._volume, segment.slot, footer) is not None

    def _by_summary(self, found: _Found) -> bool:
        """False when the summary is damaged and nothing was applied."""
        footer = found.identity.footer
        assert footer is not None
        entries = read_summary(self._volume, found.slot, footer)
        if entries is None:
            return False
        segment = self.catalog.open_segment(found.slot, footer.sequence, footer.groups_end)
        segment.sealed = True
        self._enter(segment, entries)
        self.next_sequence = max(self.next_sequence, footer.next_sequence)
        self.epoch = max(self.epoch, footer.epoch)
        self.report.segments_by_summary += 1
        self.report.bytes_replayed += footer.groups_end
        return True

    def _by_groups(self, found: _Found) -> bool:
        """Apply a segment group by group; False where the log ends in it."""
        expected = found.start
        for offset, header in self._groups(found):
            maybe_torn = header.number > self._durable
            if maybe_torn and (header.number != self.last + 1 or header.epoch < self.epoch):
                return False
            group = read_entries(self._volume, found.slot, offset, header, verify_values=maybe_torn)
            if group is None and maybe_torn:
                self.report.tail_torn = True
                return False
            segment = self.active or self._open(found)
            if offset > expected:
                # The headers before this one were durable and are damaged.
                self._by_salvage(segment, expected, offset)
            expected = offset + fmt.aligned(header.size_bytes)
            self.catalog.extend(segment, expected)
            if group is None:
                self._by_salvage(segment, offset, expected)
            else:
                self._enter(segment, *group, offset)
                self.entries += group[0]
            self._segment_last = header.number
            self.last = max(self.last, header.number)
            self.epoch = max(self.epoch, header.epoch)
            self.next_sequence = max(self.next_sequence, header.next_sequence)
            self.report.groups_replayed += 1
            self.report.bytes_replayed += header.size_bytes
        if self.active is None and found.identity.first_group <= self._durable:
            self._damaged(found.slot)
            self._open(found)
        return True

    def _enter(
        self, segment: Segment, entries: array[int], packed: bytes = b"", begin: int = 0
    ) -> None:
        """Apply records in the order of the log, nearly all of which are new blocks. `packed` is
        what the segment holds from `begin` on, if that was read.
        """
        at, count = 0, len(entries) >> 1
        while at < count:
            at, size_bytes = enter_plain(self.catalog.index, entries, at, segment.slot)
            self.catalog.count_blocks(segment, size_bytes)
            if at < count:
                fingerprint, location = entries[2 * at], entries[2 * at + 1]
                if location & fmt.OTHER_KIND:
                    self._enter_other(segment, location & ~fmt.OTHER_KIND, packed, begin)
                else:
                    self._apply_block(segment, fingerprint, location)
                at += 1

    def _enter_other(self, segment: Segment, location: int, packed: bytes, begin: int) -> None:
        offset = fmt.location_offset(location)
        if packed:
            place = fmt.pack_location(segment.slot, offset, 0)
            record = decode_record(self._volume, packed, offset - begin, place)
        else:
            record = read_record(self._volume, location)
        if record is None:
            self._damaged(segment.slot)
        else:
            self._apply(segment, record)

    def _by_salvage(self, segment: Segment, offset: int, end: int) -> None:
        """Apply what verifies by itself in a damaged part of the log."""
        self._damaged(segment.slot)
        self.catalog.extend(segment, end)
        for record in salvage(self._volume, segment.slot, offset, end):
            self._apply(segment, record)
            self.entries.extend(record.entry(self._volume.index_salt))

    def _open(self, found: _Found) -> Segment:
        sequence = found.identity.sequence
        self.active = self.catalog.open_segment(found.slot, sequence, FIRST_GROUP_OFFSET)
        return self.active

    def _damaged(self, slot: int) -> None:
        if slot not in self.report.damaged_slots:
            self.report.damaged_slots.append(slot)

    def _apply(self, segment: Segment, record: Record) -> None:
        kind, location = record.header.kind, record.location
        if kind == fmt.KIND_BLOCK:
            fingerprint, _ = record.entry(self._volume.index_salt)
            self._apply_block(segment, fingerprint, location, record.key)
        elif kind in (fmt.KIND_TOMBSTONES, fmt.KIND_JOURNAL_TRIM) and not record.is_whole:
            self._damaged(segment.slot)
        else:
            self.catalog.enter(kind, record.key, record.value, record.header.sequence, location)

    def _apply_block(
        self, segment: Segment, fingerprint: int, location: int, key: bytes | None = None
    ) -> None:
        """A second record of one key is a compaction's copy whose source was not yet freed."""
        for old in self.catalog.index.locations(fingerprint):
            key = key or self._key_at(location)
            if key is not None and self._key_at(old) == key:
                self.catalog.put_block(fingerprint, location, old)
                source = self.catalog.segments[fmt.location_slot(old)]
                source.copied = source is not segment
                return
        self.catalog.put_block(fingerprint, location)

    def _key_at(self, location: int) -> bytes | None:
        record = read_record(self._volume, location)
        return None if record is None else record.key
