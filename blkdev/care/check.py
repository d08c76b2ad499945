"""Offline check: read and verify everything a store keeps, say what is lost, write nothing.

Unlike recovery it goes on past damage: it looks for the next whole group page by page, and in a
damaged group for the records that hold by themselves, so that the extent of the damage is known.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from blkdev import format as fmt
from blkdev.care.verify import Run, count_alive
from blkdev.care.walk import (
    KIND_NAMES,
    Damage,
    Extent,
    Live,
    WatchedVolume,
    inspect,
    live_in,
    small_records,
    survey,
)
from blkdev.catalog import Catalog, Segment
from blkdev.segment import Record, Volume
from blkdev.superblock import read_copy

ProgressCallback = Callable[[int, int], None]
"""Called now and then with bytes read and bytes to read; it may raise to end the work."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    `lost` is "block", "name", "journal record" and so on when something that was stored is gone,
    and empty when only structure is damaged, which costs no data. `key` is the block's key, the
    name, or the stream's number in 8 bytes; b"" when it cannot be told.
    """

    what: str
    device_offset: int
    key: bytes = b""
    lost: str = ""


@dataclass
class CheckReport:
    """Result of a check; the store is sound when `findings` is empty. Sizes in bytes.

    `damaged_slots` are segments with findings, `unreadable_slots` those that the device could not
    read everywhere, `superblock_copies` how many copies of that are damaged.
    """

    segments: int = 0
    records: int = 0
    live_records: int = 0
    bytes_read: int = 0
    live_bytes: int = 0
    superblock_copies: int = 0
    findings: list[Finding] = field(default_factory=list)
    damaged_slots: set[int] = field(default_factory=set)
    unreadable_slots: set[int] = field(default_factory=set)

    @property
    def ok(self) -> bool:
        return not self.findings

    @property
    def lost(self) -> list[Finding]:
        """The findings that name something lost."""
        return [finding for finding in self.findings if finding.lost]


def damaged_copies(volume: Volume) -> list[int]:
    """Device offsets of the superblock copies that are damaged."""
    offsets = volume.geometry.copy_offsets
    return [offset for offset in offsets if read_copy(volume.device, offset)[0] is None]


class Checker:
    """One pass over a store at rest: the caller keeps writers and compaction out."""

    def __init__(
        self, volume: Volume, catalog: Catalog, progress: ProgressCallback | None = None
    ) -> None:
        self._catalog = catalog
        self._progress = progress
        self._total_bytes = sum(segment.end for segment in catalog.segments.values())
        self._volume = WatchedVolume.over(volume, self._report_progress)
        self._report = CheckReport()
        self._live_bytes: Counter[int] = Counter()
        self._unseen_blocks = catalog.index.count
        self._unseen_small = {live.location for live in small_records(catalog)}
        # What was found in segments of which the catalog counts on more, or on less.
        self._found: dict[int, set[tuple[int, int]]] = {}

    def run(self) -> CheckReport:
        """Whatever is wrong is a finding. Raises only StoreDamaged, where a part of the index that
        was put off cannot be had.
        """
        self._catalog.index.complete()
        with self._volume.source:
            return self._run()

    def _run(self) -> CheckReport:
        report, catalog = self._report, self._catalog
        for offset in damaged_copies(self._volume):
            report.superblock_copies += 1
            report.findings.append(Finding("a superblock copy is damaged", offset))
        segments = sorted(catalog.segments.values(), key=lambda item: item.sequence)
        for extent in self._volume.in_order(list(map(Extent.of, segments))):
            self._check_segment(catalog.segments[extent.slot], extent)
        self._check_unseen()
        for slot, segment in catalog.segments.items():
            counted, found = segment.live_bytes, self._live_bytes[slot]
            if counted != found and slot not in report.damaged_slots:
                self._find(slot, 0, f"segment {slot} has {found} live bytes, not {counted}")
        report.live_bytes = self._live_bytes.total()
        report.bytes_read = self._volume.source.read_bytes
        report.unreadable_slots = self._volume.failed_slots
        for slot in report.unreadable_slots - report.damaged_slots:
            self._find(slot, 0, f"the device cannot read all of segment {slot}")
        return report

    def _report_progress(self, _size_bytes: int) -> None:
        if self._progress is not None:
            done = min(self._volume.source.read_bytes, self._total_bytes)
            self._progress(done, self._total_bytes)

    def _find(self, slot: int, offset: int, what: str, key: bytes = b"", lost: str = "") -> None:
        at = self._volume.geometry.segment_offset(slot) + offset
        self._report.findings.append(Finding(what, at, key, lost))
        self._report.damaged_slots.add(slot)

    def _check_segment(self, segment: Segment, extent: Extent) -> None:
        self._report.segments += 1
        entries = array("Q")
        for found in survey(self._volume, extent):
            if isinstance(found, Damage):
                self._find(segment.slot, found.offset, found.what)
            else:
                entries.extend(found.entries)
                self._check_run(segment.slot, found)
        if self._live_bytes[segment.slot] != segment.live_bytes:
            pairs = iter(entries)
            self._found[segment.slot] = set(zip(pairs, pairs, strict=True))

    def _check_run(self, slot: int, run: Run) -> None:
        alive, live_bytes = count_alive(self._catalog.index, run.entries)
        self._unseen_blocks -= alive
        self._live_bytes[slot] += live_bytes
        self._report.live_records += alive
        self._report.records += len(run.entries) >> 1
        for record in run.records:
            if record.header.kind == fmt.KIND_BLOCK:
                is_alive = self._catalog.index.has(*record.entry(self._volume.index_salt))
            else:
                small_bytes = self._small_bytes(record)
                self._live_bytes[slot] += small_bytes
                is_alive = small_bytes > 0
            if is_alive and not record.is_whole:
                offset, lost = fmt.location_offset(record.location), KIND_NAMES[record.header.kind]
                self._find(slot, offset, "a value fails its checksum", record.key, lost)

    def _small_bytes(self, record: Record) -> int:
        """Live bytes of a record that is no block."""
        if record.header.kind == fmt.KIND_TOMBSTONES:
            in_use = self._catalog.by_sequence
            needed = [target for _, _, target in fmt.tombstones(record.value) if target in in_use]
            return len(needed) * fmt.TOMBSTONE.size_bytes
        if record.location not in self._unseen_small:
            return 0
        self._unseen_small.remove(record.location)
        self._report.live_records += 1
        return fmt.location_size(record.location)

    def _check_unseen(self) -> None:
        """Live records that no walk came across: most are lost with their headers."""
        slots = {fmt.location_slot(location) for location in self._unseen_small}
        if self._unseen_blocks:
            slots |= self._found.keys()
        for live in live_in(self._catalog, slots) if slots else ():
            if live.kind != fmt.KIND_BLOCK:
                unseen = live.location in self._unseen_small
            else:
                found = self._found.get(fmt.location_slot(live.location))
                unseen = found is not None and (live.fingerprint, live.location) not in found
            if unseen:
                self._check_alone(live)
                self._unseen_blocks -= live.kind == fmt.KIND_BLOCK
        if self._unseen_blocks:
            what = f"{self._unseen_blocks} live blocks are in no segment"
            self._report.findings.append(Finding(what, 0, b"", KIND_NAMES[fmt.KIND_BLOCK]))

    def _check_alone(self, live: Live) -> None:
        slot, offset = fmt.location_slot(live.location), fmt.location_offset(live.location)
        verdict = inspect(self._volume, live)
        if verdict.record is None:
            what = f"a live record is lost: {verdict.problem}"
            self._find(slot, offset, what, verdict.key, KIND_NAMES[live.kind])
        else:
            self._find(slot, offset, "a live record is not in the log", verdict.key)
