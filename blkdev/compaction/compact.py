"""Give back the space of dead records: copy what is alive out of a segment, then free it.

    empty some segments -> commit the copies -> drop the checkpoint -> wipe -> sync -> free

A segment with unreadable sectors is not wiped but retired: it is listed in the superblock, nothing
is written to it, and it is not free.

Invariants
- A segment is wiped only after the copies of all it kept are durable and no checkpoint names it.
- A segment that a crash left half emptied goes first and alone: otherwise the newer copy of a
  record could be deleted and forgotten while the older one still lies there to be found again. For
  the same reason, while emptied segments wait to be freed, only older ones join them.
- Tombstones are copied as long as the segment they aim at is in use; freeing it is durable before
  any is dropped.
- Damage is never spread or hidden: copies keep the value's checksum as it was, and a segment whose
  summary or a live record is unreadable stays as it is.
- The write lock is held for copies of _TOGETHER_MAX_BYTES, or of one larger record, at a time: so
  writers wait milliseconds.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from blkdev import format as fmt
from blkdev.bad_slots import retire
from blkdev.catalog import Catalog, Segment
from blkdev.checkpoint import Checkpointer
from blkdev.checksum import crc32
from blkdev.compaction.victims import by_benefit
from blkdev.draft import Draft
from blkdev.errors import StoreFull
from blkdev.log import COMPACTION, DATA, Log
from blkdev.segment import Record, Volume, read_footer, read_record, read_summary

_VICTIMS_MAX = 16
_VIEWS_WAIT_S = 1.0
"""How long a full store waits for views of all that could be freed; most last microseconds, but on
a busy machine a thread may be kept from ending its view for a hundred milliseconds.
"""
_VIEWS_PAUSE_S = 0.001
_LOOKED_UP_COUNT = 256
_TOGETHER_MAX_BYTES = 32 << 10
_TOGETHER_SHARE = 32
"""Of a segment: what does not fit its rest goes to the next, and the rest is lost."""
_CHECKPOINT_SHARE = 8
"""Bytes of freed segments for each byte of the checkpoint that freeing them in the background
costs."""


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


Living = tuple[int, Record]
"""A record that may be alive, after its fingerprint."""


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
        self._emptied: list[Emptied] = []
        self._before = 0
        self.is_held = False
        """Whether views kept the last round from all that it could have done."""
        self._usable_bytes = volume.geometry.segment_size_bytes - 2 * fmt.PAGE_SIZE_BYTES
        groups = self._usable_bytes // log.staged_size_max_bytes + 2
        self._padding_bytes = groups * fmt.PAGE_SIZE_BYTES
        self._together_bytes = min(_TOGETHER_MAX_BYTES, self._usable_bytes // _TOGETHER_SHARE)

    def compact(
        self, budget_bytes: int | None = None, *, background: bool = False
    ) -> CompactReport:
        """Free segments until nothing is gained or about the budget is copied, and write a new
        checkpoint. In the background, what is emptied is freed when that is worth a checkpoint,
        perhaps in a later call.
        """
        report = CompactReport()
        free_from_bytes = _CHECKPOINT_SHARE * self._catalog.index.size_bytes if background else 0
        while budget_bytes is None or report.copied_bytes < budget_bytes:
            left = None if budget_bytes is None else budget_bytes - report.copied_bytes
            if not self.free_some(report, limit_bytes=left, free_from_bytes=free_from_bytes):
                break
        if report.segments_freed:
            self._checkpointer.write()
        return report

    def reclaim(self, keep_free: int) -> bool:
        """Free segments until more than `keep_free` are free or nothing is gained any more; False
        when nothing was gained at all.
        """
        report = CompactReport()
        gained = False
        deadline_s = time.monotonic() + _VIEWS_WAIT_S
        while len(self._catalog.free) <= keep_free:
            if self.free_some(report) or self._retire_active():
                gained = True
            elif gained or not self.is_held or time.monotonic() >= deadline_s:
                return gained
            else:
                time.sleep(_VIEWS_PAUSE_S)
        return True

    def _retire_active(self) -> bool:
        """Seal the segment that is being filled if it could be emptied with a gain: on a full
        store, names and deletes make it the only one with dead records.
        """
        log = self._log
        with log.write_lock:
            active = log.active
            if active is None or not self._gains(active):
                return False
            log.retire()
            return True

    def _gains(self, segment: Segment) -> bool:
        """Whether emptying it frees more than its copies take. They go out in a few groups, each
        of which may end in nearly a page of padding.
        """
        return segment.live_bytes + self._padding_bytes <= segment.end - fmt.PAGE_SIZE_BYTES

    def free_some(
        self,
        report: CompactReport,
        *,
        limit_bytes: int | None = None,
        beyond: int | None = None,
        free_from_bytes: int = 0,
    ) -> bool:
        """One round: empty and free a few segments; False when nothing could be done. For the
        limits see `compact` and `_choose`.
        """
        victims = self._choose(limit_bytes, beyond)
        if victims:
            # Tombstones that are copied may be of any shard, and a copy must not end half-way.
            self._catalog.index.complete()
        done = 0
        for victim in victims:
            try:
                self._emptied.append(Emptied(victim, self._empty(victim, report)))
            except _DamagedError:
                self._unmovable.add(victim.sequence)
                report.damaged_segments += 1
            except StoreFull:
                # Others wrote meanwhile: what was emptied so far makes room for the rest.
                break
            done += 1
        self._log.commit()
        emptied_bytes = sum(item.segment.end for item in self._emptied)
        if not done or emptied_bytes >= free_from_bytes:
            done += self._free(report)
        return done > 0

    def is_unmovable(self, segment: Segment) -> bool:
        """Whether a live record of it could not be read."""
        return segment.sequence in self._unmovable

    def _choose(self, limit_bytes: int | None, beyond: int | None) -> list[Segment]:
        """Segments worth emptying now, with room for their live records and not much more than
        `limit_bytes` of those; or, with `beyond`, one in a slot from there on: emptying it gains
        nothing, so it must leave the reserve untouched.
        """
        log, catalog, usable = self._log, self._catalog, self._usable_bytes
        waiting = {item.segment.sequence for item in self._emptied}
        with log.write_lock, log.state_lock:
            if not waiting:
                self._before = log.active.sequence if log.active else log.next_segment_sequence
            room = log.room_bytes() + len(catalog.free) * usable
            left_out = self._unmovable | waiting
            known = [s for s in catalog.candidates(self._before) if s.sequence not in left_out]
            pinned = {s.sequence for s in known if catalog.index.pin_count(s.slot)}
        interrupted = [segment for segment in known if segment.copied]
        first = (
            interrupted if beyond is None else [s for s in known if s.copied or s.slot >= beyond]
        )
        self.is_held = any(segment.sequence in pinned for segment in first)
        if interrupted:
            return [segment for segment in interrupted if segment.sequence not in pinned][:1]
        able = [segment for segment in known if segment.sequence not in pinned]
        if beyond is None:
            able = by_benefit(able, self._before)
            able = [segment for segment in able if self._gains(segment)]
            self.is_held = not able and any(s.sequence in pinned and self._gains(s) for s in known)
        else:
            able = [segment for segment in able if segment.slot >= beyond][:1]
            room -= DATA * usable
        chosen: list[Segment] = []
        for segment in able[:_VICTIMS_MAX]:
            room -= segment.live_bytes + self._padding_bytes
            if (chosen and room < usable) or (beyond is not None and room < 0):
                break
            chosen.append(segment)
            if limit_bytes is not None and sum(s.live_bytes for s in chosen) >= limit_bytes:
                break
        return chosen

    def _empty(self, victim: Segment, report: CompactReport) -> Counter[bytes]:
        """Copy what is alive; all names that the segment has records of, with their number.

        Raises _DamagedError before anything is copied.
        """
        footer = read_footer(self._volume, victim.slot, victim.sequence)
        entries = read_summary(self._volume, victim.slot, footer) if footer is not None else None
        if entries is None:
            raise _DamagedError
        live = self._may_live(entries)
        records = [read_record(self._volume, location & ~fmt.OTHER_KIND) for _, location in live]
        names: Counter[bytes] = Counter()
        for record in records:
            if record is None:
                raise _DamagedError
            if record.header.kind in (fmt.KIND_NAME, fmt.KIND_NAME_REMOVAL):
                names[record.key] += 1
        victim.copied = True
        for some in self._together(zip([entry[0] for entry in live], records, strict=True)):
            copied_bytes = self.copy(victim, some, names)
            report.copied_bytes += copied_bytes
            report.reclaimed_bytes -= copied_bytes
        return names

    def _together(self, all_of_it: Iterable[tuple[int, Record | None]]) -> Iterator[list[Living]]:
        """The records in lists, each of which is copied while writers wait."""
        some: list[Living] = []
        size_bytes = 0
        for fingerprint, record in all_of_it:
            assert record is not None
            some.append((fingerprint, record))
            size_bytes += fmt.location_size(record.location)
            if size_bytes >= self._together_bytes:
                yield some
                some, size_bytes = [], 0
        yield some

    def _may_live(self, entries: array[int]) -> list[tuple[int, int]]:
        """Of a summary's (fingerprint, location) pairs, those of blocks that are alive and of
        records that are no blocks. A few at a time, so that no reader waits for long.
        """
        has = self._catalog.index.has
        pairs = iter(entries)
        entry = zip(pairs, pairs, strict=True)
        found: list[tuple[int, int]] = []
        while some := list(islice(entry, _LOOKED_UP_COUNT)):
            with self._log.state_lock:
                found += [pair for pair in some if pair[1] & fmt.OTHER_KIND or has(*pair)]
        return found

    def copy(self, victim: Segment, some: Sequence[Living], names: Counter[bytes]) -> int:
        """Append copies of those records that are alive still, and point the catalog at them;
        their size.
        """
        # Deletes need the write lock, so what is alive now stays so until it is moved.
        with self._log.write_lock:
            drafts = [draft for one in some if (draft := self._copy_of(victim, *one, names))]
            if drafts:
                self._log.append(drafts, COMPACTION)
        return sum([fmt.record_size(len(draft.key), len(draft.value)) for draft in drafts])

    def _copy_of(
        self, victim: Segment, fingerprint: int, record: Record, names: Counter[bytes]
    ) -> Draft | None:
        """None for a record that is dead by now."""
        header, key, value, location = record
        kind, checksum, catalog = header.kind, header.value_checksum, self._catalog
        if kind == fmt.KIND_BLOCK:
            alive = catalog.index.has(fingerprint, location)
        elif kind == fmt.KIND_TOMBSTONES:
            value = self._needed_tombstones(victim, value)
            checksum = crc32(value)
            alive = bool(value)
        else:
            alive = catalog.is_current(kind, key, header.sequence, location)
        # A name's removal is needed while some other segment has a record of the name.
        if alive and kind == fmt.KIND_NAME_REMOVAL:
            alive = catalog.names[key].copies > names[key]
        if not alive:
            return None
        return Draft(kind, key, value, checksum, fingerprint, header.sequence, location)

    def _needed_tombstones(self, victim: Segment, value: bytes) -> bytes:
        in_use = self._catalog.by_sequence
        return b"".join(
            fmt.TOMBSTONE.struct.pack(*tombstone)
            for tombstone in fmt.tombstones(value)
            if tombstone[2] in in_use and tombstone[2] != victim.sequence
        )

    def settle(self) -> None:
        """Free what was emptied and waits to be freed with more."""
        self._log.commit()
        self._free(CompactReport())

    def _free(self, report: CompactReport) -> int:
        """Free what was emptied, whose copies are durable; how many segments."""
        emptied, self._emptied = self._emptied, []
        freed = self.free(emptied)
        report.segments_freed += len(freed)
        report.reclaimed_bytes += sum(item.segment.end for item in freed)
        return len(freed)

    def free(self, emptied: list[Emptied]) -> list[Emptied]:
        """Wipe and release emptied segments, whose copies are durable; those that were. A pinned
        one stays behind, as one whose emptying was interrupted.
        """
        log, catalog = self._log, self._catalog
        ready: list[Emptied] = []
        with log.write_lock, log.state_lock:
            for item in emptied:
                if catalog.index.pin_count(item.segment.slot):
                    item.segment.copied = self.is_held = True
                else:
                    ready.append(item)
        if not ready:
            return []
        slots = [item.segment.slot for item in ready]
        forgotten = self._checkpointer.forget()
        retired = retire(catalog, self._checkpointer, slots)
        log.wipe([*(slot for slot in slots if slot not in retired), *forgotten])
        with log.write_lock, log.state_lock:
            for item in ready:
                catalog.close_segment(item.segment)
                catalog.drop_name_records(item.names.elements())
            catalog.release([*slots, *forgotten])
        return ready
