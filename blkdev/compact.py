"""Give back the space of dead records: copy what is alive out of a segment, then free it.

    empty some segments -> commit the copies -> drop the checkpoint -> wipe -> sync -> free

Invariants
- A segment is wiped only after the copies of all it kept are durable and no checkpoint names it.
- A segment that a crash left half emptied goes first and alone: otherwise the newer copy of a
  record could be deleted and forgotten while the older one still lies there to be found again.
- Tombstones are copied as long as the segment they aim at is in use; freeing it is durable before
  any is dropped.
- Damage is never spread or hidden: copies keep the value's checksum as it was, and a segment whose
  summary or a live record is unreadable stays as it is.
- The write lock is held for one batch of copies at a time, so writers wait milliseconds.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

from blkdev import format as fmt
from blkdev.catalog import Catalog, Segment
from blkdev.checkpoint import Checkpointer
from blkdev.log import COMPACTION, Draft, Log
from blkdev.segment import Volume, read_footer, read_record, read_summary

_BATCH_SIZE_BYTES = 1 << 20
_VICTIMS_MAX = 16


@dataclass
class CompactReport:
    """What one compaction did; sizes in bytes."""

    segments_freed: int = 0
    copied_bytes: int = 0
    reclaimed_bytes: int = 0
    damaged_segments: int = 0


class _Item(NamedTuple):
    """A live record to copy, and where it was."""

    location: int
    draft: Draft


class _Emptied(NamedTuple):
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
        emptied: list[_Emptied] = []
        for victim in victims:
            try:
                emptied.append(_Emptied(victim, self._empty(victim)))
            except _DamagedError:
                self._unmovable.add(victim.sequence)
                report.damaged_segments += 1
        self._log.commit()
        copied = self._log.written_bytes - before
        report.copied_bytes += copied
        report.segments_freed += self._free(emptied)
        report.reclaimed_bytes += sum(item.segment.end for item in emptied) - copied
        return True

    def _choose(self) -> list[Segment]:
        """Segments worth emptying now, with room for their live records."""
        size, page = self._volume.geometry.segment_size_bytes, fmt.PAGE_SIZE_BYTES
        usable = size - 2 * page
        # Copies go out in a few groups, each of which may end in nearly a page of padding.
        gain_min = (usable // self._log.staged_size_max_bytes + 2) * page
        with self._log.write_lock, self._log.state_lock:
            active = self._log.active
            before = active.sequence if active else self._log.next_segment_sequence
            room = self._log.room_bytes() + len(self._catalog.free) * usable
            candidates = [
                segment
                for segment in self._catalog.candidates(before)
                if segment.sequence not in self._unmovable
                and (segment.copied or segment.live_bytes + gain_min <= segment.end - page)
            ]
            pinned = any(s.copied and self._catalog.is_pinned(s.slot) for s in candidates)
        if pinned:
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

        Raises _DamagedError before anything of a damaged batch is copied.
        """
        names: Counter[bytes] = Counter()
        removals: list[_Item] = []
        batch: list[_Item] = []
        batch_size = 0
        for fingerprint, location in self._entries(victim):
            item = self._read(victim, fingerprint, location, names)
            if item is None:
                continue
            if item.draft.kind == fmt.KIND_NAME_REMOVAL:
                removals.append(item)
                continue
            batch.append(item)
            batch_size += fmt.location_size(location)
            if batch_size >= _BATCH_SIZE_BYTES:
                self._copy(batch)
                batch, batch_size = [], 0
        with self._log.state_lock:
            known = self._catalog.names
            # A removal is needed while some other segment has a record of the name.
            batch += [
                item for item in removals if known[item.draft.key].copies > names[item.draft.key]
            ]
        self._copy(batch)
        return names

    def _entries(self, victim: Segment) -> list[tuple[int, int]]:
        footer = read_footer(self._volume, victim.slot, victim.sequence)
        entries = read_summary(self._volume, victim.slot, footer) if footer is not None else None
        if entries is None:
            raise _DamagedError
        pairs = iter(entries)
        return list(zip(pairs, pairs, strict=True))

    def _read(
        self, victim: Segment, fingerprint: int, location: int, names: Counter[bytes]
    ) -> _Item | None:
        """The record as a draft of its copy, or None when it is dead."""
        if not location & fmt.OTHER_KIND:
            with self._log.state_lock:
                if not self._catalog.index.has(fingerprint, location):
                    return None
        record = read_record(self._volume, location & ~fmt.OTHER_KIND)
        if record is None:
            raise _DamagedError
        header, key, value, location = record
        checksum = header.value_checksum
        if header.kind in (fmt.KIND_NAME, fmt.KIND_NAME_REMOVAL):
            names[key] += 1
        if header.kind == fmt.KIND_TOMBSTONES:
            value = self._needed_tombstones(victim, value)
            checksum = crc32(value)
            if not value:
                return None
        draft = Draft(header.kind, key, value, checksum, fingerprint, header.sequence)
        with self._log.state_lock:
            return _Item(location, draft) if self._is_live(draft, location) else None

    def _needed_tombstones(self, victim: Segment, value: bytes) -> bytes:
        with self._log.state_lock:
            return b"".join(
                fmt.TOMBSTONE.struct.pack(*tombstone)
                for tombstone in fmt.tombstones(value)
                if tombstone[2] in self._catalog.by_sequence and tombstone[2] != victim.sequence
            )

    def _is_live(self, draft: Draft, location: int) -> bool:
        if draft.kind == fmt.KIND_TOMBSTONES:
            return True
        if draft.kind == fmt.KIND_BLOCK:
            return self._catalog.index.has(draft.fingerprint, location)
        return self._catalog.is_current(draft.kind, draft.key, draft.sequence, location)

    def _copy(self, batch: list[_Item]) -> None:
        """Append copies of what is still alive and point the catalog at them."""
        log = self._log
        with log.write_lock:
            for item in batch:
                # Deletes need the write lock, so what is alive now stays so until it is moved.
                if not self._is_live(item.draft, item.location):
                    continue
                (copy,) = log.append((item.draft,), COMPACTION)
                with log.state_lock:
                    if item.draft.kind == fmt.KIND_BLOCK:
                        self._catalog.move_block(item.draft.fingerprint, item.location, copy)
                    else:
                        kind, key, value, _, _, sequence = item.draft
                        self._catalog.enter(kind, key, value, sequence, copy)
                log.trim_staging()

    def _free(self, emptied: list[_Emptied]) -> int:
        """Wipe and release emptied segments whose copies are durable; how many."""
        log, catalog = self._log, self._catalog
        ready: list[_Emptied] = []
        with log.write_lock, log.state_lock:
            for item in emptied:
                if catalog.is_pinned(item.segment.slot):
                    item.segment.copied = True
                else:
                    ready.append(item)
        if not ready:
            return 0
        self._checkpointer.drop()
        log.wipe([item.segment.slot for item in ready])
        with log.write_lock, log.state_lock:
            for item in ready:
                catalog.close_segment(item.segment)
                catalog.drop_name_records(item.names.elements())
                catalog.free.append(item.segment.slot)
        return len(ready)
