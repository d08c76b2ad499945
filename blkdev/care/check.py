"""Offline check: read and verify everything a store keeps, say what is lost, write nothing.

Unlike recovery it goes on past damage: it looks for the next whole group page by page, and in a
damaged group for the records that hold by themselves, so that the extent of the damage is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from blkdev import format as fmt
from blkdev.care.walk import (
    KIND_NAMES,
    Damage,
    Extent,
    Live,
    WatchedVolume,
    inspect,
    live_in,
    walk,
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
        self._unseen = set(catalog.live_locations())
        self._live_bytes: Counter[int] = Counter()

    def run(self) -> CheckReport:
        """Raises nothing of its own: whatever is wrong is a finding."""
        report, catalog = self._report, self._catalog
        for offset in damaged_copies(self._volume):
            report.superblock_copies += 1
            report.findings.append(Finding("a superblock copy is damaged", offset))
        for segment in sorted(catalog.segments.values(), key=lambda item: item.sequence):
            self._check_segment(segment)
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

    def _check_segment(self, segment: Segment) -> None:
        self._report.segments += 1
        for found in walk(self._volume, Extent.of(segment)):
            if isinstance(found, Damage):
                self._find(segment.slot, found.offset, found.what)
            else:
                self._check_record(segment, found)

    def _check_record(self, segment: Segment, record: Record) -> None:
        self._report.records += 1
        live_bytes = 0
        kind = record.header.kind
        if kind == fmt.KIND_TOMBSTONES:
            in_use = self._catalog.by_sequence
            needed = [target for _, _, target in fmt.tombstones(record.value) if target in in_use]
            live_bytes = len(needed) * fmt.TOMBSTONE.size_bytes
        elif record.location in self._unseen:
            self._unseen.remove(record.location)
            live_bytes = fmt.location_size(record.location)
            self._report.live_records += 1
        self._live_bytes[segment.slot] += live_bytes
        if live_bytes and not record.is_whole:
            offset = fmt.location_offset(record.location)
            lost = KIND_NAMES[kind]
            self._find(segment.slot, offset, "a value fails its checksum", record.key, lost)

    def _check_unseen(self) -> None:
        """Live records that no walk came across: most are lost with their headers."""
        slots = {fmt.location_slot(location) for location in self._unseen}
        for live in live_in(self._catalog, slots) if slots else ():
            if live.location in self._unseen:
                self._check_alone(live)

    def _check_alone(self, live: Live) -> None:
        slot, offset = fmt.location_slot(live.location), fmt.location_offset(live.location)
        verdict = inspect(self._volume, live)
        if verdict.record is None:
            what = f"a live record is lost: {verdict.problem}"
            self._find(slot, offset, what, verdict.key, KIND_NAMES[live.kind])
        else:
            self._find(slot, offset, "a live record is not in the log", verdict.key)
