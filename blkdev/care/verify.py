"""Verifying a whole group, and telling which of its blocks are alive: in C where that was built.

Twin of `native/verify.c`: the same bytes give the same.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, NamedTuple

from blkdev import format as fmt
from blkdev.checksum import crc32
from blkdev.index import Index
from blkdev.segment import Record, Volume, decode_record, read_group

_HEAD = fmt.RECORD_HEADER.size_bytes


class Run(NamedTuple):
    """Records that follow one another and whose headers hold.

    `entries` are what a summary has of them. `records` has at least those that are no blocks or
    whose values fail their checksums.
    """

    entries: array[int]
    records: list[Record]

    @classmethod
    def of(cls, records: list[Record], index_salt: int) -> Run:
        """All of these records."""
        entries = array("Q")
        for record in records:
            entries.extend(record.entry(index_salt))
        return cls(entries, records)


def decoded(volume: Volume, slot: int, offset: int, group: fmt.Row) -> Run | None:
    """All records of a group whose header holds; None when it cannot be read or any other header
    in it is damaged. Raises NewerFormat.
    """
    records = read_group(volume, slot, offset, group, verify_values=False)
    return None if records is None else Run.of(records, volume.index_salt)


def verified(volume: Volume, slot: int, offset: int, group: fmt.Row) -> Run | None:
    """As `decoded`, at a fraction of the cost: without the records of blocks that are whole."""
    try:
        packed = volume.view(slot, offset, group.size_bytes)
    except OSError:
        return None
    place = fmt.pack_location(slot, offset, 0)
    sums = (group.records_checksum, volume.seed, volume.index_salt)
    found = verify_group(packed, group.record_count, *sums, place)
    if found is None:
        return decoded(volume, slot, offset, group)
    entries, records = array("Q", found[0]), []
    for number in array("I", found[1]):
        location = entries[2 * number + 1] & ~fmt.OTHER_KIND
        at, size = fmt.location_offset(location) - offset, fmt.location_size(location)
        place = fmt.pack_location(slot, offset + at, 0)
        record = decode_record(volume, bytes(packed[at : at + size]), 0, place)
        assert record is not None
        records.append(record)
    return Run(entries, records)


def _verify_group(
    group: memoryview, record_count: int, records_checksum: int, seed: int, salt: int, place: int
) -> tuple[bytes, bytes] | None:
    """Summary entries of a group's records, and the numbers (4 bytes each) of those that are no
    blocks or whose values fail; None when any header is damaged or unknown. `place` is the packed
    location of the group.
    """
    data, at, checksum = bytes(group), fmt.GROUP_HEADER.size_bytes, seed
    entries, numbers = array("Q"), array("I")
    for number in range(record_count):
        header = fmt.decode_record_head(data, at, seed)
        if header is None or header.kind not in fmt.KINDS or header.transform:
            return None
        value_at = at + _HEAD + header.key_size_bytes
        size = fmt.record_size(header.key_size_bytes, header.value_size_bytes)
        if at + size > len(data) or size >> 3 > fmt.SIZE_MASK:
            return None
        key, value = data[at + _HEAD : value_at], data[value_at:][: header.value_size_bytes]
        record = Record(header, key, value, place + fmt.pack_location(0, at, size))
        entries.extend(record.entry(salt))
        if header.kind != fmt.KIND_BLOCK or not record.is_whole:
            numbers.append(number)
        checksum = crc32(data[at:value_at], checksum)
        at += size
    if (checksum, at) != (records_checksum, len(data)):
        return None
    return entries.tobytes(), numbers.tobytes()


def _count_alive(index: Index, entries: array[int]) -> tuple[int, int]:
    """How many of these summary entries are blocks in the index, and the bytes that they take."""
    pairs = iter(entries)
    alive = [
        fmt.location_size(location)
        for fingerprint, location in zip(pairs, pairs, strict=True)
        if fingerprint != fmt.NO_FINGERPRINT and index.has(fingerprint, location)
    ]
    return len(alive), sum(alive)


if TYPE_CHECKING:
    count_alive, verify_group = _count_alive, _verify_group
else:
    try:
        from blkdev._native import count_alive, verify_group
    except ImportError:
        count_alive, verify_group = _count_alive, _verify_group
