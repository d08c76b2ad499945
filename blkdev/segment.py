"""Framing inside one segment: header page, groups, summary, footer; read and encode, no policy.

    | header page | group | group | ...                       | summary | footer |
    0             4096    each a whole number of pages                    end of the segment

    group := group header, record*, zero padding
    record := record header, key, value, zero padding to 8 bytes

Invariants
- What a reader returns was checked: headers by their checksum, a group by the checksum over all its
  record headers, and (when asked) each value by its own checksum.
- A segment is identified by its header, else by its footer, else by its first group; freeing it
  wipes all three, so one damaged page never loses a segment and never revives a freed one.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

from blkdev.device import Device
from blkdev.errors import NewerFormat
from blkdev.format import (
    GROUP_HEADER,
    KINDS,
    PAGE_SIZE_BYTES,
    RECORD_HEADER,
    SEGMENT_FOOTER,
    SEGMENT_FREE,
    SEGMENT_HEADER,
    SEGMENT_LOG,
    SUMMARY_ENTRY,
    TRANSFORM_NONE,
    GroupHeader,
    RecordHeader,
    SegmentFooter,
    SegmentHeader,
    aligned,
    decode_record_head,
    record_size,
)
from blkdev.superblock import Geometry

FIRST_GROUP_OFFSET = PAGE_SIZE_BYTES


class Record(NamedTuple):
    """One record as found in a group; offsets in bytes from the segment's start."""

    header: RecordHeader
    key: bytes
    offset: int
    size_bytes: int

    @property
    def value_offset(self) -> int:
        return self.offset + RECORD_HEADER.size_bytes + len(self.key)


class Identity(NamedTuple):
    """What a slot holds. `footer` is that of this very segment, else None; `whole` is False when
    the header page is damaged and something else told.
    """

    kind: int
    sequence: int
    durable_group: int
    first_group: int
    footer: SegmentFooter | None
    whole: bool = True


FREE = Identity(SEGMENT_FREE, 0, 0, 0, None)


@dataclass(frozen=True)
class Volume:
    """A device, its geometry, and what the checksums of its store start from."""

    device: Device
    geometry: Geometry
    uuid: bytes
    seed: int
    index_salt: int

    def read(self, slot: int, offset: int, length: int) -> bytes:
        """Bytes of one segment. Raises OSError."""
        return self.device.read(self.geometry.segment_offset(slot) + offset, length)


def summary_size(entry_count: int) -> int:
    """Whole pages that the summary and footer of so many records take."""
    return aligned(entry_count * SUMMARY_ENTRY.size_bytes + SEGMENT_FOOTER.size_bytes)


def encode_header(header: SegmentHeader, seed: int) -> bytes:
    return SEGMENT_HEADER.seal(header, seed).ljust(PAGE_SIZE_BYTES, b"\0")


def encode_summary(entries: array[int], footer: SegmentFooter, seed: int) -> bytes:
    """Summary and footer as whole pages; they end at the segment's end."""
    packed = entries.tobytes()
    footer = footer._replace(summary_checksum=crc32(packed, seed))
    packed += SEGMENT_FOOTER.seal(footer, seed)
    return packed.rjust(aligned(len(packed)), b"\0")


def read_footer(volume: Volume, slot: int) -> SegmentFooter | None:
    end = volume.geometry.segment_size_bytes
    size_bytes = SEGMENT_FOOTER.size_bytes
    try:
        footer = SEGMENT_FOOTER.open(
            volume.read(slot, end - size_bytes, size_bytes), 0, volume.seed
        )
    except OSError:
        return None
    return footer if footer is not None and footer.slot == slot else None


def read_summary(volume: Volume, slot: int, footer: SegmentFooter) -> array[int] | None:
    """The entries as (fingerprint, location) pairs in one array, or None when damaged."""
    length = footer.entry_count * SUMMARY_ENTRY.size_bytes
    offset = volume.geometry.segment_size_bytes - SEGMENT_FOOTER.size_bytes - length
    if offset < footer.groups_end:
        return None
    try:
        packed = volume.read(slot, offset, length)
    except OSError:
        return None
    if crc32(packed, volume.seed) != footer.summary_checksum:
        return None
    entries = array("Q")
    entries.frombytes(packed)
    return entries


def identify(volume: Volume, slot: int) -> Identity:
    """What the slot holds, by whichever of header, footer and first group is whole."""
    try:
        page = volume.read(slot, 0, SEGMENT_HEADER.size_bytes)
    except OSError:
        page = b""
    header = SEGMENT_HEADER.open(page, 0, volume.seed)
    if header is not None and header.uuid == volume.uuid and header.slot == slot:
        if header.kind != SEGMENT_LOG:
            return Identity(header.kind, header.sequence, header.durable_group, 0, None)
        footer = read_footer(volume, slot)
        if footer is not None and footer.sequence != header.sequence:
            footer = None
        return Identity(
            SEGMENT_LOG, header.sequence, header.durable_group, header.first_group, footer
        )
    footer = read_footer(volume, slot)
    first = read_group_header(volume, slot, FIRST_GROUP_OFFSET)
    if first is None or (footer is not None and footer.sequence != first.segment_sequence):
        if footer is None:
            return FREE
        return Identity(SEGMENT_LOG, footer.sequence, footer.durable_group, 0, footer, False)
    sequence, durable = first.segment_sequence, first.durable_group
    return Identity(SEGMENT_LOG, sequence, durable, first.number, footer, False)


def read_group_header(volume: Volume, slot: int, offset: int) -> GroupHeader | None:
    size_bytes = GROUP_HEADER.size_bytes
    if offset + size_bytes > volume.geometry.segment_size_bytes:
        return None
    try:
        header = GROUP_HEADER.open(volume.read(slot, offset, size_bytes), 0, volume.seed)
    except OSError:
        return None
    if header is None or offset + header.size_bytes > volume.geometry.segment_size_bytes:
        return None
    return header


def group_headers(
    volume: Volume, slot: int, sequence: int, offset: int = FIRST_GROUP_OFFSET
) -> Iterator[tuple[int, GroupHeader]]:
    """(offset, header) of consecutive groups of one segment, up to the first that is not.

    Group numbers rise by one, epochs never fall: what lies beyond is a leftover of a tail that an
    earlier recovery dropped, or of the segment's previous use.
    """
    number = epoch = -1
    while True:
        header = read_group_header(volume, slot, offset)
        if (
            header is None
            or header.segment_sequence != sequence
            or (number >= 0 and header.number != number + 1)
            or header.epoch < epoch
        ):
            return
        yield offset, header
        number, epoch = header.number, header.epoch
        offset += aligned(header.size_bytes)


def read_group(
    volume: Volume, slot: int, offset: int, header: GroupHeader, *, verify_values: bool
) -> tuple[bytes, list[Record]] | None:
    """A group's bytes and records, or None when any part of it is damaged.

    Raises NewerFormat for a record that only a newer program understands.
    """
    try:
        packed = volume.read(slot, offset, header.size_bytes)
    except OSError:
        return None
    records: list[Record] = []
    at = GROUP_HEADER.size_bytes
    checksum = volume.seed
    for _ in range(header.record_count):
        head = decode_record_head(packed, at, volume.seed)
        if head is None:
            return None
        key_at = at + RECORD_HEADER.size_bytes
        value_at = key_at + head.key_size_bytes
        end = value_at + head.value_size_bytes
        if end > len(packed):
            return None
        checksum = crc32(packed[at:value_at], checksum)
        if verify_values and crc32(memoryview(packed)[value_at:end]) != head.value_checksum:
            return None
        if head.kind not in KINDS or head.transform != TRANSFORM_NONE:
            raise NewerFormat(
                f"{volume.device.name} holds a record of kind {head.kind} with transform "
                f"{head.transform} (use a newer version of this program)"
            )
        size_bytes = record_size(head.key_size_bytes, head.value_size_bytes)
        records.append(Record(head, packed[key_at:value_at], offset + at, size_bytes))
        at += size_bytes
    if checksum != header.records_checksum or at != header.size_bytes:
        return None
    return packed, records
