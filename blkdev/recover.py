"""From a device to the state its log determines; reads only.

    checkpoint (or nothing) -> sealed segments by their summaries -> tail group by group

Invariants
- The log is accepted up to its first bad group beyond the durable mark. A device may keep a later
  write and lose an earlier one, so nothing after a torn group is ever trusted.
- The durable mark is the highest group that any header says was synced when it was written. Damage
  below it is not a torn tail: it costs the records it hits, is reported, and ends nothing.
- Running twice on the same bytes gives the same result.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from blkdev import format as fmt
from blkdev.catalog import Catalog, Segment
from blkdev.checkpoint import Loaded, load
from blkdev.log import Tail
from blkdev.segment import (
    FIRST_GROUP_OFFSET,
    Identity,
    Record,
    Volume,
    group_headers,
    identify,
    read_group,
    read_record,
    read_summary,
)


@dataclass
class Report:
    """What recovery met. Slots are segment slots."""

    from_checkpoint: bool = False
    segments_by_summary: int = 0
    groups_replayed: int = 0
    bytes_replayed: int = 0
    tail_torn: bool = False
    damaged_slots: list[int] = field(default_factory=list)


@dataclass
class Unsealed:
    """A segment that is full but whose footer is lost or damaged."""

    segment: Segment
    entries: array[int]
    last_group: int


@dataclass
class Repairs:
    """What must be put in order on the device before anything new is written to it."""

    garbage_slots: list[int] = field(default_factory=list)
    stale_footer_slot: int | None = None
    unsealed: list[Unsealed] = field(default_factory=list)
    headers: list[tuple[Segment, int]] = field(default_factory=list)


@dataclass
class Recovered:
    """A store's state, and what is left to repair."""

    catalog: Catalog
    tail: Tail
    epoch: int
    checkpoint_slots: tuple[int, ...]
    report: Report
    repairs: Repairs


@dataclass
class _Found:
    """One log segment on the device and, unless its summary will do, its group headers."""

    slot: int
    identity: Identity
    groups: list[tuple[int, fmt.GroupHeader]]


class _Replay:
    """Applies the log, oldest segment first."""

    def __init__(self, volume: Volume, catalog: Catalog, durable: int) -> None:
        self.volume = volume
        self.catalog = catalog
        self.durable = durable
        self.last = durable
        self.segment_last = durable
        self.epoch = -1
        self.next_sequence = 0
        self.report = Report()
        self.entries = array("Q")

    def segment_by_summary(self, found: _Found) -> bool:
        """False when the summary is damaged and nothing was applied."""
        footer = found.identity.footer
        assert footer is not None
        entries = read_summary(self.volume, found.slot, footer)
        if entries is None:
            return False
        segment = self.catalog.open_segment(found.slot, footer.sequence, footer.groups_end)
        segment.sealed = True
        pairs = iter(entries)
        for fingerprint, location in zip(pairs, pairs, strict=True):
            if not location & fmt.OTHER_KIND:
                self._apply_block(segment, fingerprint, location)
                continue
            record = read_record(self.volume, location & ~fmt.OTHER_KIND)
            if record is None:
                self.damaged(found.slot)
            else:
                self._apply(segment, record)
        self.next_sequence = max(self.next_sequence, footer.next_sequence)
        self.epoch = max(self.epoch, footer.epoch)
        self.report.segments_by_summary += 1
        self.report.bytes_replayed += footer.groups_end
        return True

    def segment_by_groups(self, found: _Found) -> tuple[Segment | None, bool]:
        """Apply a segment's groups; (the segment unless nothing of it counts, go on)."""
        segment = self.catalog.by_sequence.get(found.identity.sequence)
        for offset, header in found.groups:
            torn_possible = header.number > self.durable
            if torn_possible and (header.number != self.last + 1 or header.epoch < self.epoch):
                return segment, False
            records = read_group(
                self.volume, found.slot, offset, header, verify_values=torn_possible
            )
            if records is None and torn_possible:
                self.report.tail_torn = True
                return segment, False
            segment = segment or self._open(found)
            self.catalog.extend(segment, offset + fmt.aligned(header.size_bytes))
            if records is None:
                self.damaged(found.slot)
            for record in records or ():
                self._apply(segment, record)
                self.entries.extend(record.entry(self.volume.index_salt))
            self.last = max(self.last, header.number)
            self.segment_last = header.number
            self.epoch = max(self.epoch, header.epoch)
            self.next_sequence = max(self.next_sequence, header.next_sequence)
            self.report.groups_replayed += 1
            self.report.bytes_replayed += header.size_bytes
        if segment is None and found.identity.first_group <= self.durable:
            self.damaged(found.slot)
            segment = self._open(found)
        return segment, True

    def _open(self, found: _Found) -> Segment:
        return self.catalog.open_segment(found.slot, found.identity.sequence, FIRST_GROUP_OFFSET)

    def damaged(self, slot: int) -> None:
        if slot not in self.report.damaged_slots:
            self.report.damaged_slots.append(slot)

    def _apply(self, segment: Segment, record: Record) -> None:
        catalog, kind, key = self.catalog, record.header.kind, record.key
        sequence, location = record.header.sequence, record.location
        if kind == fmt.KIND_BLOCK:
            fingerprint, _ = record.entry(self.volume.index_salt)
            self._apply_block(segment, fingerprint, location, key)
        elif kind in (fmt.KIND_TOMBSTONES, fmt.KIND_JOURNAL_TRIM) and not record.is_whole:
            self.damaged(segment.slot)
        elif kind == fmt.KIND_TOMBSTONES:
            self._apply_tombstones(segment, record.value)
        elif kind in (fmt.KIND_NAME, fmt.KIND_NAME_REMOVAL):
            removed = kind == fmt.KIND_NAME_REMOVAL
            catalog.add_name(key, sequence, location, removed=removed)
        elif kind == fmt.KIND_JOURNAL:
            catalog.add_journal(int.from_bytes(key, "little"), sequence, location)
        else:
            position = int.from_bytes(record.value, "little", signed=True)
            catalog.add_trim(int.from_bytes(key, "little"), position, sequence, location)

    def _apply_block(
        self, segment: Segment, fingerprint: int, location: int, key: bytes | None = None
    ) -> None:
        """A second record of one key is a compaction's copy whose source was not yet freed."""
        for old in self.catalog.index.locations(fingerprint):
            key = key or self._key_at(location)
            if key is not None and self._key_at(old) == key:
                self.catalog.move_block(fingerprint, old, location)
                source = self.catalog.segments[fmt.location_slot(old)]
                source.copied = source is not segment
                return
        self.catalog.add_block(fingerprint, location)

    def _key_at(self, location: int) -> bytes | None:
        record = read_record(self.volume, location)
        return None if record is None else record.key

    def _apply_tombstones(self, holder: Segment, value: bytes) -> None:
        for fingerprint, location, target in fmt.tombstones(value):
            segment = self.catalog.by_sequence.get(target)
            if segment is not None and segment.slot == fmt.location_slot(location):
                self.catalog.remove_block(fingerprint, location)
                self.catalog.add_tombstones(holder, target, 1)


def recover(volume: Volume, block: fmt.Superblock) -> Recovered:
    """Rebuild the state of a store.

    Raises NewerFormat for records that only a newer program understands.
    """
    loaded = None
    if block.checkpoint_slot != fmt.NO_SLOT:
        loaded = load(volume, block.checkpoint_slot, block.checkpoint_sequence)
    if loaded is not None and block.clean:
        return _as_closed(volume, block, loaded)
    identities = [identify(volume, slot) for slot in range(volume.geometry.segment_count)]
    if loaded is not None and not _is_current(loaded, identities):
        loaded = None
    scan = _Scan(volume, identities, loaded)
    replay = _Replay(volume, scan.catalog, scan.durable)
    if loaded is not None:
        replay.last = max(replay.last, loaded.head.group)
        replay.segment_last = loaded.head.group
        replay.next_sequence = loaded.head.next_sequence
        replay.report.from_checkpoint = True
    active, entries = scan.replay(replay)
    repairs = scan.repairs
    footer = identities[active.slot].footer if active is not None else None
    if active is not None and footer is not None:
        if footer.last_group == replay.last:
            active.sealed, active = True, None
        else:
            repairs.stale_footer_slot = active.slot
    checkpoint_slots = loaded.slots if loaded is not None else ()
    repairs.headers = [
        (segment, identities[slot].first_group)
        for slot, segment in scan.catalog.segments.items()
        if not identities[slot].whole
    ]
    repairs.garbage_slots = scan.garbage(checkpoint_slots)
    taken = {*scan.catalog.segments, *repairs.garbage_slots, *checkpoint_slots}
    scan.catalog.free.extend(slot for slot in range(len(identities)) if slot not in taken)
    newest = max(identity.sequence for identity in identities)
    return Recovered(
        catalog=scan.catalog,
        tail=Tail(replay.last, replay.next_sequence, newest + 1, active, entries),
        epoch=max(block.epoch, replay.epoch),
        checkpoint_slots=checkpoint_slots,
        report=replay.report,
        repairs=repairs,
    )


def _as_closed(volume: Volume, block: fmt.Superblock, loaded: Loaded) -> Recovered:
    """A store that was closed: its checkpoint is the state, nothing was written after it."""
    head, catalog = loaded.head, loaded.catalog
    taken = {*catalog.segments, *loaded.slots}
    slots = range(volume.geometry.segment_count)
    catalog.free.extend(slot for slot in slots if slot not in taken)
    active = catalog.by_sequence.get(head.tail_sequence)
    # The checkpoint took one number itself.
    following = head.next_segment_sequence + 1
    tail = Tail(head.group, head.next_sequence, following, active, loaded.entries)
    report = Report(from_checkpoint=True)
    return Recovered(catalog, tail, block.epoch, loaded.slots, report, Repairs())


def _is_current(loaded: Loaded, identities: list[Identity]) -> bool:
    """Whether every segment that the checkpoint names is still what it was."""
    return all(
        identities[segment.slot].kind == fmt.SEGMENT_LOG
        and identities[segment.slot].sequence == segment.sequence
        for segment in loaded.catalog.segments.values()
    )


class _Scan:
    """The log segments on the device beyond the checkpoint, oldest first."""

    def __init__(self, volume: Volume, identities: list[Identity], loaded: Loaded | None) -> None:
        self.volume = volume
        self.identities = identities
        self.catalog = loaded.catalog if loaded is not None else Catalog(())
        self._loaded = loaded
        first = loaded.head.next_segment_sequence if loaded is not None else 0
        self._logs = sorted(
            (
                _Found(slot, identity, [])
                for slot, identity in enumerate(identities)
                if identity.kind == fmt.SEGMENT_LOG and identity.sequence >= first
            ),
            key=lambda found: found.identity.sequence,
        )
        self.active: Segment | None = None
        if loaded is not None:
            self.active = self.catalog.by_sequence.get(loaded.head.tail_sequence)
        self.repairs = Repairs()
        self.durable = self._survey()

    def _survey(self) -> int:
        """Read the group headers wherever the tail may be; the durable mark."""
        durable = max(identity.durable_group for identity in self.identities)
        for identity in self.identities:
            if identity.footer is not None:
                durable = max(durable, identity.footer.durable_group)
        if self._loaded is not None:
            durable = max(durable, self._loaded.head.group)
        if self.active is not None:
            identity = self.identities[self.active.slot]
            self._logs.insert(0, _Found(self.active.slot, identity, []))
        for found in reversed(self._logs):
            if not self._has_summary(found, durable):
                found.groups = list(self._headers(found))
                durable = max([durable, *(header.durable_group for _, header in found.groups)])
        return durable

    def _headers(self, found: _Found) -> Iterator[tuple[int, fmt.GroupHeader]]:
        start = FIRST_GROUP_OFFSET
        if self.active is not None and found.slot == self.active.slot:
            start = self.active.end
        return group_headers(self.volume, found.slot, found.identity.sequence, start)

    def _has_summary(self, found: _Found, durable: int) -> bool:
        footer = found.identity.footer
        resumed = self.active is not None and found.slot == self.active.slot
        return not resumed and footer is not None and footer.last_group <= durable

    def replay(self, replay: _Replay) -> tuple[Segment | None, array[int]]:
        """Apply all segments; the last one unless it is sealed, and its summary entries."""
        active = self.active
        entries = self._loaded.entries if self._loaded is not None else array("Q")
        for found in self._logs:
            resumed = active is not None and found.slot == active.slot
            if active is not None and not resumed:
                self._full(active, entries, replay.segment_last)
                active = None
            replay.entries = entries if resumed else array("Q")
            if self._has_summary(found, self.durable):
                if replay.segment_by_summary(found):
                    continue
                found.groups = list(self._headers(found))
                replay.damaged(found.slot)
            segment, proceed = replay.segment_by_groups(found)
            if segment is not None:
                active, entries = segment, replay.entries
            if not proceed:
                break
        return active, entries

    def _full(self, segment: Segment, entries: array[int], last_group: int) -> None:
        """Later segments follow this one, so it takes no more records."""
        segment.sealed = True
        footer = self.identities[segment.slot].footer
        if footer is None or footer.last_group != last_group:
            self.repairs.unsealed.append(Unsealed(segment, entries, last_group))

    def garbage(self, checkpoint_slots: tuple[int, ...]) -> list[int]:
        """Slots that hold something no longer part of the store: a dropped tail, a segment whose
        free mark was lost, a checkpoint that was never pointed at.
        """
        return [
            slot
            for slot, identity in enumerate(self.identities)
            if identity.kind != fmt.SEGMENT_FREE
            and slot not in self.catalog.segments
            and slot not in checkpoint_slots
        ]
