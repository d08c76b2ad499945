"""Everything on the device is defined here: layouts, magic numbers, versions, limits.

Twin of docs/formats/blkdev.md; tests/blkdev/test_format_doc.py compares the two field by field.

Invariants
- All integers are little-endian; no layout has implicit padding; sizes are asserted at import.
- Every header starts (after at most one line of text) with a magic number and a CRC-32 of all its
  other bytes. Headers of one store are seeded with its UUID, so leftovers of an earlier store on
  the same device never pass for ours.
- Nothing here does I/O.
"""

from __future__ import annotations

import sys
from collections import namedtuple
from collections.abc import Iterator
from struct import Struct, calcsize
from typing import Any, Final, NamedTuple
from zlib import crc32

BytesLike = bytes | bytearray | memoryview

FORMAT_VERSION: Final = 1
PAGE_SIZE_BYTES: Final = 4096
ERASE_UNIT_SIZE_BYTES: Final = 4 << 20
RECORD_UNIT_BYTES: Final = 8
SEGMENT_SIZE_MIN_BYTES: Final = 64 << 10
SEGMENT_SIZE_MAX_BYTES: Final = 64 << 20
SEGMENT_SIZE_DEFAULT_BYTES: Final = 16 << 20
SEGMENT_COUNT_MIN: Final = 6
SEGMENT_COUNT_MAX: Final = (1 << 20) - 1
KEY_SIZE_MAX_BYTES: Final = 64
VALUE_SIZE_MAX_BYTES: Final = 4 << 20
NAME_SIZE_MAX_BYTES: Final = 1024
NAME_VALUE_SIZE_MAX_BYTES: Final = 64 << 10
LABEL_SIZE_MAX_BYTES: Final = 64
TOMBSTONES_PER_RECORD_MAX: Final = 1024
BAD_SLOTS_MAX: Final = 512

FEATURE_RETIRED: Final = 1 << 0
"""Incompatible: what a retired segment holds must not be read as part of the log."""
FEATURES_COMPATIBLE: Final = 0
FEATURES_READ_ONLY: Final = 0
FEATURES_INCOMPATIBLE: Final = FEATURE_RETIRED
"""Feature bits this version knows. An unknown compatible bit is ignored, an unknown read-only bit
forbids writing, an unknown incompatible bit forbids opening."""

SUPERBLOCK_MAGIC: Final = b"\x89blkdev\n"
SEGMENT_MAGIC: Final = b"\x89blkseg\n"
FOOTER_MAGIC: Final = b"\x89blkend\n"
CHECKPOINT_MAGIC: Final = b"\x89blkidx\n"
TRAILER_MAGIC: Final = b"\x89blksum\n"
GROUP_MAGIC: Final = b"\x89grp"

SEGMENT_LOG: Final = 1
SEGMENT_CHECKPOINT: Final = 2
SEGMENT_FREE: Final = 3

KIND_BLOCK: Final = 1
KIND_TOMBSTONES: Final = 2
KIND_NAME: Final = 3
KIND_NAME_REMOVAL: Final = 4
KIND_JOURNAL: Final = 5
KIND_JOURNAL_TRIM: Final = 6
KINDS: Final = frozenset(range(KIND_BLOCK, KIND_JOURNAL_TRIM + 1))

TRANSFORM_NONE: Final = 0
NO_SLOT: Final = 0xFFFF_FFFF
BAD_RETIRED: Final = 1 << 31
"""Marks an entry of `bad_slots` whose segment is out of use for good."""
NO_FINGERPRINT: Final = 0xFFFF_FFFF_FFFF_FFFF

OFFSET_BITS: Final = 23
SLOT_BITS: Final = 20
SIZE_BITS: Final = 20
OFFSET_MASK: Final = (1 << OFFSET_BITS) - 1
SLOT_MASK: Final = (1 << SLOT_BITS) - 1
SIZE_MASK: Final = (1 << SIZE_BITS) - 1
SIZE_SHIFT: Final = OFFSET_BITS + SLOT_BITS
OTHER_KIND: Final = 1 << (SIZE_SHIFT + SIZE_BITS)

Row = Any
"""A named tuple with the fields of one layout."""


class Field(NamedTuple):
    """One line of a byte table: where a field lies and how it is encoded."""

    offset: int
    size_bytes: int
    code: str
    name: str


class Layout:
    """A packed little-endian struct with named fields.

    `fields` is "code name, code name, ..." with the codes of the struct module.
    """

    def __init__(self, title: str, size_bytes: int, fields: str) -> None:
        self.title = title
        pairs = [field.split() for field in fields.split(",")]
        self.struct = Struct("<" + "".join(code for code, _ in pairs))
        self.size_bytes = self.struct.size
        assert self.size_bytes == size_bytes, (title, self.size_bytes)
        self._row = namedtuple(title, [name for _, name in pairs])  # type: ignore[misc]  # by table
        sizes = [calcsize("<" + code) for code, _ in pairs]
        self.fields = [
            Field(sum(sizes[:at]), sizes[at], code, name) for at, (code, name) in enumerate(pairs)
        ]
        self._zero = self.unpack(bytes(self.size_bytes))

    def pack(self, row: Row) -> bytes:
        return self.struct.pack(*row)

    def zero(self) -> Row:
        """A row of zeros, to be filled in with _replace."""
        return self._zero

    def unpack(self, buffer: BytesLike, offset: int = 0) -> Row:
        """Raises struct.error when the buffer is too short."""
        return self._row(*self.struct.unpack_from(buffer, offset))


class CheckedLayout(Layout):
    """A layout with the fields `magic` and `checksum`: CRC-32 of all other bytes, seeded."""

    def __init__(self, title: str, size_bytes: int, magic: bytes, fields: str) -> None:
        super().__init__(title, size_bytes, fields)
        at = {field.name: field.offset for field in self.fields}
        self._magic = magic
        self._magic_at = at["magic"]
        self._checksum_at = at["checksum"]

    def seal(self, row: Row, seed: int = 0) -> bytes:
        """The row's bytes with magic and checksum filled in, whatever the row holds there."""
        packed = self.pack(row._replace(magic=self._magic))
        checksum = self._sum(packed, seed)
        return b"".join((packed[: self._checksum_at], checksum, packed[self._checksum_at + 4 :]))

    def open(self, buffer: BytesLike, offset: int = 0, seed: int = 0) -> Row | None:
        """The row at `offset`, or None when it is cut short, not ours, or damaged."""
        packed = bytes(buffer[offset : offset + self.size_bytes])
        if len(packed) < self.size_bytes or not packed.startswith(self._magic, self._magic_at):
            return None
        if packed[self._checksum_at : self._checksum_at + 4] != self._sum(packed, seed):
            return None
        return self.unpack(packed)

    def _sum(self, packed: bytes | bytearray, seed: int) -> bytes:
        head = crc32(packed[: self._checksum_at], seed)
        return crc32(packed[self._checksum_at + 4 :], head).to_bytes(4, "little")


SUPERBLOCK: Final = CheckedLayout(
    "Superblock", 4096, SUPERBLOCK_MAGIC,
    "64s first_line, 8s magic, I checksum, I version, 16s uuid, Q generation, "
    "Q features_compatible, Q features_read_only, Q features_incompatible, Q device_size_bytes, "
    "I segment_size_bytes, I segment_count, I segments_before_middle, I epoch, Q middle_offset, "
    "Q end_offset, B clean, B copy, I checkpoint_slot, Q checkpoint_sequence, Q index_salt, "
    "16s boot_id, Q created_ns, 64s label, I bad_count, 2048s bad_slots, Q scrubbed_to, "
    "Q scrubbed_ns, Q durable_group, 1742s reserved",
)  # fmt: skip
"""What a store is: identity, geometry, features, and where recovery starts."""

SEGMENT_HEADER: Final = CheckedLayout(
    "SegmentHeader", 64, SEGMENT_MAGIC,
    "8s magic, I checksum, I kind, I slot, I epoch, Q sequence, Q first_group, Q durable_group, "
    "16s uuid",
)  # fmt: skip
"""First page of a segment: what it holds and its place in the log."""

SEGMENT_FOOTER: Final = CheckedLayout(
    "SegmentFooter", 64, FOOTER_MAGIC,
    "8s magic, I checksum, I slot, Q sequence, Q last_group, Q durable_group, I entry_count, "
    "I groups_end, I summary_checksum, I epoch, Q next_sequence",
)  # fmt: skip
"""Last bytes of a sealed segment; the summary entries lie right before it."""

GROUP_HEADER: Final = CheckedLayout(
    "GroupHeader", 64, GROUP_MAGIC,
    "4s magic, I checksum, I size_bytes, I record_count, I records_checksum, I epoch, Q number, "
    "Q durable_group, Q segment_sequence, Q next_sequence, Q reserved",
)  # fmt: skip
"""The commit record of a group: records that become visible together or not at all."""

RECORD_HEADER: Final = Layout(
    "RecordHeader", 24,
    "I checksum, B kind, B transform, H key_size_bytes, I value_size_bytes, I value_checksum, "
    "Q sequence",
)  # fmt: skip
"""Before each record's key and value."""

SUMMARY_ENTRY: Final = Layout("SummaryEntry", 16, "Q fingerprint, Q location")
"""One record of a sealed segment; also one slot of the index."""

TOMBSTONE: Final = Layout("Tombstone", 24, "Q fingerprint, Q location, Q segment_sequence")
"""The record at `location`, in the segment of that sequence, is dead."""

CHECKPOINT_HEAD: Final = CheckedLayout(
    "CheckpointHead", 96, CHECKPOINT_MAGIC,
    "8s magic, I checksum, I slot_count, Q body_size_bytes, I body_checksum, I shard_count, "
    "Q group, Q next_sequence, Q next_segment_sequence, Q tail_sequence, I tail_end, "
    "I tail_entries, Q keys, I segments, I tombstones, I names, I streams",
)  # fmt: skip
"""Start of a checkpoint's stream of bytes."""

CHECKPOINT_SEGMENT: Final = Layout(
    "CheckpointSegment", 24, "I slot, I flags, Q sequence, I end, I live_bytes"
)
"""One log segment in use, and how much of it is alive."""

CHECKPOINT_TOMBSTONES: Final = Layout(
    "CheckpointTombstones", 20, "Q target, Q holder, I tombstones"
)
"""How many tombstones for the segment `target` the segment `holder` has."""

CHECKPOINT_NAME: Final = Layout(
    "CheckpointName", 24, "Q sequence, Q location, I copies, H removed, H size_bytes"
)
"""One name; its bytes follow."""

CHECKPOINT_STREAM: Final = Layout(
    "CheckpointStream", 36,
    "Q stream, q trimmed_to, q trim_sequence, Q trim_location, I record_count",
)  # fmt: skip
"""One journal stream; its records follow as pairs (sequence, location)."""

CHECKPOINT_TRAILER: Final = CheckedLayout(
    "CheckpointTrailer", 16, TRAILER_MAGIC, "8s magic, I checksum, I rest_checksum"
)
"""End of a checkpoint's body; before it lies the CRC-32 of each shard's slots (u32)."""

LAYOUTS: Final[tuple[Layout, ...]] = (
    SUPERBLOCK, SEGMENT_HEADER, SEGMENT_FOOTER, GROUP_HEADER, RECORD_HEADER, SUMMARY_ENTRY,
    TOMBSTONE, CHECKPOINT_HEAD, CHECKPOINT_SEGMENT, CHECKPOINT_TOMBSTONES, CHECKPOINT_NAME,
    CHECKPOINT_STREAM, CHECKPOINT_TRAILER,
)  # fmt: skip

RECORD_SIZE_MAX_BYTES: Final = (
    RECORD_HEADER.size_bytes + NAME_SIZE_MAX_BYTES + VALUE_SIZE_MAX_BYTES + RECORD_UNIT_BYTES
)
assert sys.byteorder == "little", "the index image is used as it lies in memory"
assert SUPERBLOCK.size_bytes == PAGE_SIZE_BYTES
assert RECORD_SIZE_MAX_BYTES < RECORD_UNIT_BYTES << SIZE_BITS
assert SEGMENT_SIZE_MAX_BYTES <= RECORD_UNIT_BYTES << OFFSET_BITS
assert SEGMENT_COUNT_MAX < 1 << SLOT_BITS <= BAD_RETIRED
assert OTHER_KIND == 1 << 63
assert ERASE_UNIT_SIZE_BYTES % PAGE_SIZE_BYTES == 0
assert TOMBSTONES_PER_RECORD_MAX * TOMBSTONE.size_bytes <= SEGMENT_SIZE_MIN_BYTES // 2


def aligned(size_bytes: int) -> int:
    """Rounded up to whole pages."""
    return (size_bytes + PAGE_SIZE_BYTES - 1) & -PAGE_SIZE_BYTES


def pack_location(slot: int, offset: int, size_bytes: int) -> int:
    """Where a record lies, in 64 bits: segment slot, offset in it, size; never 0.

    `offset` and `size_bytes` are multiples of RECORD_UNIT_BYTES.
    """
    return (size_bytes >> 3) << SIZE_SHIFT | slot << OFFSET_BITS | offset >> 3


def location_slot(location: int) -> int:
    return location >> OFFSET_BITS & SLOT_MASK


def location_offset(location: int) -> int:
    """Offset in the segment, in bytes."""
    return (location & OFFSET_MASK) << 3


def location_size(location: int) -> int:
    """Size of the record with header, key and padding, in bytes."""
    return (location >> SIZE_SHIFT & SIZE_MASK) << 3


def tombstones(value: BytesLike) -> Iterator[tuple[int, int, int]]:
    """(fingerprint, location, segment sequence) of each tombstone in a record's value."""
    return TOMBSTONE.struct.iter_unpack(
        value[: len(value) // TOMBSTONE.size_bytes * TOMBSTONE.size_bytes]
    )


def store_seed(uuid: bytes) -> int:
    """What the checksums of one store's headers start from."""
    return crc32(uuid)


def record_size(key_size_bytes: int, value_size_bytes: int) -> int:
    """Bytes one record takes in its group."""
    return (RECORD_HEADER.size_bytes + key_size_bytes + value_size_bytes + 7) & -8


_RECORD_TAIL = Struct("<BBHIIQ").pack


def encode_record_head(
    kind: int, key: bytes, value_size_bytes: int, value_checksum: int, sequence: int, seed: int
) -> bytes:
    """Header and key of one record; the value follows them on the device."""
    tail = _RECORD_TAIL(kind, TRANSFORM_NONE, len(key), value_size_bytes, value_checksum, sequence)
    tail += key
    return crc32(tail, seed).to_bytes(4, "little") + tail


def decode_record_head(buffer: BytesLike, offset: int, seed: int) -> Row | None:
    """The record header at `offset`, or None when it is cut short or damaged."""
    if offset + RECORD_HEADER.size_bytes > len(buffer):
        return None
    header = RECORD_HEADER.unpack(buffer, offset)
    end = offset + RECORD_HEADER.size_bytes + header.key_size_bytes
    if end > len(buffer) or crc32(buffer[offset + 4 : end], seed) != header.checksum:
        return None
    return header
