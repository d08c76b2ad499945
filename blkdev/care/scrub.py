"""Scrub: read everything that is alive while the store is in use, and note what is damaged.

    segments in the order of the log, oldest first -> superblock says how far -> where that was
    the end of the log when the scrub began, it is finished

A damaged block stays in the index as damaged: reading it is BlockDamaged, putting it stores it
anew. A segment with sectors that cannot be read is listed as bad and never given out again. Damaged
superblock copies are written again. Everything else is for `repair`.

Invariants
- No lock is held during I/O, so readers and writers go on; whatever looks damaged counts only if it
  is still alive after the read, and is read twice.
- How far it came is durable at least every few seconds and at its end, however that comes. What
  compaction moves behind the scrub's back is read in the next one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from blkdev import format as fmt
from blkdev.care.check import Finding, ProgressCallback, damaged_copies
from blkdev.care.walk import (
    KIND_NAMES,
    Damage,
    Extent,
    Live,
    WatchedVolume,
    inspect,
    live_in,
    survey,
)
from blkdev.catalog import Catalog
from blkdev.checkpoint import Checkpointer
from blkdev.errors import BlockDamaged
from blkdev.log import Log
from blkdev.reader import Reader
from blkdev.segment import Record, Volume

_SAVE_EVERY_S = 10.0
_WAIT_MAX_S = 0.5


@dataclass
class ScrubReport:
    """What one scrub read and found. `finished` is False when it was ended before; the next one
    then goes on where it stopped. Sizes in bytes.
    """

    resumed: bool = False
    finished: bool = False
    segments: int = 0
    records: int = 0
    bytes_read: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.findings


class Pacer:
    """Keeps reads to a rate by waiting before each. `clock` and `wait` are those of `time`."""

    def __init__(
        self,
        rate_bytes_s: int | None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self.clock = clock
        self._wait = wait
        self._rate_bytes_s = rate_bytes_s
        self._free_at_s = clock()

    def take(self, size_bytes: int, meanwhile: Callable[[], None]) -> None:
        """Wait until so many bytes may be read; calls `meanwhile` now and then, which may raise."""
        if self._rate_bytes_s is None:
            return
        begin_s = max(self.clock(), self._free_at_s)
        self._free_at_s = begin_s + size_bytes / self._rate_bytes_s
        while (left_s := begin_s - self.clock()) > 0:
            meanwhile()
            self._wait(min(left_s, _WAIT_MAX_S))


class Scrubber:
    """One scrub of an open store."""

    def __init__(
        self,
        volume: Volume,
        catalog: Catalog,
        log: Log,
        checkpointer: Checkpointer,
        maintenance_lock: threading.Lock,
        check_open: Callable[[], None],
    ) -> None:
        self._catalog = catalog
        self._log = log
        self._checkpointer = checkpointer
        self._maintenance_lock = maintenance_lock
        self._check_open = check_open
        self._volume = WatchedVolume.over(volume, self._before_read)
        self._report = ScrubReport()
        self._total_bytes = 0

    def run(
        self, pacer: Pacer, *, restart: bool = False, progress: ProgressCallback | None = None
    ) -> ScrubReport:
        """Raises StoreClosed, StoreReadOnly, and what `progress` raises."""
        with self._volume.source:
            return self._run(pacer, restart, progress)

    def _run(self, pacer: Pacer, restart: bool, progress: ProgressCallback | None) -> ScrubReport:
        self._pacer, self._progress = pacer, progress
        done_to = 0 if restart else int(self._checkpointer.block.scrubbed_to)
        self._report.resumed = done_to > 0
        with self._log.write_lock, self._log.state_lock:
            segments = [Extent.of(segment) for segment in self._catalog.segments.values()]
        ahead = sorted((s for s in segments if s.sequence > done_to), key=lambda s: s.sequence)
        self._total_bytes = sum(segment.end for segment in ahead)
        self._check_superblocks()
        saved_s = pacer.clock()
        try:
            for segment in self._volume.in_order(ahead):
                self._check_open()
                self._scrub(segment)
                done_to = segment.sequence
                if pacer.clock() - saved_s >= _SAVE_EVERY_S:
                    self._save(scrubbed_to=done_to)
                    saved_s = pacer.clock()
            self._report.finished = True
        finally:
            self._report.bytes_read = self._volume.source.read_bytes
            if self._report.finished:
                self._save(scrubbed_to=0, scrubbed_ns=time.time_ns())
            elif self._log.failure is None:
                self._save(scrubbed_to=done_to)
        return self._report

    def _before_read(self, size_bytes: int) -> None:
        self._stay()
        self._pacer.take(size_bytes, self._stay)

    def _stay(self) -> None:
        """Say how far it is. Raises when there is no reason to go on."""
        self._check_open()
        if self._progress is not None:
            done = min(self._volume.source.read_bytes, self._total_bytes)
            self._progress(done, self._total_bytes)

    def _save(self, **changes: int) -> None:
        with self._maintenance_lock:
            self._check_open()
            self._checkpointer.update_superblock(**changes)

    def _check_superblocks(self) -> None:
        with self._maintenance_lock:
            self._check_open()
            damaged = damaged_copies(self._volume)
            if damaged:
                self._checkpointer.update_superblock()
        what = "a superblock copy was damaged; it was written again"
        self._report.findings += [Finding(what, offset) for offset in damaged]

    def _scrub(self, segment: Extent) -> None:
        suspects: list[Record] = []
        damages: list[Damage] = []
        count = 0
        for found in survey(self._volume, segment):
            if isinstance(found, Damage):
                damages.append(found)
            else:
                count += len(found.entries) >> 1
                suspects += (record for record in found.records if not record.is_whole)
        if not self._is_in_use(segment):
            return  # compaction freed it meanwhile: what was read may be anything
        self._report.segments += 1
        self._report.records += count
        for damage in damages:
            self._find(segment, damage.offset, damage.what)
        if damages or segment.slot in self._volume.failed_slots:
            self._inspect_all(segment)
        else:
            for record in suspects:
                self._inspect_one(segment, record)
        if segment.slot in self._volume.failed_slots:
            with self._log.state_lock:
                # Durable with the next save.
                self._catalog.bad_slots.setdefault(segment.slot, False)
            if not damages:
                self._find(segment, 0, f"the device cannot read all of segment {segment.slot}")

    def _is_in_use(self, segment: Extent) -> bool:
        with self._log.state_lock:
            now = self._catalog.segments.get(segment.slot)
            return now is not None and now.sequence == segment.sequence

    def _find(
        self, segment: Extent, offset: int, what: str, key: bytes = b"", lost: str = ""
    ) -> None:
        at = self._volume.geometry.segment_offset(segment.slot) + offset
        self._report.findings.append(Finding(what, at, key, lost))

    def _inspect_all(self, segment: Extent) -> None:
        """Every live record of a damaged segment by itself: a walk may have missed some."""
        with self._log.write_lock:
            lives = list(live_in(self._catalog, {segment.slot}))
        for live in lives:
            self._judge(segment, live)

    def _inspect_one(self, segment: Extent, record: Record) -> None:
        kind, sequence = record.header.kind, record.header.sequence
        if kind == fmt.KIND_TOMBSTONES:
            in_use = self._catalog.by_sequence
            if any(target in in_use for _, _, target in fmt.tombstones(record.value)):
                offset = fmt.location_offset(record.location)
                self._find(segment, offset, "a value fails its checksum", b"", KIND_NAMES[kind])
            return
        fingerprint, _ = record.entry(self._volume.index_salt)
        key = b"" if kind == fmt.KIND_BLOCK else record.key
        self._judge(segment, Live(kind, record.location, key, fingerprint, sequence))

    def _judge(self, segment: Extent, live: Live) -> None:
        """Read a record once more; report and note it if it is damaged and still alive."""
        self._volume.source.forget()
        verdict = inspect(self._volume, live)
        if verdict.record is not None:
            return
        self._catalog.index.complete()
        with self._log.state_lock:
            if not self._is_alive(live):
                return
            if live.kind == fmt.KIND_BLOCK and verdict.is_rotten:
                self._catalog.damaged.add(live.location)
        offset = fmt.location_offset(live.location)
        self._find(segment, offset, verdict.problem, verdict.key, KIND_NAMES[live.kind])

    def _is_alive(self, live: Live) -> bool:
        if live.kind == fmt.KIND_BLOCK:
            return self._catalog.index.has(live.fingerprint, live.location)
        try:
            return self._catalog.is_current(live.kind, live.key, live.sequence, live.location)
        except KeyError:
            return False  # the name or journal is gone


def condemn(reader: Reader, catalog: Catalog, log: Log, key: bytes) -> None:
    """The key's value counts as damaged until the store is closed, if it is there."""
    try:
        found = reader.find(key)
    except BlockDamaged:
        return
    with log.state_lock:
        if found is not None and catalog.index.has(found.fingerprint, found.location):
            catalog.damaged.add(found.location)
