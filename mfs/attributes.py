"""Attributes of one inode: mode, owner, times, extended attributes.

The caller holds the tree's lock and has resolved the inode. Size is content: see `mfs.tree`.
"""

from __future__ import annotations

import stat

from mfs import posix
from mfs.errors import AttributeExists, NoSuchAttribute
from mfs.node import Inode

XATTR_CREATE = 1
XATTR_REPLACE = 2


def set_attributes(
    inode: Inode,
    now_ns: int,
    *,
    mode: int | None,
    uid: int | None,
    gid: int | None,
    atime_ns: int | None,
    mtime_ns: int | None,
    ctime_ns: int | None,
) -> None:
    """Change what is not None; see `Tree.setattr`. Raises InvalidArgument before any change."""
    for number in (uid, gid):
        if number is not None:
            posix.check_id(number)
    for time_ns in (atime_ns, mtime_ns, ctime_ns):
        if time_ns is not None:
            posix.check_time(time_ns)
    if mode is not None:
        inode.mode = stat.S_IFMT(inode.mode) | stat.S_IMODE(mode)
    elif uid is not None or gid is not None:
        inode.mode = posix.without_privileges(inode.mode)
    inode.uid = inode.uid if uid is None else uid
    inode.gid = inode.gid if gid is None else gid
    inode.atime_ns = inode.atime_ns if atime_ns is None else atime_ns
    inode.mtime_ns = inode.mtime_ns if mtime_ns is None else mtime_ns
    inode.ctime_ns = now_ns if ctime_ns is None else ctime_ns


def get_xattr(inode: Inode, name: bytes) -> bytes:
    """The value. Raises NoSuchAttribute, AttributeUnsupported."""
    posix.check_xattr_name(name)
    for known, value in inode.xattrs:
        if known == name:
            return value
    raise NoSuchAttribute(f"no attribute {name!r}")


def set_xattr(inode: Inode, name: bytes, value: bytes, flags: int, now_ns: int) -> None:
    """Set a value. `flags`: 0, XATTR_CREATE (it must not exist) or XATTR_REPLACE (it must).

    Raises AttributeExists, NoSuchAttribute, AttributeTooLarge, AttributesFull.
    """
    posix.check_xattr_name(name)
    xattrs = dict(inode.xattrs)
    if flags & XATTR_CREATE and name in xattrs:
        raise AttributeExists(f"attribute {name!r} exists")
    if flags & XATTR_REPLACE and name not in xattrs:
        raise NoSuchAttribute(f"no attribute {name!r}")
    xattrs[name] = bytes(value)
    posix.check_xattrs_size(xattrs)
    inode.xattrs = tuple(xattrs.items())
    inode.ctime_ns = now_ns


def remove_xattr(inode: Inode, name: bytes, now_ns: int) -> None:
    """Remove an attribute. Raises NoSuchAttribute."""
    posix.check_xattr_name(name)
    xattrs = dict(inode.xattrs)
    if xattrs.pop(name, None) is None:
        raise NoSuchAttribute(f"no attribute {name!r}")
    inode.xattrs = tuple(xattrs.items())
    inode.ctime_ns = now_ns
