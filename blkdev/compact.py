"""Give back the space of dead records: copy what is alive out of a segment, then free it.

    empty some segments -> commit the copies -> drop the checkpoint -> wipe -> sync -> free

A segment with unreadable sectors is not wiped but retired: it is listed in the superblock, nothing
is written to it, and it is not free.

Invariants
- A segment is wiped only after the copies of all it kept are durable and no checkpoint names it.
- A segment that a crash left half emptied goes first and alone: otherwise the newer copy of a
  record could be deleted and forgotten while the older one still lies there to be found again.
- Tombstones are copied as long as the segment they aim at is in use; freeing it is durable before
  any is dropped.
- Damage is never spread or hidden: copies keep the value's checksum as it was, and a segment whose
  summary or a live record is unreadable stays as it is.
- The write lock is held for one record's copy at a time, so writers wait milliseconds.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

from blkdev import format as fmt
from blkdev.care.bad_slots import retire
from blkdev.catalog import Catalog, Segment
from blkdev.checkpoint import Checkpointer
from blkdev.log import COMPACTION, Draft, Log
from blkdev.segment import Record, Volume, read_footer, read_record, read_summary

_VICTIMS_MAX = 16


@dataclass
class CompactReport:
    """What one compaction did; sizes in bytes."""

    segments_freed: int = 0
    copied_bytes: int = 0
    reclaimed_bytes: int = 0
    damaged_segments: int = 0


class Emptied(NamedTuple):
    """A segment whose live records have copies, and the names it has records of."""

    segment: Segment
    names: Counter[bytes]


class _DamagedError(Exception):
    """A live record cannot be read."""


class Compactor:
    """Frees segments of one open store. The caller holds the maintenance lock."""

    def __init__(
        self, volume: Volume, catalog: Catalog, log: Log, checkpointer: Checkpointer
    ) -> None:
        self._volume = volume
        self._catalog = catalog
        self._log = log
        self._checkpointer = checkpointer
        self._unmovable: set[int] = set()

    def compact(self, budget_bytes: int | None = None) -> CompactReport:
        """Free segments, emptiest first, until nothing is gained or the budget is copied."""
        report = CompactReport()
        while budget_bytes is None or report.copied_bytes < budget_bytes:
            if not self._round(report):
                break
        return report

    def reclaim(self, keep_free: int) -> bool:
        """Free segments until more than `keep_free` are free; False when that cannot be done."""
        report = CompactReport()
        while len(self._catalog.free) <= keep_free:
            if not self._round(report):
                return False
        return True

    def _round(self, report: CompactReport) -> bool:
        """Empty and free a few segments; False when there was nothing to gain."""
        victims = self._choose()
        if not victims:
            return False
        before = self._log.written_bytes
        emptied: list[Emptied] = []
        for victim in victims:
            try:
                emptied.append(Emptied(victim, self._empty(victim)))
            except _DamagedError:
                self._unmovable.add(victim.sequence)
                report.damaged_segments += 1
        self._log.commit()
        copied = self._log.written_bytes - before
        report.copied_bytes += copied
        report.segments_freed += self.free(emptied)
        report.reclaimed_bytes += sum(item.segment.end for item in emptied) - copied
        return True

    def _choose(self) -> list[Segment]:
        """Segments worth emptying now, with room for their live records."""
        log, page = self._log, fmt.PAGE_SIZE_BYTES
        usable = self._volume.geometry.segment_size_bytes - 2 * page
        # Copies go out in a few groups, each of which may end in nearly a page of padding.
        gain_min = (usable // log.staged_size_max_bytes + 2) * page
        with log.write_lock, log.state_lock:
            before = log.active.sequence if log.active else log.next_segment_sequence
            room = log.room_bytes() + len(self._catalog.free) * usable
            known = self._catalog.candidates(before)
            pins = self._catalog.pins
            candidates = [
                segment
                for segment in known
                if segment.sequence not in self._unmovable
                and not pins[segment.slot]
                and (segment.copied or segment.live_bytes + gain_min <= segment.end - page)
            ]
            if any(segment.copied and pins[segment.slot] for segment in known):
                return []
        if candidates and candidates[0].copied:
            return candidates[:1]
        chosen: list[Segment] = []
        for segment in candidates[:_VICTIMS_MAX]:
            room -= segment.live_bytes + gain_min
            if chosen and room < usable:
                break
            chosen.append(segment)
        return chosen

    def _empty(self, victim: Segment) -> Counter[bytes]:
        """Copy what is alive; all names that the segment has records of, with their number.

        Raises _DamagedError before anything is copied.
        """
        footer = read_footer(self._volume, victim.slot, victim.sequence)
        entries = read_summary(self._volume, victim.slot, footer) if footer is not None else None
        if entries is None:
            raise _DamagedError
        pairs = iter(entries)
        live = [entry for entry in zip(pairs, pairs, strict=True) if self._may_live(*entry)]
        records = [read_record(self._volume, location & ~fmt.OTHER_KIND) for _, location in live]
        names: Counter[bytes] = Counter()
        for record in records:
            if record is None:
                raise _DamagedError
            if record.header.kind in (fmt.KIND_NAME, fmt.KIND_NAME_REMOVAL):
                names[record.key] += 1
        for (fingerprint, _), record in zip(live, records, strict=True):
            assert record is not None
            self.copy(victim, fingerprint, record, names)
        return names

    def _may_live(self, fingerprint: int, location: int) -> bool:
        with self._log.state_lock:
            other = bool(location & fmt.OTHER_KIND)
            return other or self._catalog.index.has(fingerprint, location)

    def copy(
        self, victim: Segment, fingerprint: int, record: Record, names: Counter[bytes]
    ) -> bool:
        """Append a copy of a record if it is alive still, and point the catalog at it."""
        header, key, value, location = record
        kind, checksum = header.kind, header.value_checksum
        log, catalog = self._log, self._catalog
        # Deletes need the write lock, so what is alive now stays so until it is moved.
        with log.write_lock:
            if kind == fmt.KIND_TOMBSTONES:
                value = self._needed_tombstones(victim, value)
                checksum = crc32(value)
                alive = bool(value)
            elif kind == fmt.KIND_BLOCK:
                alive = catalog.index.has(fingerprint, location)
            else:
                alive = catalog.is_current(kind, key, header.sequence, location)
            # A name's removal is needed while some other segment has a record of the name.
            forgotten = kind == fmt.KIND_NAME_REMOVAL and catalog.names[key].copies == names[key]
            if not alive or forgotten:
                return False
            draft = Draft(kind, key, value, checksum, fingerprint, header.sequence, location)
            log.append((draft,), COMPACTION)
            return True

    def _needed_tombstones(self, victim: Segment, value: bytes) -> bytes:
        in_use = self._catalog.by_sequence
        return b"".join(
            fmt.TOMBSTONE.struct.pack(*tombstone)
            for tombstone in fmt.tombstones(value)
            if tombstone[2] in in_use and tombstone[2] != victim.sequence
        )

    def free(self, emptied: list[Emptied]) -> int:
        """Wipe and release emptied segments whose copies are durable; how many."""
        log, catalog = self._log, self._catalog
        ready: list[Emptied] = []
        with log.write_lock, log.state_lock:
            for item in emptied:
                if catalog.pins[item.segment.slot]:
                    item.segment.copied = True
                else:
                    ready.append(item)
        if not ready:
            return 0
        self._checkpointer.drop()
        slots = [item.segment.slot for item in ready]
        retired = retire(catalog, self._checkpointer, slots)
        log.wipe([slot for slot in slots if slot not in retired])
        with log.write_lock, log.state_lock:
            for item in ready:
                catalog.close_segment(item.segment)
                catalog.drop_name_records(item.names.elements())
                if item.segment.slot not in catalog.bad_slots:
                    catalog.free.append(item.segment.slot)
        return len(ready)
