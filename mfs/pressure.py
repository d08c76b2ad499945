"""Limits: memory that is not flushed, room in the store, the quota of a root.

Memory is bounded by making whoever writes beyond the limit do the flush itself. Room is checked
before a write is accepted, with a reserve for what a flush and the journal need beside the data:
so a full store says so at the write, and deleting from it still works.
"""

from __future__ import annotations

from mfs.core import Core
from mfs.errors import NoSpace, QuotaExceeded
from mfs.flush import flush
from mfs.node import StatFs
from mfs.posix import NAME_SIZE_MAX_BYTES
from repo.interface import BlockStats

UNFLUSHED_MAX_BYTES = 64 << 20
UNFLUSHED_INODES_MAX = 8_000
ENTRY_COST_BYTES = 512
"""What one more entry may cost in table, directory and journal."""

_RESERVE_MAX_BYTES = 16 << 20
_RESERVE_DIVISOR = 16
_GRANT_BYTES = 4 << 20
_BYTES_PER_INODE = 4096


def relieve(core: Core) -> None:
    """Flush when too much is unflushed; returns when there is room again. Needs no lock held.

    Raises what a flush raises.
    """
    if is_high(core):
        with core.durability:
            # Somebody else may have flushed while this thread waited.
            if is_high(core):
                flush(core)


def is_high(core: Core) -> bool:
    """Whether a flush is due for the sake of memory."""
    return core.memory_bytes > UNFLUSHED_MAX_BYTES or len(core.state.changed) > UNFLUSHED_INODES_MAX


def check_room(core: Core, length: int) -> None:
    """The store can take `length` more bytes. Needs `lock`. Raises NoSpace.

    The store is asked once for some MiB, not for each write.
    """
    core.room_bytes -= length
    if core.room_bytes >= 0:
        return
    stats = core.repo.blocks.stats()
    if stats.free_bytes is None:
        core.room_bytes = _GRANT_BYTES
        return
    # An eighth more than the bytes: records do not cross segments, so ends of segments stay empty.
    room = stats.free_bytes - _reserve(stats) - core.memory_bytes * 9 // 8
    if room < length:
        core.room_bytes = 0
        raise NoSpace
    core.room_bytes = min(room - length, _GRANT_BYTES)


def has_room_twice(core: Core, batch_bytes: int) -> bool:
    """Whether a batch may go to the journal and leave room for the flush of what it has."""
    stats = core.repo.blocks.stats()
    if stats.free_bytes is None:
        return True
    return stats.free_bytes - batch_bytes - _reserve(stats) // 2 >= core.memory_bytes


def _reserve(stats: BlockStats) -> int:
    return min(_RESERVE_MAX_BYTES, (stats.capacity_bytes or 0) // _RESERVE_DIVISOR)


def check_quota(core: Core, growth: int) -> None:
    """The root may grow by so many bytes. Needs `lock`. Raises QuotaExceeded."""
    quota = core.head.quota_bytes
    if quota is not None and growth > 0 and core.state.used_bytes + growth > quota:
        raise QuotaExceeded(quota)


def statfs(core: Core) -> StatFs:
    """See `Tree.statfs`. Needs `lock`."""
    stats = core.repo.blocks.stats()
    free = stats.free_bytes
    if free is None:
        free = 1 << 40
    total = stats.capacity_bytes or stats.live_bytes + free
    free = max(0, free - core.memory_bytes)
    quota = core.head.quota_bytes
    if quota is not None:
        used = core.state.used_bytes
        total, free = quota, max(0, min(free, quota - used))
    inodes_free = free // _BYTES_PER_INODE
    inodes = core.state.inode_count
    return StatFs(total, free, inodes + inodes_free, inodes_free, NAME_SIZE_MAX_BYTES)
