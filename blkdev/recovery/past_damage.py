"""Reading on past damage: the groups behind a damaged one, and what verifies by itself in it.

Pure reading. What may be believed of what is found here is the caller's decision: recovery takes
only what was durable, see blkdev/recovery/recover.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from blkdev import format as fmt
from blkdev.segment import FIRST_GROUP_OFFSET, Record, Volume, decode_record, read_group_header

_HEAD = fmt.RECORD_HEADER.size_bytes
_SCAN_SIZE_BYTES = 64 << 10


def group_headers(
    volume: Volume,
    slot: int,
    sequence: int,
    offset: int = FIRST_GROUP_OFFSET,
    end: int | None = None,
) -> Iterator[tuple[int, fmt.Row]]:
    """(offset, header) of the groups of one segment up to `end`, in order.

    Where one is damaged, or was never written, it goes on at the next page that begins a later one;
    the caller sees the gap. Numbers rise and epochs never fall: what does not fit is a leftover of
    a tail that an earlier recovery dropped, or of the segment's previous use.
    """
    end = min(end or fmt.SEGMENT_SIZE_MAX_BYTES, volume.geometry.segment_size_bytes)
    number = epoch = -1
    while offset < end:
        header = read_group_header(volume, slot, offset)
        ours = header is not None and header.segment_sequence == sequence
        if header is not None and ours and header.number > number and header.epoch >= epoch:
            yield offset, header
            number, epoch = header.number, header.epoch
            offset += fmt.aligned(header.size_bytes)
        else:
            offset = _next_like_a_group(volume, slot, offset + fmt.PAGE_SIZE_BYTES, end)


def _next_like_a_group(volume: Volume, slot: int, offset: int, end: int) -> int:
    """Offset of the next page that begins like a group; `end` when there is none."""
    while offset < end:
        packed = read_around(volume, slot, offset, min(_SCAN_SIZE_BYTES, end - offset))
        for at in range(0, len(packed), fmt.PAGE_SIZE_BYTES):
            if packed.startswith(fmt.GROUP_MAGIC, at):
                return offset + at
        offset += len(packed)
    return end


def read_around(volume: Volume, slot: int, offset: int, length: int) -> bytes:
    """Bytes of one segment, with pages of zeros where the device fails."""
    whole = volume.try_read(slot, offset, length)
    if len(whole) == length:
        return whole
    size = fmt.PAGE_SIZE_BYTES
    pages = (
        volume.try_read(slot, at, min(size, offset + length - at))
        for at in range(offset, offset + length, size)
    )
    return b"".join(page.ljust(size, b"\0") for page in pages)[:length]


def salvage(volume: Volume, slot: int, offset: int, end: int) -> list[Record]:
    """Records between two offsets whose headers hold, where the group that says what is there is
    damaged. Only for what is known to have been durable.
    """
    packed = read_around(volume, slot, offset, end - offset)
    records: list[Record] = []
    at = 0
    while at + _HEAD <= len(packed):
        if packed[at + 4] in fmt.KINDS and packed[at + 5] == fmt.TRANSFORM_NONE:
            record = decode_record(volume, packed, at, fmt.pack_location(slot, offset + at, 0))
            if record is not None:
                records.append(record)
                at += fmt.location_size(record.location)
                continue
        at += fmt.RECORD_UNIT_BYTES
    return records
