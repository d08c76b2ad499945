"""What POSIX says about names, modes and times, as pure functions.

Who may do something is not decided here: the kernel checks permissions (`default_permissions`).
Sources: POSIX.1-2017; for what it leaves open, Linux: inode(7), open(2), xattr(7).
"""

from __future__ import annotations

import stat

from mfs.errors import (
    AttributesFull,
    AttributeTooLarge,
    AttributeUnsupported,
    InvalidArgument,
    InvalidName,
    NameTooLong,
)

NAME_SIZE_MAX_BYTES = 255
TARGET_SIZE_MAX_BYTES = 4095
LINK_COUNT_MAX = 65_000
XATTR_NAME_SIZE_MAX_BYTES = 255
XATTR_SIZE_MAX_BYTES = 64 << 10
"""Of one value, and of all names and values of one inode together."""
TIME_MIN_NS, TIME_MAX_NS = -(1 << 63), (1 << 63) - 1
ID_MAX = (1 << 32) - 2
"""The largest uid or gid; one more means "leave it" to chown(2)."""

_RELATIME_NS = 24 * 3600 * 10**9
_XATTR_NAMESPACES = (b"user.", b"trusted.", b"security.")
_KINDS = frozenset(
    (
        stat.S_IFREG,
        stat.S_IFDIR,
        stat.S_IFLNK,
        stat.S_IFIFO,
        stat.S_IFSOCK,
        stat.S_IFCHR,
        stat.S_IFBLK,
    )
)


def check_name(name: bytes) -> bytes:
    """An entry name as it is. Raises InvalidName, NameTooLong."""
    if len(name) > NAME_SIZE_MAX_BYTES:
        raise NameTooLong(f"name of {len(name)} bytes (limit {NAME_SIZE_MAX_BYTES})")
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise InvalidName(f"{name!r} is not a name for an entry")
    return name


def is_listable(name: bytes) -> bool:
    """Whether a name that a foreign DAG holds can be shown in a file system."""
    return (
        len(name) <= NAME_SIZE_MAX_BYTES
        and name not in (b"", b".", b"..")
        and b"/" not in name
        and b"\0" not in name
    )


def check_target(target: bytes) -> bytes:
    """A symlink's target as it is. Raises InvalidArgument, NameTooLong."""
    if not target or b"\0" in target:
        raise InvalidArgument("a symlink's target is not empty and has no NUL")
    if len(target) > TARGET_SIZE_MAX_BYTES:
        raise NameTooLong(f"target of {len(target)} bytes (limit {TARGET_SIZE_MAX_BYTES})")
    return target


def node_mode(mode: int) -> int:
    """The mode of a new node for mknod(2): type 0 is a plain file. Raises InvalidArgument."""
    kind = stat.S_IFMT(mode) or stat.S_IFREG
    if kind not in _KINDS or kind in (stat.S_IFDIR, stat.S_IFLNK):
        raise InvalidArgument(f"mode {mode:o} is of no kind that mknod makes")
    return kind | stat.S_IMODE(mode)


def is_special(mode: int) -> bool:
    """A fifo, socket or device: a node that UnixFS has no form for."""
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))


def inherited(parent_mode: int, parent_gid: int, mode: int, gid: int) -> tuple[int, int]:
    """Mode and group of a new node: a setgid directory hands its group down, and to directories
    the setgid bit too."""
    if not parent_mode & stat.S_ISGID:
        return mode, gid
    return (mode | stat.S_ISGID if stat.S_ISDIR(mode) else mode), parent_gid


def without_privileges(mode: int) -> int:
    """The mode of a plain file after someone wrote to it or changed its owner.

    The setgid bit of a file that its group cannot execute means mandatory locking and stays.
    """
    if not stat.S_ISREG(mode):
        return mode
    mode &= ~stat.S_ISUID
    return mode & ~stat.S_ISGID if mode & stat.S_IXGRP else mode


def is_atime_due(atime_ns: int, mtime_ns: int, ctime_ns: int, now_ns: int) -> bool:
    """relatime: a read is noted when it is the first since a change, or in a day."""
    return atime_ns <= mtime_ns or atime_ns <= ctime_ns or now_ns - atime_ns >= _RELATIME_NS


def check_time(time_ns: int) -> int:
    """A time that a record can hold. Raises InvalidArgument."""
    if not TIME_MIN_NS <= time_ns <= TIME_MAX_NS:
        raise InvalidArgument(f"time of {time_ns} ns does not fit into 64 bits")
    return time_ns


def check_id(number: int) -> int:
    """A uid or gid. Raises InvalidArgument."""
    if not 0 <= number <= ID_MAX:
        raise InvalidArgument(f"{number} is no user or group id")
    return number


def check_xattr_name(name: bytes) -> bytes:
    """An attribute name in a namespace that is stored. Raises AttributeUnsupported,
    AttributeTooLarge.

    POSIX ACLs are refused because nobody would obey them. `cp -a` sets a file's permissions as an
    ACL where it can, and with chmod(2) only where that fails: stored unseen, they would be lost.
    """
    if len(name) > XATTR_NAME_SIZE_MAX_BYTES:
        raise AttributeTooLarge(f"attribute name of {len(name)} bytes (limit 255)")
    # A bare "user." is refused by the kernel with the same answer.
    if not name.startswith(_XATTR_NAMESPACES) or name in _XATTR_NAMESPACES or b"\0" in name:
        raise AttributeUnsupported(f"{name!r}: use names that start with user.")
    return name


def check_xattrs_size(xattrs: dict[bytes, bytes]) -> None:
    """All attributes of one inode fit. Raises AttributeTooLarge, AttributesFull."""
    total = 0
    for name, value in xattrs.items():
        if len(value) > XATTR_SIZE_MAX_BYTES:
            raise AttributeTooLarge(f"attribute value of {len(value)} bytes (limit 64 KiB)")
        total += len(name) + len(value)
    if total > XATTR_SIZE_MAX_BYTES:
        raise AttributesFull
