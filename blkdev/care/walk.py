"""Reading a segment for its own sake: every record of it, and whatever is wrong, past damage.

Nothing here writes or takes a lock. Who walks a segment that may change meanwhile says up to where
it was filled, and looks afterwards whether it is still what it was.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from blkdev import format as fmt
from blkdev.care.medium import read_through
from blkdev.catalog import Catalog, Segment
from blkdev.device import Device
from blkdev.past_damage import group_headers, salvage
from blkdev.segment import (
    FIRST_GROUP_OFFSET,
    Record,
    Volume,
    read_footer,
    read_group,
    read_record,
    read_summary,
)

_READ_AHEAD_BYTES = 1 << 20
KIND_NAMES = {
    fmt.KIND_BLOCK: "block",
    fmt.KIND_TOMBSTONES: "tombstones",
    fmt.KIND_NAME: "name",
    fmt.KIND_NAME_REMOVAL: "removal of a name",
    fmt.KIND_JOURNAL: "journal record",
    fmt.KIND_JOURNAL_TRIM: "trim of a journal",
}


def _unpaced(_size_bytes: int) -> None:
    pass


class Source:
    """A device read in large pieces from the medium itself, past the system's cache.

    `pace` is told the bytes before each read; it may wait, or raise to end the work.
    """

    def __init__(self, device: Device, pace: Callable[[int], None] = _unpaced) -> None:
        self._device = device
        self._pace = pace
        self._offset = 0
        self._data = b""
        # Where a large piece could not be read, so that only what is asked for is.
        self._patchy = range(0)
        self.read_bytes = 0

    def read(self, offset: int, length: int, room: int) -> bytes:
        """Bytes of the device; as many more as `room` says may be read with them."""
        at = offset - self._offset
        if not 0 <= at <= len(self._data):
            self._offset, self._data, at = offset, b"", 0
        if at + length > len(self._data):
            kept = self._data[at:]
            ahead = 0 if offset in self._patchy else _READ_AHEAD_BYTES
            self._offset, self._data = offset, b""
            self._data = kept + self._fetch(
                offset + len(kept), length - len(kept), min(max(length, ahead), room) - len(kept)
            )
            at = 0
        return self._data[at : at + length]

    def forget(self) -> None:
        """Read the device itself the next time."""
        self._data = b""

    def _fetch(self, offset: int, least: int, most: int) -> bytes:
        """From `least` to `most` bytes."""
        self._pace(most)
        self.read_bytes += most
        try:
            return read_through(self._device, offset, most)
        except OSError:
            if least == most:
                raise
            self._patchy = range(offset, offset + most)
        return read_through(self._device, offset, least)


@dataclass
class WatchedVolume(Volume):
    """A volume that reads through a Source. `failed_slots` are those that could not be read."""

    source: Source

    @classmethod
    def over(cls, volume: Volume, pace: Callable[[int], None] = _unpaced) -> WatchedVolume:
        device = volume.device
        parts = (device, volume.geometry, volume.uuid, volume.seed, volume.index_salt)
        return cls(*parts, Source(device, pace))

    def read(self, slot: int, offset: int, length: int) -> bytes:
        at = self.geometry.segment_offset(slot) + offset
        try:
            return self.source.read(at, length, self.geometry.segment_size_bytes - offset)
        except OSError:
            self.failed_slots.add(slot)
            raise


class Extent(NamedTuple):
    """A segment as it was at one moment."""

    slot: int
    sequence: int
    end: int
    sealed: bool

    @classmethod
    def of(cls, segment: Segment) -> Extent:
        return cls(segment.slot, segment.sequence, segment.end, segment.sealed)


class Damage(NamedTuple):
    """Something that is wrong with a segment's structure, at an offset in it."""

    what: str
    offset: int


def walk(volume: Volume, segment: Extent) -> Iterator[Record | Damage]:
    """All records of a segment whose headers hold, in order, and all damage of its structure."""
    slot, damaged = segment.slot, False
    header = fmt.SEGMENT_HEADER.open(volume.try_read(slot, 0, 64), 0, volume.seed)
    if header is None or header.sequence != segment.sequence:
        yield Damage("a segment header is damaged", 0)
    entries = array("Q")
    for found in _records(volume, segment):
        if isinstance(found, Damage):
            damaged = True
        else:
            entries.extend(found.entry(volume.index_salt))
        yield found
    if not segment.sealed:
        return
    footer = read_footer(volume, slot, segment.sequence)
    summary = None if footer is None else read_summary(volume, slot, footer)
    # With damage before it, a summary lists more than could be found.
    if summary is None or (summary != entries and not damaged):
        at = volume.geometry.segment_size_bytes - fmt.SEGMENT_FOOTER.size_bytes
        yield Damage("a segment summary is damaged", at)


def _records(volume: Volume, segment: Extent) -> Iterator[Record | Damage]:
    slot, expected = segment.slot, FIRST_GROUP_OFFSET
    groups = group_headers(volume, slot, segment.sequence, FIRST_GROUP_OFFSET, segment.end)
    for offset, group in groups:
        if offset > expected:
            yield Damage("a group header is damaged", expected)
            yield from salvage(volume, slot, expected, offset)
        expected = offset + fmt.aligned(group.size_bytes)
        records = read_group(volume, slot, offset, group, verify_values=False)
        if records is None:
            yield Damage("a group is damaged", offset)
            records = salvage(volume, slot, offset, expected)
        yield from records
    if expected < segment.end:
        yield Damage("a group header is damaged", expected)
        yield from salvage(volume, slot, expected, segment.end)


class Live(NamedTuple):
    """A record that the catalog counts on. `key` is a name or a stream's number in 8 bytes, and
    empty for a block, whose key only the record itself says.
    """

    kind: int
    location: int
    key: bytes = b""
    fingerprint: int = fmt.NO_FINGERPRINT
    sequence: int = 0


def live_in(catalog: Catalog, slots: Collection[int]) -> Iterator[Live]:
    """What is alive in these segments, tombstones aside. The caller keeps writers out."""
    for fingerprint, location in catalog.index.entries():
        if fmt.location_slot(location) in slots:
            yield Live(fmt.KIND_BLOCK, location, b"", fingerprint)
    for live in small_records(catalog):
        if fmt.location_slot(live.location) in slots:
            yield live


def small_records(catalog: Catalog) -> Iterator[Live]:
    """What is alive of names and journals, wherever it is."""
    for name, entry in catalog.names.items():
        kind = fmt.KIND_NAME_REMOVAL if entry.removed else fmt.KIND_NAME
        yield Live(kind, entry.location, name, sequence=entry.sequence)
    for number, stream in catalog.streams.items():
        key = number.to_bytes(8, "little")
        for sequence, location in stream.records.items():
            yield Live(fmt.KIND_JOURNAL, location, key, sequence=sequence)
        if stream.trim_location:
            at, sequence = stream.trim_location, stream.trim_sequence
            yield Live(fmt.KIND_JOURNAL_TRIM, at, key, sequence=sequence)


class Verdict(NamedTuple):
    """What a look at one record says. `key` is that of a block too, where it can be told; `record`
    is there when nothing is wrong. `is_rotten` says that the header holds and the value does not.
    """

    key: bytes
    record: Record | None
    problem: str = ""
    is_rotten: bool = False


def inspect(volume: Volume, live: Live) -> Verdict:
    """Read a record and verify all of it. A device that fails is told from bytes that are wrong."""
    slot, offset = fmt.location_slot(live.location), fmt.location_offset(live.location)
    try:
        volume.read(slot, offset, fmt.location_size(live.location))
    except OSError as error:
        return Verdict(_key(volume, live), None, f"the device cannot read it: {error}")
    record = read_record(volume, live.location)
    if record is None or not matches(volume, record, live):
        return Verdict(live.key, None, "its header is damaged")
    if not record.is_whole:
        return Verdict(record.key, None, "its value fails its checksum", is_rotten=True)
    return Verdict(record.key, record)


def matches(volume: Volume, record: Record, live: Live) -> bool:
    """Whether the record is the one that the catalog counts on."""
    if live.kind == fmt.KIND_BLOCK:
        return (live.fingerprint, live.location) == record.entry(volume.index_salt)
    return record.location == live.location and record.key == live.key


def _key(volume: Volume, live: Live) -> bytes:
    """The key, if at least the record's beginning can be read."""
    slot, offset = fmt.location_slot(live.location), fmt.location_offset(live.location)
    size = min(
        fmt.location_size(live.location), fmt.RECORD_HEADER.size_bytes + fmt.KEY_SIZE_MAX_BYTES
    )
    packed = volume.try_read(slot, offset, size)
    header = fmt.decode_record_head(packed, 0, volume.seed)
    if live.key or header is None:
        return live.key
    return packed[fmt.RECORD_HEADER.size_bytes :][: header.key_size_bytes]
