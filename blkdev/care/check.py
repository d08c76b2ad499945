"""Offline check: read and verify everything a store keeps, report what is wrong, write nothing.

Unlike recovery it goes on past damage: it looks for the next whole group page by page, so that the
extent of the damage is known.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from blkdev import format as fmt
from blkdev.catalog import Catalog, Segment
from blkdev.segment import (
    FIRST_GROUP_OFFSET,
    Record,
    Volume,
    read_footer,
    read_group,
    read_group_header,
    read_summary,
)
from blkdev.superblock import read_copy


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `key` is a key or name, b"" when it cannot be told."""

    what: str
    device_offset: int
    key: bytes = b""


@dataclass
class CheckReport:
    """Result of a check; the store is sound when `findings` is empty. Sizes in bytes."""

    segments: int = 0
    records: int = 0
    live_records: int = 0
    bytes_read: int = 0
    live_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.findings


class Checker:
    """One pass over a store at rest: the caller keeps writers and compaction out."""

    def __init__(self, volume: Volume, catalog: Catalog) -> None:
        self._volume = volume
        self._catalog = catalog
        self._report = CheckReport()
        self._unseen = set(catalog.live_locations())
        self._live_bytes: Counter[int] = Counter()

    def run(self) -> CheckReport:
        """Raises nothing: whatever is wrong is a finding."""
        self._check_superblocks()
        for segment in sorted(self._catalog.segments.values(), key=lambda item: item.sequence):
            self._check_segment(segment)
        for location in self._unseen:
            self._find("a live record is not in the log", self._volume.device_offset(location))
        for slot, segment in self._catalog.segments.items():
            counted, found = segment.live_bytes, self._live_bytes[slot]
            if counted != found:
                what = f"segment {slot} has {found} live bytes, not {counted}"
                self._find(what, self._device_offset(slot, 0))
        self._report.live_bytes = self._live_bytes.total()
        return self._report

    def _find(self, what: str, device_offset: int, key: bytes = b"") -> None:
        self._report.findings.append(Finding(what, device_offset, key))

    def _device_offset(self, slot: int, offset: int) -> int:
        return self._volume.geometry.segment_offset(slot) + offset

    def _check_superblocks(self) -> None:
        for offset in self._volume.geometry.copy_offsets:
            if read_copy(self._volume.device, offset)[0] is None:
                self._find("a superblock copy is damaged", offset)

    def _check_segment(self, segment: Segment) -> None:
        self._report.segments += 1
        volume, slot = self._volume, segment.slot
        header = fmt.SEGMENT_HEADER.open(volume.try_read(slot, 0, 64), 0, volume.seed)
        if header is None or header.sequence != segment.sequence:
            self._find("a segment header is damaged", self._device_offset(slot, 0))
        entries = array("Q")
        for offset, group in self._groups(segment):
            self._report.bytes_read += group.size_bytes
            records = read_group(volume, slot, offset, group, verify_values=False)
            if records is None:
                self._find("a group is damaged", self._device_offset(slot, offset))
            for record in records or ():
                self._check_record(segment, record)
                entries.extend(record.entry(volume.index_salt))
        footer = read_footer(volume, slot, segment.sequence)
        end = self._device_offset(slot, volume.geometry.segment_size_bytes)
        if segment.sealed and (footer is None or read_summary(volume, slot, footer) != entries):
            self._find("a segment summary is damaged", end - fmt.SEGMENT_FOOTER.size_bytes)

    def _groups(self, segment: Segment) -> Iterator[tuple[int, fmt.Row]]:
        """All groups, also those past damage."""
        offset, expected = FIRST_GROUP_OFFSET, FIRST_GROUP_OFFSET
        while offset < segment.end:
            header = read_group_header(self._volume, segment.slot, offset)
            if header is not None and header.segment_sequence == segment.sequence:
                yield offset, header
                offset = expected = offset + fmt.aligned(header.size_bytes)
                continue
            if offset == expected:
                self._find("a group header is damaged", self._device_offset(segment.slot, offset))
            offset += fmt.PAGE_SIZE_BYTES

    def _check_record(self, segment: Segment, record: Record) -> None:
        self._report.records += 1
        live_bytes = 0
        if record.header.kind == fmt.KIND_TOMBSTONES:
            in_use = self._catalog.by_sequence
            needed = [target for _, _, target in fmt.tombstones(record.value) if target in in_use]
            live_bytes = len(needed) * fmt.TOMBSTONE.size_bytes
        elif record.location in self._unseen:
            self._unseen.remove(record.location)
            live_bytes = fmt.location_size(record.location)
            self._report.live_records += 1
        self._live_bytes[segment.slot] += live_bytes
        if live_bytes and not record.is_whole:
            offset = self._volume.device_offset(record.location)
            self._find("a value fails its checksum", offset, record.key)
