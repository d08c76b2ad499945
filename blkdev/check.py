"""Offline check: read and verify everything a store keeps, report what is wrong, write nothing.

Unlike recovery it goes on past damage: it looks for the next whole group page by page, so that the
extent of the damage is known.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from zlib import crc32

from blkdev import format as fmt
from blkdev.catalog import Catalog, Segment
from blkdev.index import fingerprint_of
from blkdev.recover import tombstones
from blkdev.segment import (
    FIRST_GROUP_OFFSET,
    Volume,
    read_footer,
    read_group_header,
    read_summary,
)
from blkdev.superblock import read_copies


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
        self._unseen = dict.fromkeys(catalog.live_locations(), b"")
        self._live_bytes: dict[int, int] = {}

    def run(self) -> CheckReport:
        """Raises nothing: whatever is wrong is a finding."""
        self._check_superblocks()
        for segment in sorted(self._catalog.segments.values(), key=lambda item: item.sequence):
            self._check_segment(segment)
        for location in self._unseen:
            offset = self._device_offset(fmt.location_slot(location), fmt.location_offset(location))
            self._find("a live record is not in the log", offset)
        for segment in self._catalog.segments.values():
            counted = self._live_bytes.get(segment.slot, 0)
            if counted != segment.live_bytes:
                self._find(
                    f"segment {segment.slot}: {counted} live bytes, {segment.live_bytes} counted",
                    self._device_offset(segment.slot, 0),
                )
        self._report.live_bytes = sum(self._live_bytes.values())
        return self._report

    def _find(self, what: str, device_offset: int, key: bytes = b"") -> None:
        self._report.findings.append(Finding(what, device_offset, key))

    def _device_offset(self, slot: int, offset: int) -> int:
        return self._volume.geometry.segment_offset(slot) + offset

    def _check_superblocks(self) -> None:
        valid = {offset for offset, _ in read_copies(self._volume.device)}
        for offset in self._volume.geometry.copy_offsets:
            if offset not in valid:
                self._find("a superblock copy is damaged", offset)

    def _check_segment(self, segment: Segment) -> None:
        self._report.segments += 1
        if self._read(segment.slot, 0, fmt.PAGE_SIZE_BYTES) is not None:
            header = fmt.SEGMENT_HEADER.open(
                self._volume.read(segment.slot, 0, fmt.PAGE_SIZE_BYTES), 0, self._volume.seed
            )
            if header is None or header.sequence != segment.sequence:
                self._find("a segment header is damaged", self._device_offset(segment.slot, 0))
        entries = array("Q")
        for offset, header_ in self._groups(segment):
            self._check_group(segment, offset, header_, entries)
        if segment.sealed:
            self._check_summary(segment, entries)

    def _read(self, slot: int, offset: int, length: int) -> bytes | None:
        try:
            packed = self._volume.read(slot, offset, length)
        except OSError as error:
            self._find(f"the device cannot read it: {error}", self._device_offset(slot, offset))
            return None
        self._report.bytes_read += length
        return packed

    def _groups(self, segment: Segment) -> Iterator[tuple[int, fmt.GroupHeader]]:
        """All groups, also those past damage."""
        offset = FIRST_GROUP_OFFSET
        lost_at: int | None = None
        while offset < segment.end:
            header = read_group_header(self._volume, segment.slot, offset)
            if header is None or header.segment_sequence != segment.sequence:
                if lost_at is None:
                    lost_at = offset
                    self._find(
                        "a group header is damaged", self._device_offset(segment.slot, offset)
                    )
                offset += fmt.PAGE_SIZE_BYTES
                continue
            lost_at = None
            yield offset, header
            offset += fmt.aligned(header.size_bytes)

    def _check_group(
        self, segment: Segment, offset: int, group: fmt.GroupHeader, entries: array[int]
    ) -> None:
        slot, seed = segment.slot, self._volume.seed
        packed = self._read(slot, offset, group.size_bytes)
        if packed is None:
            return
        at = fmt.GROUP_HEADER.size_bytes
        checksum = seed
        for _ in range(group.record_count):
            head = fmt.decode_record_head(packed, at, seed)
            if head is None:
                self._find("a record header is damaged", self._device_offset(slot, offset + at))
                return
            key_at = at + fmt.RECORD_HEADER.size_bytes
            value_at = key_at + head.key_size_bytes
            key, value = (
                packed[key_at:value_at],
                packed[value_at : value_at + head.value_size_bytes],
            )
            checksum = crc32(packed[at:value_at], checksum)
            size_bytes = fmt.record_size(head.key_size_bytes, head.value_size_bytes)
            location = fmt.pack_location(slot, offset + at, size_bytes)
            self._check_record(segment, location, head, key, value)
            if head.kind == fmt.KIND_BLOCK:
                entries.extend((fingerprint_of(key, self._volume.index_salt), location))
            else:
                entries.extend((fmt.NO_FINGERPRINT, location | fmt.OTHER_KIND))
            at += size_bytes
        if checksum != group.records_checksum:
            self._find("a group's checksum is wrong", self._device_offset(slot, offset))

    def _check_record(
        self, segment: Segment, location: int, head: fmt.RecordHeader, key: bytes, value: bytes
    ) -> None:
        self._report.records += 1
        live_bytes = 0
        if head.kind == fmt.KIND_TOMBSTONES:
            needed = [t for t in tombstones(value) if t[2] in self._catalog.by_sequence]
            live_bytes = len(needed) * fmt.TOMBSTONE.size_bytes
        elif location in self._unseen:
            del self._unseen[location]
            live_bytes = fmt.location_size(location)
            self._report.live_records += 1
        self._live_bytes[segment.slot] = self._live_bytes.get(segment.slot, 0) + live_bytes
        if live_bytes and crc32(value) != head.value_checksum:
            offset = self._device_offset(segment.slot, fmt.location_offset(location))
            self._find("a value fails its checksum", offset, key)

    def _check_summary(self, segment: Segment, entries: array[int]) -> None:
        footer = read_footer(self._volume, segment.slot)
        end = self._device_offset(segment.slot, self._volume.geometry.segment_size_bytes)
        if footer is None or footer.sequence != segment.sequence:
            self._find("a segment footer is damaged", end - fmt.SEGMENT_FOOTER.size_bytes)
        elif read_summary(self._volume, segment.slot, footer) != entries:
            self._find("a segment summary differs from its records", end)
