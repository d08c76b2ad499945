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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from blkdev import format as fmt
from blkdev.checksum import crc32
from blkdev.device import Device
from blkdev.errors import NewerFormat
from blkdev.index import fingerprint_of
from blkdev.superblock import Geometry

FIRST_GROUP_OFFSET = fmt.PAGE_SIZE_BYTES
_HEAD = fmt.RECORD_HEADER.size_bytes

if TYPE_CHECKING:
    from blkdev._native import scan as native_scan
else:
    try:
        from blkdev._native import scan as native_scan
    except ImportError:
        native_scan = None


class Record(NamedTuple):
    """One record as found on the device. Its value is unchecked unless the reader says so."""

    header: fmt.Row
    key: bytes
    value: bytes
    location: int

    @property
    def is_whole(self) -> bool:
        return bool(crc32(self.value) == self.header.value_checksum)

    def entry(self, index_salt: int) -> tuple[int, int]:
        """Its summary entry: (fingerprint, location with the mark of its kind)."""
        if self.header.kind == fmt.KIND_BLOCK:
            return fingerprint_of(self.key, index_salt), self.location
        return fmt.NO_FINGERPRINT, self.location | fmt.OTHER_KIND


class Identity(NamedTuple):
    """What a slot holds. `footer` is that of this very segment, else None; `whole` is False when
    the header page is damaged and something else told, and for a free slot that is to be wiped.
    """

    kind: int = fmt.SEGMENT_FREE
    sequence: int = 0
    durable_group: int = 0
    first_group: int = 0
    footer: fmt.Row | None = None
    whole: bool = True


@dataclass
class Volume:
    """A device, its geometry, and what the checksums of its store start from.

    `failed_slots` are those where `try_read` met an error of the device.
    A resize changes `geometry`, never the place of a slot that is in use: who computes with the
    old one while it changes gets the same offsets.
    """

    device: Device
    geometry: Geometry
    uuid: bytes
    seed: int
    index_salt: int
    failed_slots: set[int] = field(default_factory=set, kw_only=True)

    @classmethod
    def of(cls, device: Device, block: fmt.Row) -> Volume:
        seed = fmt.store_seed(block.uuid)
        return cls(device, Geometry.of(block), block.uuid, seed, block.index_salt)

    def read(self, slot: int, offset: int, length: int) -> bytes:
        """Bytes of one segment. Raises OSError."""
        return self.device.read(self.geometry.segment_offset(slot) + offset, length)

    def view(self, slot: int, offset: int, length: int) -> memoryview:
        """As `read`, without a copy where the device can."""
        return self.device.view(self.geometry.segment_offset(slot) + offset, length)

    def try_read(self, slot: int, offset: int, length: int) -> bytes:
        """As `read`, but nothing where the device fails."""
        try:
            return self.read(slot, offset, length)
        except OSError:
            self.failed_slots.add(slot)
            return b""

    def device_offset(self, location: int) -> int:
        """Where a record's header lies on the device."""
        segment = self.geometry.segment_offset(fmt.location_slot(location))
        return segment + fmt.location_offset(location)


def summary_size(entry_count: int) -> int:
    """Whole pages that the summary and footer of so many records take."""
    return fmt.aligned(entry_count * fmt.SUMMARY_ENTRY.size_bytes + fmt.SEGMENT_FOOTER.size_bytes)


def encode_header(header: fmt.Row, seed: int) -> bytes:
    return fmt.SEGMENT_HEADER.seal(header, seed).ljust(fmt.PAGE_SIZE_BYTES, b"\0")


def encode_summary(entries: array[int], footer: fmt.Row, seed: int) -> bytes:
    """Summary and footer as whole pages; they end at the segment's end."""
    packed = entries.tobytes()
    footer = footer._replace(summary_checksum=crc32(packed, seed))
    packed += fmt.SEGMENT_FOOTER.seal(footer, seed)
    return packed.rjust(fmt.aligned(len(packed)), b"\0")


def read_footer(volume: Volume, slot: int, sequence: int | None = None) -> fmt.Row | None:
    """The slot's footer, if whole; with `sequence` only that segment's."""
    size_bytes = fmt.SEGMENT_FOOTER.size_bytes
    packed = volume.try_read(slot, volume.geometry.segment_size_bytes - size_bytes, size_bytes)
    footer = fmt.SEGMENT_FOOTER.open(packed, 0, volume.seed)
    if footer is None or footer.slot != slot or sequence not in (None, footer.sequence):
        return None
    return footer


def read_summary(volume: Volume, slot: int, footer: fmt.Row) -> array[int] | None:
    """The entries as (fingerprint, location) pairs in one array, or None when damaged."""
    length = footer.entry_count * fmt.SUMMARY_ENTRY.size_bytes
    offset = volume.geometry.segment_size_bytes - fmt.SEGMENT_FOOTER.size_bytes - length
    if offset < footer.groups_end:
        return None
    packed = volume.try_read(slot, offset, length)
    if crc32(packed, volume.seed) != footer.summary_checksum or len(packed) != length:
        return None
    entries = array("Q")
    entries.frombytes(packed)
    return entries


def identify(volume: Volume, slot: int) -> Identity:
    """What the slot holds, by whichever of header, footer and first group is whole."""
    page = volume.try_read(slot, 0, fmt.SEGMENT_HEADER.size_bytes)
    header = fmt.SEGMENT_HEADER.open(page, 0, volume.seed)
    if header is not None and header.uuid == volume.uuid and header.slot == slot:
        footer = None
        if header.kind == fmt.SEGMENT_FREE:
            # What the mark says was durable may be said nowhere else.
            durable, whole = header.durable_group, not _has_leftover(volume, slot)
            return Identity(durable_group=durable, whole=whole)
        if header.kind == fmt.SEGMENT_LOG:
            footer = read_footer(volume, slot, header.sequence)
        group = header.first_group
        return Identity(header.kind, header.sequence, header.durable_group, group, footer)
    first = read_group_header(volume, slot, FIRST_GROUP_OFFSET)
    if first is not None:
        sequence, durable = first.segment_sequence, first.durable_group
        footer = read_footer(volume, slot, sequence)
        return Identity(fmt.SEGMENT_LOG, sequence, durable, first.number, footer, whole=False)
    footer = read_footer(volume, slot)
    if footer is None:
        return Identity()
    sequence, durable = footer.sequence, footer.durable_group
    return Identity(fmt.SEGMENT_LOG, sequence, durable, 0, footer, whole=False)


def _has_leftover(volume: Volume, slot: int) -> bool:
    """Whether a free slot holds what its next use could be taken for: first group or footer of a
    segment whose header was lost, and whose numbers are given out again; or of one whose wipe was
    cut short.
    """
    group = read_group_header(volume, slot, FIRST_GROUP_OFFSET)
    return group is not None or read_footer(volume, slot) is not None


def read_group_header(volume: Volume, slot: int, offset: int) -> fmt.Row | None:
    """The group header at `offset`, or None when it is damaged or overruns the segment."""
    left = volume.geometry.segment_size_bytes - offset
    packed = volume.try_read(slot, offset, min(left, fmt.GROUP_HEADER.size_bytes))
    header = fmt.GROUP_HEADER.open(packed, 0, volume.seed)
    return header if header is not None and header.size_bytes <= left else None


def read_group(
    volume: Volume, slot: int, offset: int, group: fmt.Row, *, verify_values: bool
) -> list[Record] | None:
    """A group's records, or None when any of their headers, or any value to verify, is damaged.

    Raises NewerFormat for a record that only a newer program understands.
    """
    packed = volume.try_read(slot, offset, group.size_bytes)
    return _decode_group(volume, packed, slot, offset, group, verify_values=verify_values)


def _decode_group(
    volume: Volume, packed: bytes, slot: int, offset: int, group: fmt.Row, *, verify_values: bool
) -> list[Record] | None:
    records: list[Record] = []
    at = fmt.GROUP_HEADER.size_bytes
    checksum = volume.seed
    for _ in range(group.record_count):
        record = decode_record(volume, packed, at, fmt.pack_location(slot, offset + at, 0))
        if record is None or (verify_values and not record.is_whole):
            return None
        records.append(record)
        checksum = crc32(packed[at : at + _HEAD + len(record.key)], checksum)
        at += fmt.location_size(record.location)
    return records if (checksum, at) == (group.records_checksum, group.size_bytes) else None


def read_entries(
    volume: Volume, slot: int, offset: int, group: fmt.Row, *, verify_values: bool
) -> tuple[array[int], bytes] | None:
    """The summary entries of a group's records, and its bytes; otherwise as `read_group`."""
    packed, entries = volume.try_read(slot, offset, group.size_bytes), array("Q")
    if native_scan is not None:
        scanned = native_scan(
            packed, group.size_bytes, slot, offset, group.record_count, group.records_checksum,
            volume.index_salt, volume.seed, verify_values,
        )  # fmt: skip
        if scanned is not None:
            entries.frombytes(scanned)
            return entries, packed
    records = _decode_group(volume, packed, slot, offset, group, verify_values=verify_values)
    for record in records or ():
        entries.extend(record.entry(volume.index_salt))
    return None if records is None else (entries, packed)


def read_record(volume: Volume, location: int) -> Record | None:
    """The record at `location`, or None when it is unreadable or its header is damaged."""
    slot, offset = fmt.location_slot(location), fmt.location_offset(location)
    packed = volume.try_read(slot, offset, fmt.location_size(location))
    return decode_record(volume, packed, 0, fmt.pack_location(slot, offset, 0))


def refuse_newer(volume: Volume, header: fmt.Row) -> None:
    """Raises NewerFormat for a record that only a newer program understands."""
    if header.kind not in fmt.KINDS or header.transform != fmt.TRANSFORM_NONE:
        raise NewerFormat(
            f"{volume.device.name} holds a record of kind {header.kind} with transform "
            f"{header.transform} (use a newer version of this program)"
        )


def decode_record(volume: Volume, packed: bytes, at: int, place: int) -> Record | None:
    """The record at `at` of these bytes, which lie at `place`; None when its header is damaged.

    Raises NewerFormat.
    """
    header = fmt.decode_record_head(packed, at, volume.seed)
    if header is None:
        return None
    refuse_newer(volume, header)
    value_at = at + _HEAD + header.key_size_bytes
    end = value_at + header.value_size_bytes
    if end > len(packed):
        return None
    size_bytes = fmt.record_size(header.key_size_bytes, header.value_size_bytes)
    key, value = packed[at + _HEAD : value_at], packed[value_at:end]
    return Record(header, key, value, place | fmt.pack_location(0, 0, size_bytes))
