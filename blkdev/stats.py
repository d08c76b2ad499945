"""What a store holds and has done, as numbers."""

from __future__ import annotations

from dataclasses import dataclass

from blkdev import format as fmt
from blkdev.catalog import Catalog
from blkdev.checkpoint import Checkpointer
from blkdev.log import DATA, Log
from blkdev.segment import Volume


@dataclass(frozen=True)
class StoreStats:
    """Exact counts, kept up to date by every operation. Sizes are in bytes.

    `live_bytes` is what compaction would keep, `dead_bytes` what it would give back; both count
    records with their headers. `free_bytes` is what put_many can still take, about.
    `written_bytes`, `discarded_bytes` (of freed segments, given back to the device) and
    `sync_count` count from the opening on.
    """

    keys: int
    names: int
    journal_records: int
    live_bytes: int
    dead_bytes: int
    used_bytes: int
    free_bytes: int
    capacity_bytes: int
    segment_size_bytes: int
    segments: int
    segments_free: int
    segments_checkpoint: int
    segments_retired: int
    index_bytes: int
    staged_bytes: int
    written_bytes: int
    discarded_bytes: int
    sync_count: int
    position: int
    read_only: bool
    latched: bool


def _free_count(volume: Volume, catalog: Catalog, backing_bytes: int) -> int:
    """Free slots that there is room for below the device."""
    size_bytes, geometry = volume.device.size_bytes, volume.geometry
    never_written = size_bytes - geometry.segment_count * geometry.segment_size_bytes
    short_bytes = max(0, size_bytes - backing_bytes - never_written)
    short = -(-short_bytes // geometry.segment_size_bytes)
    return max(0, min(len(catalog.free), len(catalog.free) + len(catalog.unbacked) - short))


def measure(
    volume: Volume, catalog: Catalog, log: Log, checkpointer: Checkpointer, *, read_only: bool
) -> StoreStats:
    """The state at one moment."""
    size = volume.geometry.segment_size_bytes
    usable = size - 2 * fmt.PAGE_SIZE_BYTES
    # It asks the file system, which may have to ask a server: not under a lock of readers.
    backing_bytes = volume.device.backing_bytes()
    with log.write_lock, log.state_lock:
        segment_count = volume.geometry.segment_count
        free, staged = _free_count(volume, catalog, backing_bytes), log.staged_bytes
        retired = sum(s < segment_count and s not in catalog.segments for s in catalog.bad_slots)
        dead = catalog.used_bytes - len(catalog.segments) * fmt.PAGE_SIZE_BYTES
        return StoreStats(
            keys=catalog.index.count,
            names=catalog.name_count,
            journal_records=catalog.journal_record_count,
            live_bytes=catalog.live_bytes,
            dead_bytes=max(0, dead + staged - catalog.live_bytes),
            used_bytes=catalog.used_bytes,
            free_bytes=max(0, free - DATA) * usable + log.room_bytes(),
            capacity_bytes=(segment_count - retired - DATA) * usable,
            segment_size_bytes=size,
            segments=segment_count,
            segments_free=len(catalog.free) + len(catalog.unbacked) + len(catalog.withheld),
            segments_checkpoint=len(checkpointer.slots),
            segments_retired=retired,
            index_bytes=catalog.index.size_bytes,
            staged_bytes=staged,
            written_bytes=log.written_bytes,
            discarded_bytes=log.discarded_bytes,
            sync_count=log.sync_count,
            position=log.position,
            read_only=read_only,
            latched=log.failure is not None,
        )
