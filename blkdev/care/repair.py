"""Repair: keep everything that verifies, drop what does not, and say what that was.

    check -> for each damaged segment: copy what is whole, drop what is lost
          -> commit the copies -> free the segment, or retire it -> check again

What is lost of the log's own knowledge is written anew from the catalog: tombstones, removals of
names, trims of journals. Blocks, names and journal records that are lost are reported and gone:
`has` says no, so that the layer above can fetch and put them again.

Invariants
- A segment goes only after the copies of what it kept are durable, by the same steps as in
  compaction; so a crash at any moment loses nothing good, and another repair finishes the work.
- Nothing is written to a segment with unreadable sectors.
- A segment that cannot be emptied for want of room, or that a view pins, stays as it is, and the
  second check says so.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from blkdev import format as fmt
from blkdev.care.check import Checker, CheckReport, Finding, ProgressCallback
from blkdev.care.walk import KIND_NAMES, Extent, Live, inspect, live_in, walk
from blkdev.catalog import Catalog, Segment
from blkdev.checkpoint import Checkpointer
from blkdev.checksum import crc32
from blkdev.compaction.compact import Compactor, Emptied
from blkdev.draft import Draft, tombstones_of
from blkdev.errors import StoreFull
from blkdev.log import COMPACTION, DATA, Log
from blkdev.segment import Record, Volume

_ROUNDS_MAX = 4
"""Making room may move damaged values to other segments, which another round then finds."""
_NAME_KINDS = (fmt.KIND_NAME, fmt.KIND_NAME_REMOVAL)


@dataclass
class RepairReport:
    """What a repair found and did. `lost` names what is gone for good; `found` and `left` are the
    checks before and after it.
    """

    found: CheckReport
    left: CheckReport
    lost: list[Finding] = field(default_factory=list)
    records_kept: int = 0
    segments_freed: int = 0
    segments_retired: int = 0

    @property
    def ok(self) -> bool:
        return self.left.ok


class Repairer:
    """One repair of a store at rest. The caller holds the maintenance lock and the write lock, and
    has written out what was staged.
    """

    def __init__(
        self,
        volume: Volume,
        catalog: Catalog,
        log: Log,
        checkpointer: Checkpointer,
        compactor: Compactor,
        progress: ProgressCallback | None = None,
    ) -> None:
        self._volume = volume
        self._catalog = catalog
        self._log = log
        self._checkpointer = checkpointer
        self._compactor = compactor
        self._progress = progress

    def run(self) -> RepairReport:
        """Raises StoreReadOnly when the device refuses to be written."""
        self._compactor.settle()
        first = self._check()
        self._report = RepairReport(first, first)
        for _ in range(_ROUNDS_MAX):
            left = self._report.left
            if left.ok or not self._round(left):
                break
            self._report.left = self._check()
        return self._report

    def _check(self) -> CheckReport:
        return Checker(self._volume, self._catalog, self._progress).run()

    def _round(self, found: CheckReport) -> bool:
        """One pass over what a check found; False when nothing could be done."""
        if found.superblock_copies:
            self._checkpointer.update_superblock()
        catalog = self._catalog
        for slot in found.unreadable_slots:
            catalog.bad_slots.setdefault(slot, False)
        segments = [catalog.segments[slot] for slot in found.damaged_slots]
        # Interrupted compactions first, as everywhere: see blkdev/compaction/compact.py.
        ordered = sorted(segments, key=lambda item: (not item.copied, item.sequence))
        mended = [self._mend(segment) for segment in ordered]
        return bool(found.superblock_copies) or any(mended)

    def _mend(self, segment: Segment) -> bool:
        """Empty a damaged segment and let it go. False when that is not possible now."""
        if self._catalog.segments.get(segment.slot) is not segment:
            return True
        free = self._catalog.free
        retires = segment.slot in self._catalog.bad_slots
        if retires and len(free) <= DATA and not self._compactor.reclaim(DATA):
            # One segment less: without the reserve, a full store could not even delete.
            return False
        if self._log.active is segment:
            # Go on in another one, without a write to this, which is about to be emptied.
            segment.sealed = True
            self._log.active, self._log.entries = None, array("Q")
        try:
            emptied = Emptied(segment, self._empty(segment))
        except StoreFull:
            # As after an interrupted compaction: some of its records have newer copies.
            segment.copied = True
            return False
        self._log.commit()
        freed = len(self._compactor.free([emptied]))
        retired = freed and self._catalog.bad_slots.get(segment.slot, False)
        self._report.segments_retired += bool(retired)
        self._report.segments_freed += freed - bool(retired)
        return bool(freed)

    def _empty(self, segment: Segment) -> Counter[bytes]:
        """Copy what is whole, drop what is lost; the names of which the segment has records."""
        names: Counter[bytes] = Counter()
        buried: Counter[int] = Counter()
        extent = Extent.of(segment)
        for found in walk(self._volume, extent):
            if isinstance(found, Record) and self._is_known(found):
                if found.header.kind in _NAME_KINDS:
                    names[found.key] += 1
                elif found.header.kind == fmt.KIND_TOMBSTONES and found.is_whole:
                    buried.update(self._targets(found))
        for found in walk(self._volume, extent):
            if isinstance(found, Record) and found.is_whole and self._is_known(found):
                self._keep(segment, found, names)
        self._bury_again(segment, buried)
        for live in list(live_in(self._catalog, {segment.slot})):
            verdict = inspect(self._volume, live)
            if verdict.record is not None and self._is_known(verdict.record):
                self._keep(segment, verdict.record, names)
            else:
                self._drop(live, verdict.key, verdict.problem)
        return names

    def _targets(self, record: Record) -> Iterator[int]:
        """Sequences of the segments that a record of tombstones aims at, as the catalog counts."""
        for _, dead, target in fmt.tombstones(record.value):
            segment = self._catalog.by_sequence.get(target)
            if segment is not None and segment.slot == fmt.location_slot(dead):
                yield target

    def _is_known(self, record: Record) -> bool:
        """Whether the catalog has heard of the name or stream. What recovery could not read may
        be readable now, and is then not this repair's business.
        """
        if record.header.kind in _NAME_KINDS:
            return record.key in self._catalog.names
        if record.header.kind in (fmt.KIND_JOURNAL, fmt.KIND_JOURNAL_TRIM):
            return int.from_bytes(record.key, "little") in self._catalog.streams
        return True

    def _keep(self, segment: Segment, record: Record, names: Counter[bytes]) -> None:
        fingerprint = record.entry(self._volume.index_salt)[0]

        def copy() -> None:
            kept = self._compactor.copy(segment, [(fingerprint, record)], names)
            self._report.records_kept += bool(kept)

        self._with_room(copy)

    def _drop(self, live: Live, key: bytes, problem: str) -> None:
        """Do without a record that cannot be read. What the catalog itself knows is written anew;
        anything else is lost. Blocks and journal records leave the log with their segment.
        """
        catalog, kind = self._catalog, live.kind
        if kind == fmt.KIND_JOURNAL_TRIM:
            trimmed_to = catalog.streams[int.from_bytes(key, "little")].trimmed_to
            value = trimmed_to.to_bytes(8, "little", signed=True)
            self._append(Draft(kind, key, value, crc32(value)))
        elif kind in _NAME_KINDS:
            # Without it, an older record of the name would come back.
            self._append(Draft(fmt.KIND_NAME_REMOVAL, key, b"", crc32(b"")))
        else:
            with self._log.state_lock:
                if kind == fmt.KIND_BLOCK:
                    catalog.drop_block(live.fingerprint, live.location)
                else:
                    stream = int.from_bytes(key, "little")
                    catalog.drop_journal_record(stream, live.sequence)
        if kind in (fmt.KIND_BLOCK, fmt.KIND_NAME, fmt.KIND_JOURNAL):
            offset = self._volume.device_offset(live.location)
            self._report.lost.append(Finding(problem, offset, key, KIND_NAMES[kind]))

    def _bury_again(self, segment: Segment, buried: Counter[int]) -> None:
        """Tombstones of the segment that cannot be read are written anew: for everything that is
        dead in the segments they aim at. `buried` counts by target those that can be read.
        """
        for target, holders in list(self._catalog.tombstones.items()):
            if target == segment.sequence or holders.get(segment.sequence, 0) <= buried[target]:
                continue
            dead = {}
            for found in walk(self._volume, Extent.of(self._catalog.by_sequence[target])):
                if isinstance(found, Record) and found.header.kind == fmt.KIND_BLOCK:
                    fingerprint, location = found.entry(self._volume.index_salt)
                    if not self._catalog.index.has(fingerprint, location):
                        dead[location] = fingerprint
            for draft in tombstones_of(dead, self._catalog):
                self._append(draft)

    def _append(self, draft: Draft) -> None:
        self._with_room(lambda: self._log.append((draft,), COMPACTION))

    def _with_room(self, action: Callable[[], object]) -> None:
        """Run an action that appends; compact for it when the store is full."""
        try:
            action()
        except StoreFull:
            if not self._compactor.reclaim(COMPACTION):
                raise
            action()
