"""Superblock copies: choose, check, write; and the geometry they record.

    0          4 MiB      8 MiB                    middle               end
    | copy 0   | copy 1   | segments ...           | copy 2 | segments  | copy 3 |

Invariants
- Each copy has an erase unit of its own, so a failing erase takes at most one.
- An update writes copy 0, syncs, writes the others, syncs; it begins with the others when none of
  them is whole and up to date, as an earlier crash may have left it. So at no moment can a crash
  tear the last good one.
- The valid copy with the highest generation wins; every read-write open rewrites all copies, which
  repairs damaged ones.
- Copies 0 and 1 never move, and copy 3 is at the end of every device that a store fills: whoever
  knows nothing but the device's size finds three of four. What a store that was resized has where
  the middle copy of a new one would be is data, so a copy counts only where its own geometry puts
  it, and only with the identity of those that cannot be data.
"""

from __future__ import annotations

from dataclasses import dataclass

from blkdev import format as fmt
from blkdev.device import Device
from blkdev.errors import (
    DeviceReadOnly,
    DeviceTooSmall,
    InvalidGeometry,
    NewerFormat,
    NotAStore,
    SuperblockDamaged,
)

FIRST_LINE = b"ipfs-mfs block store. Do not write to this device directly.\n"
SEGMENTS_OFFSET = 2 * fmt.ERASE_UNIT_SIZE_BYTES
_SEGMENTS_WANTED = 64
_SEGMENT_SIZE_AUTOMATIC_MIN_BYTES = 4 << 20


@dataclass(frozen=True)
class Geometry:
    """Where the segments and the superblock copies lie; sizes and offsets in bytes."""

    segment_size_bytes: int
    segment_count: int
    segments_before_middle: int
    middle_offset: int
    end_offset: int

    @classmethod
    def for_device(cls, device: Device, segment_size_bytes: int) -> Geometry:
        """Lay out a device. Raises InvalidGeometry, DeviceTooSmall."""
        power_of_two = segment_size_bytes & (segment_size_bytes - 1) == 0
        if (
            not power_of_two
            or not fmt.SEGMENT_SIZE_MIN_BYTES <= segment_size_bytes <= fmt.SEGMENT_SIZE_MAX_BYTES
        ):
            raise InvalidGeometry(
                f"segment size {segment_size_bytes} is not a power of two from "
                f"{fmt.SEGMENT_SIZE_MIN_BYTES} to {fmt.SEGMENT_SIZE_MAX_BYTES} bytes"
            )
        middle = device.size_bytes // 2 & -fmt.ERASE_UNIT_SIZE_BYTES
        end = (device.size_bytes & -fmt.ERASE_UNIT_SIZE_BYTES) - fmt.ERASE_UNIT_SIZE_BYTES
        before = max(0, middle - SEGMENTS_OFFSET) // segment_size_bytes
        before = min(before, fmt.SEGMENT_COUNT_MAX)
        after = max(0, end - middle - fmt.ERASE_UNIT_SIZE_BYTES) // segment_size_bytes
        if before + after < fmt.SEGMENT_COUNT_MIN:
            needed = (
                5 * fmt.ERASE_UNIT_SIZE_BYTES + (fmt.SEGMENT_COUNT_MIN + 2) * segment_size_bytes
            )
            raise DeviceTooSmall(
                f"{device.name} has {device.size_bytes} bytes; with segments of "
                f"{segment_size_bytes} bytes a store needs about {needed} "
                "(use a larger device or smaller segments)"
            )
        count = min(before + after, fmt.SEGMENT_COUNT_MAX)
        return cls(segment_size_bytes, count, before, middle, end)

    @classmethod
    def of(cls, block: fmt.Row) -> Geometry:
        return cls(
            block.segment_size_bytes,
            block.segment_count,
            block.segments_before_middle,
            block.middle_offset,
            block.end_offset,
        )

    def segment_offset(self, slot: int) -> int:
        """Device offset of a segment's first byte."""
        offset = SEGMENTS_OFFSET + slot * self.segment_size_bytes
        if slot < self.segments_before_middle:
            return offset
        skipped = self.segments_before_middle * self.segment_size_bytes
        return offset - SEGMENTS_OFFSET - skipped + self.middle_offset + fmt.ERASE_UNIT_SIZE_BYTES

    @property
    def copy_offsets(self) -> tuple[int, int, int, int]:
        return (0, fmt.ERASE_UNIT_SIZE_BYTES, self.middle_offset, self.end_offset)

    def fits(self, size_bytes: int) -> bool:
        """Whether it is one that this program could have laid out on so many bytes."""
        unit, size = fmt.ERASE_UNIT_SIZE_BYTES, self.segment_size_bytes
        before, middle = self.segments_before_middle, self.middle_offset
        after = self.segment_count - before
        return (
            size.bit_count() == 1
            and fmt.SEGMENT_SIZE_MIN_BYTES <= size <= fmt.SEGMENT_SIZE_MAX_BYTES
            and fmt.SEGMENT_COUNT_MIN <= self.segment_count <= fmt.SEGMENT_COUNT_MAX
            and after >= 0
            and not (middle | self.end_offset) % unit
            and SEGMENTS_OFFSET + before * size <= middle
            and middle + unit + after * size <= self.end_offset
            and self.end_offset + unit <= size_bytes
        )

    @property
    def value_size_max_bytes(self) -> int:
        """Half a segment, so that a segment is never left nearly empty by the next value."""
        return min(fmt.VALUE_SIZE_MAX_BYTES, self.segment_size_bytes // 2)


def default_segment_size(device_size_bytes: int) -> int:
    """16 MiB, less where the device would hold under 64 of them, but at least 4 MiB."""
    size = fmt.SEGMENT_SIZE_DEFAULT_BYTES
    while size > _SEGMENT_SIZE_AUTOMATIC_MIN_BYTES and device_size_bytes // size < _SEGMENTS_WANTED:
        size //= 2
    return size


def blank(device: Device, geometry: Geometry) -> fmt.Row:
    """The superblock of an empty store, without its identity."""
    return fmt.SUPERBLOCK.zero()._replace(
        first_line=FIRST_LINE,
        version=fmt.FORMAT_VERSION,
        device_size_bytes=device.size_bytes,
        segment_size_bytes=geometry.segment_size_bytes,
        segment_count=geometry.segment_count,
        segments_before_middle=geometry.segments_before_middle,
        middle_offset=geometry.middle_offset,
        end_offset=geometry.end_offset,
        clean=1,
        checkpoint_slot=fmt.NO_SLOT,
    )


def read_copy(device: Device, offset: int) -> tuple[fmt.Row | None, bool]:
    """(the superblock at `offset` if whole, whether anything of ours is there)."""
    try:
        page = device.read(offset, fmt.PAGE_SIZE_BYTES)
    except OSError:
        page = b""
    ours = fmt.SUPERBLOCK_MAGIC in page or page.startswith(FIRST_LINE)
    return fmt.SUPERBLOCK.open(page), ours


def read_copies(device: Device) -> list[tuple[fmt.Row | None, bool]]:
    """The copies where they lie when nothing but the device's size is known, surest place first:
    the middle comes last, because there a store that was resized has data.
    """
    unit = fmt.ERASE_UNIT_SIZE_BYTES
    offsets = (0, unit, (device.size_bytes & -unit) - unit, device.size_bytes // 2 & -unit)
    found = [(offset, *read_copy(device, offset)) for offset in offsets if offset >= 0]
    return [(block if _belongs(block, offset) else None, ours) for offset, block, ours in found]


def _belongs(block: fmt.Row | None, offset: int) -> bool:
    """Whether the copy is where its own geometry puts it, so that it was not misdirected."""
    if block is None:
        return False
    offsets = Geometry.of(block).copy_offsets
    return block.copy < len(offsets) and bool(offsets[block.copy] == offset)


def load(device: Device) -> fmt.Row:
    """The newest valid copy, checked against this program and the device.

    Raises NotAStore, SuperblockDamaged, NewerFormat, DeviceTooSmall.
    """
    copies = read_copies(device)
    valid = [block for block, _ in copies if block is not None]
    if not valid:
        if any(ours for _, ours in copies):
            raise SuperblockDamaged(
                f"{device.name}: every copy of the superblock is damaged (restore a backup)"
            )
        try:
            device.read(0, min(fmt.PAGE_SIZE_BYTES, device.size_bytes))
        except OSError as error:
            # An unreadable device is not an empty one: nobody should be told to format it.
            raise SuperblockDamaged(
                f"{device.name}: no copy of the superblock is readable: {error} (look at the disk)"
            ) from error
        raise NotAStore(device.name)
    same = [block for block in valid if block.uuid == valid[0].uuid]
    newest = max(same, key=lambda block: block.generation)
    unknown = newest.features_incompatible & ~fmt.FEATURES_INCOMPATIBLE
    if newest.version > fmt.FORMAT_VERSION or unknown:
        raise NewerFormat(
            f"{device.name} has format {newest.version} with features "
            f"{newest.features_incompatible:#x} (use a newer version of this program)"
        )
    if device.size_bytes < newest.device_size_bytes:
        raise DeviceTooSmall(
            f"{device.name} has {device.size_bytes} bytes but its store was made for "
            f"{newest.device_size_bytes} (the device or its image was cut short)"
        )
    if not Geometry.of(newest).fits(newest.device_size_bytes):
        raise SuperblockDamaged(f"{device.name}: its geometry is impossible (restore a backup)")
    return newest


def check_writable(device: Device, block: fmt.Row) -> None:
    """Raises DeviceReadOnly when the device or the store may be read only."""
    if device.read_only:
        raise DeviceReadOnly(f"{device.name} was opened read-only (open it for writing)")
    if block.features_read_only & ~fmt.FEATURES_READ_ONLY:
        raise DeviceReadOnly(
            f"{device.name} uses a feature that only a newer version can write (open it "
            "read-only, or use a newer version of this program)"
        )


def store(device: Device, block: fmt.Row) -> fmt.Row:
    """Write the next generation to all copies, durably; the superblock as written.

    Raises OSError; the device then holds this or the previous generation.
    """
    others = [read_copy(device, offset)[0] for offset in Geometry.of(block).copy_offsets[1:]]
    present = (block.uuid, block.generation)
    spare = any(other and (other.uuid, other.generation) == present for other in others)
    block = block._replace(generation=block.generation + 1)
    offsets = Geometry.of(block).copy_offsets
    for batch in ((0,), (1, 2, 3)) if spare else ((1, 2, 3), (0,)):
        for copy in batch:
            offset = offsets[copy]
            device.write(offset, [fmt.SUPERBLOCK.seal(block._replace(copy=copy))])
        device.sync()
    return block
