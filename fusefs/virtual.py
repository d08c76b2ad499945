"""Directories that exist only in a mount: the list of roots, and each root's `.snapshots`.

Their inode numbers are the mount's own, not a tree's. They answer what a tree answers about a
directory; whatever would change them is EPERM, because roots and snapshots are made by commands.
"""

from __future__ import annotations

import os
import stat as modes
import time
from collections.abc import Callable
from typing import NoReturn

from fusefs.attrs import virtual_directory
from fusefs.errors import NoSuchAttribute, NoSuchName, OperationNotPermitted
from mfs.node import Stat, StatFs

Listing = list[tuple[bytes, int, int]]


class VirtualTree:
    """All virtual directories of one mount. `children` lists one, by its inode."""

    read_only = True
    would_wait = False

    def __init__(self, children: Callable[[int], Listing], room: Callable[[], StatFs]) -> None:
        self._children = children
        self._room = room
        self._made_ns = time.time_ns()
        self._uid, self._gid = os.geteuid(), os.getegid()

    def parent_of(self, ino: int) -> int:
        """Not used: what is above is the mount's business."""
        return ino

    def getattr(self, ino: int) -> Stat:
        return virtual_directory(ino, self._made_ns, self._uid, self._gid)

    def readdir(self, ino: int) -> Listing:
        return self._children(ino)

    def open(self, ino: int) -> None:
        """Nothing to count: a virtual directory lives as long as the mount."""

    def release(self, ino: int) -> None:
        """See `open`."""

    def close(self) -> None:
        """Nothing to let go of."""

    def fsync(self, ino: int) -> None:
        """Nothing here is ever dirty."""

    def statfs(self) -> StatFs:
        """Of the whole store: no root is meant."""
        return self._room()

    def listxattr(self, ino: int) -> list[bytes]:  # noqa: ARG002  # a tree's signature
        return []

    def getxattr(self, ino: int, name: bytes) -> bytes:  # noqa: ARG002  # a tree's signature
        raise NoSuchAttribute(name.decode(errors="replace"))

    def readlink(self, ino: int) -> bytes:
        raise NoSuchName(f"inode {ino} is no symbolic link")

    def _refuse(self, *_args: object, **_changes: object) -> NoReturn:
        raise OperationNotPermitted(
            "roots and snapshots are made and dropped by `ipfs-mfs root`, not through the mount"
        )

    def cid_of(self, ino: int) -> bytes:
        raise NoSuchAttribute(f"directory {ino} has no DAG: it exists in the mount only")

    def dagsize_of(self, ino: int) -> int:
        raise NoSuchAttribute(f"directory {ino} has no DAG: it exists in the mount only")

    # Names are looked up by `Views.enter`; only on the way to a change is this asked for one.
    lookup = _refuse
    setattr = create = mknod = mkdir = symlink = link = _refuse
    unlink = rmdir = rename = setxattr = removexattr = read = write = _refuse


def directory_entry(name: str, inode: int) -> tuple[bytes, int, int]:
    """One line of a listing."""
    return name.encode(), inode, modes.S_IFDIR
