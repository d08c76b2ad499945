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

from blkdev.catalog import Catalog, Segment
from blkdev.format import (
    KIND_BLOCK,
    KIND_JOURNAL,
    KIND_JOURNAL_TRIM,
    KIND_NAME,
    KIND_NAME_REMOVAL,
    KIND_TOMBSTONES,
    NO_FINGERPRINT,
    OTHER_KIND,
    PAGE_SIZE_BYTES,
    SEGMENT_LOG,
    TOMBSTONE,
    GroupHeader,
    RecordHeader,
    aligned,
    decode_record_head,
    location_offset,
    location_size,
    location_slot,
    pack_location,
)
from blkdev.index import fingerprint_of
from blkdev.log import Tail
from blkdev.segment import (
    FIRST_GROUP_OFFSET,
    Identity,
    Volume,
    group_headers,
    identify,
    read_group,
    read_summary,
)


@dataclass
class Report:
    """What recovery met. Slots are segment slots."""

    from_checkpoint: bool = False
    segments_by_summary: int = 0
    groups_replayed: int = 0
    tail_torn: bool = False
    damaged_slots: list[int] = field(default_factory=list)


@dataclass
class Recovered:
    """A store's state, and what must be cleaned up on the device before it is written to."""

    catalog: Catalog
    tail: Tail
    epoch: int
    garbage_slots: list[int]
    stale_footer_slot: int | None
    report: Report


@dataclass
class _Found:
    """One log segment on the device and, unless its summary will do, its group headers."""

    slot: int
    identity: Identity
    groups: list[tuple[int, GroupHeader]]


class _Replay:
    """Applies the log, oldest segment first."""

    def __init__(self, volume: Volume, catalog: Catalog, durable: int, epoch: int) -> None:
        self.volume = volume
        self.catalog = catalog
        self.durable = durable
        self.last = durable
        self.epoch = epoch
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
            if location & OTHER_KIND:
                self._apply_at(segment, location & ~OTHER_KIND)
            else:
                self._apply_block(segment, fingerprint, location)
        self.next_sequence = max(self.next_sequence, footer.next_sequence)
        self.epoch = max(self.epoch, footer.epoch)
        self.report.segments_by_summary += 1
        return True

    def segment_by_groups(self, found: _Found) -> tuple[Segment | None, bool]:
        """Apply a segment's groups; (the segment unless nothing of it counts, go on)."""
        segment: Segment | None = None
        self.entries = array("Q")
        for offset, header in found.groups:
            torn_possible = header.number > self.durable
            if torn_possible and (header.number != self.last + 1 or header.epoch < self.epoch):
                return segment, False
            group = read_group(self.volume, found.slot, offset, header, verify_values=torn_possible)
            if group is None and torn_possible:
                self.report.tail_torn = True
                return segment, False
            if segment is None:
                segment = self._open(found)
            self.catalog.extend(segment, offset + aligned(header.size_bytes))
            if group is None:
                self._damaged(found.slot)
                continue
            packed, records = group
            for record in records:
                location = pack_location(found.slot, record.offset, record.size_bytes)
                value_at = record.value_offset - offset
                value = packed[value_at : value_at + record.header.value_size_bytes]
                self._apply(segment, record.header, record.key, value, location)
            self.last = max(self.last, header.number)
            self.epoch = max(self.epoch, header.epoch)
            self.next_sequence = max(self.next_sequence, header.next_sequence)
            self.report.groups_replayed += 1
        if segment is None and found.identity.first_group <= self.durable:
            self._damaged(found.slot)
            segment = self._open(found)
        return segment, True

    def _open(self, found: _Found) -> Segment:
        known = self.catalog.by_sequence.get(found.identity.sequence)
        return known or self.catalog.open_segment(
            found.slot, found.identity.sequence, FIRST_GROUP_OFFSET
        )

    def _damaged(self, slot: int) -> None:
        if slot not in self.report.damaged_slots:
            self.report.damaged_slots.append(slot)

    def _apply_at(self, segment: Segment, location: int) -> None:
        slot, offset = location_slot(location), location_offset(location)
        try:
            packed = self.volume.read(slot, offset, location_size(location))
        except OSError:
            packed = b""
        header = decode_record_head(packed, 0, self.volume.seed)
        if header is None:
            self._damaged(slot)
            return
        key_end = 24 + header.key_size_bytes
        value = packed[key_end : key_end + header.value_size_bytes]
        self._apply(segment, header, packed[24:key_end], value, location)

    def _apply(
        self, segment: Segment, header: RecordHeader, key: bytes, value: bytes, location: int
    ) -> None:
        catalog, kind = self.catalog, header.kind
        fingerprint, entry = NO_FINGERPRINT, location | OTHER_KIND
        if kind == KIND_BLOCK:
            fingerprint, entry = fingerprint_of(key, self.volume.index_salt), location
            self._apply_block(segment, fingerprint, location, key)
        elif kind == KIND_TOMBSTONES:
            self._apply_tombstones(segment, value)
        elif kind in (KIND_NAME, KIND_NAME_REMOVAL):
            removed = kind == KIND_NAME_REMOVAL
            catalog.add_name(key, header.sequence, location, removed=removed)
        elif kind == KIND_JOURNAL:
            catalog.add_journal(int.from_bytes(key, "little"), header.sequence, location)
        elif kind == KIND_JOURNAL_TRIM:
            position = int.from_bytes(value, "little", signed=True)
            stream = int.from_bytes(key, "little")
            catalog.add_trim(stream, position, header.sequence, location)
        self.entries.extend((fingerprint, entry))

    def _apply_block(
        self, segment: Segment, fingerprint: int, location: int, key: bytes | None = None
    ) -> None:
        """A second record of one key is a compaction's copy whose source was not yet freed."""
        for old in self.catalog.index.locations(fingerprint):
            key = key or self._key_at(location)
            if old != location and key is not None and self._key_at(old) == key:
                self.catalog.move_block(fingerprint, old, location)
                source = self.catalog.segments[location_slot(old)]
                source.copied = source is not segment
                return
        self.catalog.add_block(fingerprint, location)

    def _key_at(self, location: int) -> bytes | None:
        length = min(location_size(location), 24 + 64)
        try:
            packed = self.volume.read(location_slot(location), location_offset(location), length)
        except OSError:
            return None
        header = decode_record_head(packed, 0, self.volume.seed)
        return None if header is None else packed[24 : 24 + header.key_size_bytes]

    def _apply_tombstones(self, holder: Segment, value: bytes) -> None:
        for fingerprint, location, target in tombstones(value):
            segment = self.catalog.by_sequence.get(target)
            if segment is not None and segment.slot == location_slot(location):
                self.catalog.remove_block(fingerprint, location)
                self.catalog.add_tombstones(holder, target, 1)


def tombstones(value: bytes) -> Iterator[tuple[int, int, int]]:
    """(fingerprint, location, segment sequence) of each tombstone in a record's value."""
    return TOMBSTONE.struct.iter_unpack(value[: len(value) // 24 * 24])


def recover(volume: Volume, epoch: int) -> Recovered:
    """Rebuild the state of a store. `epoch` is the superblock's.

    Raises NewerFormat for records that only a newer program understands.
    """
    count = volume.geometry.segment_count
    catalog = Catalog(())
    identities = {slot: identify(volume, slot) for slot in range(count)}
    logs = [
        _Found(slot, identity, [])
        for slot, identity in identities.items()
        if identity.kind == SEGMENT_LOG
    ]
    logs.sort(key=lambda found: found.identity.sequence)
    durable = _survey(volume, logs, identities)
    replay = _Replay(volume, catalog, durable, -1)
    active, entries, garbage = _replay_all(replay, logs)
    stale_footer = None
    if active is not None:
        footer = identities[active.slot].footer
        if footer is not None and footer.last_group == replay.last:
            active.sealed, active = True, None
        elif footer is not None:
            stale_footer = active.slot
    used = set(catalog.segments)
    catalog.free.extend(slot for slot in range(count) if slot not in used and slot not in garbage)
    newest = max((found.identity.sequence for found in logs), default=0)
    return Recovered(
        catalog=catalog,
        tail=Tail(replay.last, replay.next_sequence, newest + 1, active, entries),
        epoch=max(epoch, replay.epoch),
        garbage_slots=garbage,
        stale_footer_slot=stale_footer,
        report=replay.report,
    )


def _survey(volume: Volume, logs: list[_Found], identities: dict[int, Identity]) -> int:
    """Fill in the group headers of all segments that may hold the tail; the durable mark."""
    durable = max((identity.durable_group for identity in identities.values()), default=0)
    for found in logs:
        footer = found.identity.footer
        if footer is not None:
            durable = max(durable, footer.durable_group)
    for found in reversed(logs):
        footer = found.identity.footer
        if footer is not None and footer.last_group <= durable:
            continue
        found.groups = list(group_headers(volume, found.slot, found.identity.sequence))
        for _, header in found.groups:
            durable = max(durable, header.durable_group)
    return durable


def _replay_all(
    replay: _Replay, logs: list[_Found]
) -> tuple[Segment | None, array[int], list[int]]:
    """Apply all segments; (the last one if it may be open still, its entries, dropped slots)."""
    active: Segment | None = None
    entries = array("Q")
    garbage: list[int] = []
    proceed = True
    for found in logs:
        if not proceed:
            garbage.append(found.slot)
            continue
        footer = found.identity.footer
        if footer is not None and footer.last_group <= replay.durable:
            if replay.segment_by_summary(found):
                active, entries = None, array("Q")
                continue
            replay._damaged(found.slot)
            found.groups = list(group_headers(replay.volume, found.slot, found.identity.sequence))
        segment, proceed = replay.segment_by_groups(found)
        if segment is None:
            garbage.append(found.slot)
            continue
        if active is not None:
            active.sealed = True
        active, entries = segment, replay.entries
    return active, entries, garbage


assert FIRST_GROUP_OFFSET == PAGE_SIZE_BYTES
