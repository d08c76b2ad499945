"""One inode: what is stored about it, what it looks like from outside, and how it lives in memory.

An `InodeRecord` is a value: it goes into the table and into the journal. An `Inode` is the one
mutable object that stands for the inode number while anybody needs it; the tree's lock guards it.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, NamedTuple

from ipld.filedag import FileLink

if TYPE_CHECKING:
    from mfs.content import Content

ROOT_INO = 1
"""The top directory of every tree."""

LAZY = 1
"""A directory some of whose entries are in its DAG only, and not yet in the table."""
UNRESOLVED = 2
"""Named by a DAG and not looked at yet: kind, size and times are unknown."""
CANONICAL = 4
"""The DAG at `link` is what the root's profile makes of the content, so it can be edited."""
UNCOUNTED = 8
"""A directory that came from a DAG: how many directories are in it was never counted."""

_NLINK_UNKNOWN = 1


class Stat(NamedTuple):
    """What `getattr` tells. Times are nanoseconds since 1970; `blocks` are of 512 bytes."""

    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    generation: int


class StatFs(NamedTuple):
    """Room in bytes and inodes, as one root sees it: its quota, if it has one, is its size."""

    total_bytes: int
    free_bytes: int
    inodes: int
    inodes_free: int
    name_size_max_bytes: int


class Top(NamedTuple):
    """Owner and permissions of a tree's top directory."""

    uid: int
    gid: int
    mode: int


class InodeRecord(NamedTuple):
    """Everything that is stored about an inode. Codec and field meanings: `mfs.records`."""

    mode: int
    uid: int
    gid: int
    nlink: int
    rdev: int
    size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    parent: int
    name: bytes
    target: bytes
    xattrs: tuple[tuple[bytes, bytes], ...]
    link: FileLink | None
    flags: int


def new_record(
    *,
    mode: int,
    uid: int,
    gid: int,
    now_ns: int,
    parent: int,
    name: bytes,
    nlink: int = 1,
    rdev: int = 0,
    target: bytes = b"",
    link: FileLink | None = None,
    flags: int = 0,
) -> InodeRecord:
    """An inode that was just made: empty, and with one time for all."""
    size = len(target)
    times = (now_ns, now_ns, now_ns)
    return InodeRecord(
        mode, uid, gid, nlink, rdev, size, *times, parent, name, target, (), link, flags
    )


class Inode:
    """An inode in memory. Only `mfs.state` makes them, one per number at any time."""

    __slots__ = (
        "atime_ns",
        "content",
        "ctime_ns",
        "flags",
        "gid",
        "has_ref",
        "ino",
        "link",
        "mode",
        "mtime_ns",
        "name",
        "nlink",
        "opens",
        "parent",
        "rdev",
        "size",
        "target",
        "uid",
        "used",
        "xattrs",
    )

    def __init__(self, ino: int, record: InodeRecord) -> None:
        self.ino = ino
        self.mode = record.mode
        self.uid = record.uid
        self.gid = record.gid
        self.nlink = record.nlink
        """Names of it; of a directory, 2 and the number of directories in it."""
        self.rdev = record.rdev
        self.size = record.size
        """Bytes of a file or of a symlink's target; of a directory, how many entries it has."""
        self.atime_ns = record.atime_ns
        self.mtime_ns = record.mtime_ns
        self.ctime_ns = record.ctime_ns
        self.parent = record.parent
        self.name = record.name
        """(parent, name) is one of its names; further names of a file are rows of the table."""
        self.target = record.target
        self.xattrs = record.xattrs
        self.link: FileLink | None = record.link
        """Its DAG as of the last flush; None when it has none yet, or never has (special files)."""
        self.flags = record.flags
        self.opens = 0
        self.used = True
        self.content: Content | None = None
        self.has_ref = False
        """Whether a ref of its own keeps its content: open, deleted, and in no head."""

    def to_record(self) -> InodeRecord:
        """A snapshot for the table or the journal."""
        return InodeRecord(
            self.mode,
            self.uid,
            self.gid,
            self.nlink,
            self.rdev,
            self.size,
            self.atime_ns,
            self.mtime_ns,
            self.ctime_ns,
            self.parent,
            self.name,
            self.target,
            self.xattrs,
            self.link,
            self.flags,
        )

    def to_stat(self, generation: int) -> Stat:
        """What the world sees."""
        is_directory = self.is_directory
        nlink = self.nlink
        # A count that is not known is said to be 1, which programs take as "do not rely on it".
        if self.flags & UNCOUNTED and nlink:
            nlink = _NLINK_UNKNOWN
        return Stat(
            self.ino,
            self.mode,
            nlink,
            self.uid,
            self.gid,
            self.rdev,
            self.size,
            0 if is_directory else (self.size + 511) >> 9,
            self.atime_ns,
            self.mtime_ns,
            self.ctime_ns,
            generation,
        )

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_changed_file(self) -> bool:
        """Whether the file's bytes are not what its DAG says."""
        if not stat.S_ISREG(self.mode):
            return False
        if self.link is None or self.link.size != self.size:
            return True
        return self.content is not None and self.content.is_changed
