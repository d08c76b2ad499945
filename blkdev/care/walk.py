"""Reading a segment for its own sake: every record of it, and whatever is wrong, past damage.

Nothing here writes or takes a lock. Who walks a segment that may change meanwhile says up to where
it was filled, and looks afterwards whether it is still what it was.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from blkdev import format as fmt
from blkdev.care.medium import Source
from blkdev.care.verify import Run, decoded, verified
from blkdev.catalog import Catalog, Segment
from blkdev.recovery.past_damage import group_headers, salvage
from blkdev.segment import (
    FIRST_GROUP_OFFSET,
    Record,
    Volume,
    read_footer,
    read_record,
    read_summary,
)

KIND_NAMES = {
    fmt.KIND_BLOCK: "block",
    fmt.KIND_TOMBSTONES: "tombstones",
    fmt.KIND_NAME: "name",
    fmt.KIND_NAME_REMOVAL: "removal of a name",
    fmt.KIND_JOURNAL: "journal record",
    fmt.KIND_JOURNAL_TRIM: "trim of a journal",
}


@dataclass
class WatchedVolume(Volume):
    """A volume that reads through a Source. `failed_slots` are those that could not be read."""

    source: Source

    @classmethod
    def over(cls, volume: Volume, pace: Callable[[int], None]) -> WatchedVolume:
        device = volume.device
        parts = (device, volume.geometry, volume.uuid, volume.seed, volume.index_salt)
        return cls(*parts, Source(device, pace))

    def read(self, slot: int, offset: int, length: int) -> bytes:
        return bytes(self.view(slot, offset, length))

    def view(self, slot: int, offset: int, length: int) -> memoryview:
        """As `read`; valid until the next call."""
        at = self.geometry.segment_offset(slot) + offset
        try:
            return self.source.view(at, length, self.geometry.segment_size_bytes - offset)
        except OSError:
            self.failed_slots.add(slot)
            raise

    def in_order(self, segments: list[Extent]) -> Iterator[Extent]:
        """The segments, whose beginnings are read ahead while the ones before are looked at."""
        size = self.geometry.segment_size_bytes
        for segment, following in pairwise((*segments, None)):
            assert segment is not None
            if following is not None:
                self.source.expect(self.geometry.segment_offset(following.slot), size)
            yield segment


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
    for found in _survey(volume, segment, decoded):
        if isinstance(found, Damage):
            yield found
        else:
            yield from found.records


def survey(volume: Volume, segment: Extent) -> Iterator[Run | Damage]:
    """The same at a fraction of the cost, for who wants to know what is wrong: of runs of records
    those that are no blocks, or rotten.
    """
    return _survey(volume, segment, verified)


_Look = Callable[[Volume, int, int, fmt.Row], Run | None]


def _survey(volume: Volume, segment: Extent, look: _Look) -> Iterator[Run | Damage]:
    slot, damaged = segment.slot, False
    header = fmt.SEGMENT_HEADER.open(volume.try_read(slot, 0, 64), 0, volume.seed)
    if header is None or header.sequence != segment.sequence:
        yield Damage("a segment header is damaged", 0)
    entries = array("Q")
    for found in _runs(volume, segment, look):
        if isinstance(found, Damage):
            damaged = True
        else:
            entries.extend(found.entries)
        yield found
    if not segment.sealed:
        return
    footer = read_footer(volume, slot, segment.sequence)
    summary = None if footer is None else read_summary(volume, slot, footer)
    # With damage before it, a summary lists more than could be found.
    if summary is None or (summary != entries and not damaged):
        at = volume.geometry.segment_size_bytes - fmt.SEGMENT_FOOTER.size_bytes
        yield Damage("a segment summary is damaged", at)


def _runs(volume: Volume, segment: Extent, look: _Look) -> Iterator[Run | Damage]:
    slot, salt, expected = segment.slot, volume.index_salt, FIRST_GROUP_OFFSET
    groups = group_headers(volume, slot, segment.sequence, FIRST_GROUP_OFFSET, segment.end)
    for offset, group in groups:
        if offset > expected:
            yield Damage("a group header is damaged", expected)
            yield Run.of(salvage(volume, slot, expected, offset), salt)
        expected = offset + fmt.aligned(group.size_bytes)
        run = look(volume, slot, offset, group)
        if run is None:
            yield Damage("a group is damaged", offset)
            run = Run.of(salvage(volume, slot, offset, expected), salt)
        yield run
    if expected < segment.end:
        yield Damage("a group header is damaged", expected)
        yield Run.of(salvage(volume, slot, expected, segment.end), salt)


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
