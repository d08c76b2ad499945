"""What the kernel is shown of an inode: numbers across trees, and overridden owners and modes.

An inode number of the mount is `(branch index << 48) | number in its tree`. A mount of one root
has branch index 0, so its numbers are the tree's own and its top is 1, as FUSE wants it. Numbers
of roots are the same after every remount, because trees keep theirs and a root's index is its
store-wide id; numbers below `.snapshots` are given as they are met.

`st_blocks` counts allocated units of 512 bytes and comes from the tree. `st_blksize` is no
allocation unit but the advised size of one transfer.
"""

from __future__ import annotations

import stat as modes
from collections.abc import Callable

from fusefs.options import MountOptions
from mfs.node import Stat

INO_BITS = 48
INO_MASK = (1 << INO_BITS) - 1
TOP_INODE = 1
TREE_TOP_INO = 1

BLOCK_SIZE_HINT_BYTES = 128 << 10
"""st_blksize: what C's stdio and Python use as buffer size. Each request costs a switch to the
daemon and back, so the usual 4 KiB would make buffered copies several times slower; the leaf size
of 1 MiB would make every open FILE that large and every fseek read as much."""

STATFS_BLOCK_BYTES = 4096

Present = Callable[[Stat], Stat]


def virtual_directory(inode: int, time_ns: int, uid: int, gid: int) -> Stat:
    """A directory that exists only in the mount."""
    return Stat(
        ino=inode,
        mode=modes.S_IFDIR | 0o555,
        nlink=2,
        uid=uid,
        gid=gid,
        rdev=0,
        size=0,
        blocks=0,
        atime_ns=time_ns,
        mtime_ns=time_ns,
        ctime_ns=time_ns,
        generation=0,
    )


def presenter(index: int, generation: int, options: MountOptions) -> Present:
    """The function from a tree's Stat to the one shown, for one branch.

    `generation` grows when a root's content is replaced as a whole, so that the kernel does not
    take an inode of the new tree for the one that had the same number before.
    """
    uid, gid = options.uid, options.gid
    shift = index << INO_BITS
    keep = ~(options.umask or 0)
    if not shift and not generation and uid is None and gid is None and not options.umask:
        return _unchanged

    def present(stat: Stat) -> Stat:
        return stat._replace(
            ino=shift | stat.ino,
            mode=stat.mode & keep,
            uid=stat.uid if uid is None else uid,
            gid=stat.gid if gid is None else gid,
            generation=stat.generation + generation,
        )

    return present


def _unchanged(stat: Stat) -> Stat:
    return stat
