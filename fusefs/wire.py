"""The kernel's FUSE protocol as tables: bytes to requests, answers to bytes. No I/O.

Source: include/uapi/linux/fuse.h of Linux, protocol 7.31 to 7.45; numbers are in the machine's own
byte order. The tables are compared with `docs/formats/fuse.md` and with the header that a compiler
sees, where there is one, by tests.

Invariants
- Whatever bytes a request has, parsing it ends with a request or with MalformedRequest.
- A length that a message gives of itself is believed only as far as the message reaches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import Struct
from typing import Final, NamedTuple

from fusefs.errors import MalformedRequest
from mfs.node import Stat, StatFs

MAJOR: Final = 7
MINOR: Final = 38
"""What we speak; a newer kernel then speaks that, too."""
MINOR_MIN: Final = 31
"""Linux 5.4. Older ones lack what is relied on: cached symlinks and whole pages of requests."""

MAX_WRITE_BYTES: Final = 1 << 20
REQUEST_SIZE_MAX_BYTES: Final = MAX_WRITE_BYTES + 4096
"""A write with its headers, or any other request: names and attributes are far smaller."""
PAGE_SIZE_BYTES: Final = 4096

# Requests (enum fuse_opcode).
LOOKUP: Final = 1
FORGET: Final = 2
GETATTR: Final = 3
SETATTR: Final = 4
READLINK: Final = 5
SYMLINK: Final = 6
MKNOD: Final = 8
MKDIR: Final = 9
UNLINK: Final = 10
RMDIR: Final = 11
RENAME: Final = 12
LINK: Final = 13
OPEN: Final = 14
READ: Final = 15
WRITE: Final = 16
STATFS: Final = 17
RELEASE: Final = 18
FSYNC: Final = 20
SETXATTR: Final = 21
GETXATTR: Final = 22
LISTXATTR: Final = 23
REMOVEXATTR: Final = 24
FLUSH: Final = 25
INIT: Final = 26
OPENDIR: Final = 27
READDIR: Final = 28
RELEASEDIR: Final = 29
FSYNCDIR: Final = 30
CREATE: Final = 35
INTERRUPT: Final = 36
DESTROY: Final = 38
BATCH_FORGET: Final = 42
READDIRPLUS: Final = 44
RENAME2: Final = 45
SYNCFS: Final = 50

# Capabilities (FUSE_* of fuse_init_out.flags).
ASYNC_READ: Final = 1 << 0
ATOMIC_O_TRUNC: Final = 1 << 3
BIG_WRITES: Final = 1 << 5
DO_READDIRPLUS: Final = 1 << 13
READDIRPLUS_AUTO: Final = 1 << 14
ASYNC_DIO: Final = 1 << 15
PARALLEL_DIROPS: Final = 1 << 18
MAX_PAGES: Final = 1 << 22
CACHE_SYMLINKS: Final = 1 << 23
HANDLE_KILLPRIV_V2: Final = 1 << 28

# What a request asks besides (FATTR_*, FUSE_WRITE_*, FUSE_OPEN_*, FOPEN_*).
FATTR_MODE: Final = 1 << 0
FATTR_UID: Final = 1 << 1
FATTR_GID: Final = 1 << 2
FATTR_SIZE: Final = 1 << 3
FATTR_ATIME: Final = 1 << 4
FATTR_MTIME: Final = 1 << 5
FATTR_CTIME: Final = 1 << 10
FATTR_KILL_PRIVILEGES: Final = 1 << 11
WRITE_KILL_PRIVILEGES: Final = 1 << 2
OPEN_KILL_PRIVILEGES: Final = 1 << 0
FOPEN_KEEP_CACHE: Final = 1 << 1

# Notifications (enum fuse_notify_code).
NOTIFY_INVAL_INODE: Final = 2
NOTIFY_INVAL_ENTRY: Final = 3

IN_HEADER: Final = Struct("=IIQQIIIHH")
OUT_HEADER: Final = Struct("=IiQ")
ATTR: Final = Struct("=QQQQQQIIIIIIIIII")
ENTRY_OUT: Final = Struct("=QQQQII")
"""Of fuse_entry_out what precedes its fuse_attr."""
ATTR_OUT: Final = Struct("=QII")
"""Of fuse_attr_out what precedes its fuse_attr."""
INIT_IN: Final = Struct("=IIII")
"""What all protocols have; from 7.36 on, flags2 and reserved words may follow."""
INIT_OUT: Final = Struct("=IIIIHHIIHHI28x")
FORGET_IN: Final = Struct("=Q")
FORGET_ONE: Final = Struct("=QQ")
BATCH_FORGET_IN: Final = Struct("=II")
SETATTR_IN: Final = Struct("=I4xQQQQQQIIII4xII4x")
MKNOD_IN: Final = Struct("=IIII")
MKDIR_IN: Final = Struct("=II")
RENAME_IN: Final = Struct("=Q")
RENAME2_IN: Final = Struct("=QI4x")
LINK_IN: Final = Struct("=Q")
OPEN_IN: Final = Struct("=II")
CREATE_IN: Final = Struct("=IIII")
OPEN_OUT: Final = Struct("=QII")
RELEASE_IN: Final = Struct("=QIIQ")
FLUSH_IN: Final = Struct("=QIIQ")
READ_IN: Final = Struct("=QQIIQI4x")
WRITE_IN: Final = Struct("=QQIIQI4x")
WRITE_OUT: Final = Struct("=I4x")
STATFS_OUT: Final = Struct("=QQQQQIII28x")
FSYNC_IN: Final = Struct("=QI4x")
SETXATTR_IN: Final = Struct("=II")
GETXATTR_IN: Final = Struct("=I4x")
GETXATTR_OUT: Final = Struct("=I4x")
INTERRUPT_IN: Final = Struct("=Q")
DIRENT: Final = Struct("=QQII")
NOTIFY_INVAL_INODE_OUT: Final = Struct("=Qqq")
NOTIFY_INVAL_ENTRY_OUT: Final = Struct("=QII")

STRUCTURES: Final[dict[str, Struct]] = {
    "fuse_in_header": IN_HEADER,
    "fuse_out_header": OUT_HEADER,
    "fuse_attr": ATTR,
    "fuse_init_out": INIT_OUT,
    "fuse_forget_in": FORGET_IN,
    "fuse_forget_one": FORGET_ONE,
    "fuse_batch_forget_in": BATCH_FORGET_IN,
    "fuse_setattr_in": SETATTR_IN,
    "fuse_mknod_in": MKNOD_IN,
    "fuse_mkdir_in": MKDIR_IN,
    "fuse_rename_in": RENAME_IN,
    "fuse_rename2_in": RENAME2_IN,
    "fuse_link_in": LINK_IN,
    "fuse_open_in": OPEN_IN,
    "fuse_create_in": CREATE_IN,
    "fuse_open_out": OPEN_OUT,
    "fuse_release_in": RELEASE_IN,
    "fuse_flush_in": FLUSH_IN,
    "fuse_read_in": READ_IN,
    "fuse_write_in": WRITE_IN,
    "fuse_write_out": WRITE_OUT,
    "fuse_statfs_out": STATFS_OUT,
    "fuse_fsync_in": FSYNC_IN,
    "fuse_getxattr_in": GETXATTR_IN,
    "fuse_getxattr_out": GETXATTR_OUT,
    "fuse_interrupt_in": INTERRUPT_IN,
    "fuse_dirent": DIRENT,
    "fuse_notify_inval_inode_out": NOTIFY_INVAL_INODE_OUT,
    "fuse_notify_inval_entry_out": NOTIFY_INVAL_ENTRY_OUT,
}
"""By their names in the kernel's header: those that are there as they are here, whole."""

_NANOSECONDS = 1_000_000_000
_U32 = (1 << 32) - 1
_U64 = (1 << 64) - 1


class Request(NamedTuple):
    """One message of the kernel. `body` is valid until the buffer is read into again; `pid` is 0
    for a process that we cannot see.
    """

    opcode: int
    unique: int
    inode: int
    uid: int
    gid: int
    pid: int
    body: memoryview


def parse(message: memoryview) -> Request:
    """Raises MalformedRequest."""
    if len(message) < IN_HEADER.size:
        raise MalformedRequest(f"a message of {len(message)} bytes")
    length, opcode, unique, inode, uid, gid, pid, _, _ = IN_HEADER.unpack_from(message)
    if length != len(message):
        raise MalformedRequest(f"a message of {len(message)} bytes that says {length}")
    return Request(opcode, unique, inode, uid, gid, pid, message[IN_HEADER.size :])


def take(layout: Struct, body: memoryview) -> tuple[int, ...]:
    """The numbers at the beginning of a body. Raises MalformedRequest."""
    if len(body) < layout.size:
        raise MalformedRequest(f"{len(body)} bytes where {layout.size} have to be")
    return layout.unpack_from(body)


def names(body: memoryview, skip: int, count: int) -> list[bytes]:
    """So many names, each ended by a zero byte, and no more. Raises MalformedRequest."""
    found = bytes(body[skip:]).split(b"\0")
    if len(found) != count + 1 or found[-1]:
        raise MalformedRequest(f"not {count} names")
    return found[:-1]


def name(body: memoryview, skip: int = 0) -> bytes:
    return names(body, skip, 1)[0]


def forgotten(request: Request) -> list[tuple[int, int]]:
    """(inode, lookups) of FORGET and BATCH_FORGET. Raises MalformedRequest."""
    body = request.body
    if request.opcode == FORGET:
        return [(request.inode, take(FORGET_IN, body)[0])]
    (count, _), rest = take(BATCH_FORGET_IN, body), body[BATCH_FORGET_IN.size :]
    if len(rest) != count * FORGET_ONE.size:
        raise MalformedRequest(f"{len(rest)} bytes for {count} inodes to forget")
    return [(inode, lookups) for inode, lookups in FORGET_ONE.iter_unpack(rest)]


class Changes(NamedTuple):
    """What SETATTR asks for; `clears_privileges` of a size that changes."""

    values: dict[str, int]
    clears_privileges: bool


def changes(body: memoryview) -> Changes:
    """Raises MalformedRequest."""
    (
        valid, _, size, _, atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns, mode, uid, gid,
    ) = take(SETATTR_IN, body)  # fmt: skip
    if max(atime_ns, mtime_ns, ctime_ns) >= _NANOSECONDS:
        raise MalformedRequest("a second has no more nanoseconds than that")
    known = (
        (FATTR_MODE, "mode", mode & 0o7777),
        (FATTR_UID, "uid", uid),
        (FATTR_GID, "gid", gid),
        (FATTR_SIZE, "size", size),
        (FATTR_ATIME, "atime_ns", _signed(atime) * _NANOSECONDS + atime_ns),
        (FATTR_MTIME, "mtime_ns", _signed(mtime) * _NANOSECONDS + mtime_ns),
        (FATTR_CTIME, "ctime_ns", _signed(ctime) * _NANOSECONDS + ctime_ns),
    )
    values = {name: value for bit, name, value in known if valid & bit}
    if _U32 in (values.get("uid"), values.get("gid")):
        raise MalformedRequest("the owner that means no owner")
    return Changes(values, bool(valid & FATTR_KILL_PRIVILEGES))


def _signed(seconds: int) -> int:
    """Times before 1970 are negative, though the header has them unsigned."""
    return seconds - (1 << 64) if seconds >> 63 else seconds


class Offer(NamedTuple):
    """What the kernel says of itself in INIT."""

    major: int
    minor: int
    read_ahead_bytes: int
    flags: int


def offer(body: memoryview) -> Offer:
    """Raises MalformedRequest."""
    major, minor, read_ahead_bytes, flags = take(INIT_IN, body)
    return Offer(major, minor, read_ahead_bytes, flags)


def accept(offered: Offer, wanted: int, read_ahead_bytes: int) -> bytes:
    """The answer to INIT: what both know, and our limits. To a newer major protocol only that we do
    not speak it; the kernel then begins again with ours.
    """
    minor = min(offered.minor, MINOR)
    background, congestion = 64, 48
    return INIT_OUT.pack(
        MAJOR, minor, min(read_ahead_bytes, offered.read_ahead_bytes), offered.flags & wanted,
        background, congestion, MAX_WRITE_BYTES, 1, MAX_WRITE_BYTES // PAGE_SIZE_BYTES, 0, 0,
    )  # fmt: skip


def answer(unique: int, length: int) -> bytes:
    """The header before an answer of that length."""
    return OUT_HEADER.pack(OUT_HEADER.size + length, 0, unique)


def refusal(unique: int, errno: int) -> bytes:
    return OUT_HEADER.pack(OUT_HEADER.size, -errno, unique)


def attr(stat: Stat, block_size_bytes: int) -> bytes:
    return ATTR.pack(
        stat.ino, stat.size, stat.blocks,
        stat.atime_ns // _NANOSECONDS & _U64, stat.mtime_ns // _NANOSECONDS & _U64,
        stat.ctime_ns // _NANOSECONDS & _U64,
        stat.atime_ns % _NANOSECONDS, stat.mtime_ns % _NANOSECONDS, stat.ctime_ns % _NANOSECONDS,
        stat.mode, stat.nlink, stat.uid, stat.gid, stat.rdev & _U32, block_size_bytes, 0,
    )  # fmt: skip


def entry(stat: Stat, valid_s: int, block_size_bytes: int) -> bytes:
    """A name's inode, which the kernel may believe for so long."""
    head = ENTRY_OUT.pack(stat.ino, stat.generation, valid_s, valid_s, 0, 0)
    return head + attr(stat, block_size_bytes)


def no_entry(valid_s: int) -> bytes:
    """There is no such name, and the kernel may believe that for so long."""
    return ENTRY_OUT.pack(0, 0, valid_s, valid_s, 0, 0) + bytes(ATTR.size)


def attributes(stat: Stat, valid_s: int, block_size_bytes: int) -> bytes:
    return ATTR_OUT.pack(valid_s, 0, 0) + attr(stat, block_size_bytes)


def statfs(facts: StatFs, block_size_bytes: int) -> bytes:
    free = facts.free_bytes // block_size_bytes
    return STATFS_OUT.pack(
        facts.total_bytes // block_size_bytes, free, free, facts.inodes, facts.inodes_free,
        block_size_bytes, facts.name_size_max_bytes, block_size_bytes,
    )  # fmt: skip


Listed = tuple[bytes, Stat, int]
"""Name, what is shown of it, and the position to go on from."""


def listing(
    entries: Iterable[Listed], size_max_bytes: int, head: Callable[[Stat], bytes] | None
) -> tuple[bytes, int]:
    """As many entries as fit, each with its `head` (READDIRPLUS) or without; and how many."""
    parts: list[bytes] = []
    size_bytes = count = 0
    for name, stat, position in entries:
        part = DIRENT.pack(stat.ino, position, len(name), stat.mode >> 12) + name
        part = (b"" if head is None else head(stat)) + part
        part += bytes(-len(part) % 8)
        size_bytes += len(part)
        if size_bytes > size_max_bytes:
            break
        parts.append(part)
        count += 1
    return b"".join(parts), count


def inval_inode(inode: int, *, attributes_only: bool) -> bytes:
    """A message of ours: forget attributes, and content unless told otherwise."""
    body = NOTIFY_INVAL_INODE_OUT.pack(inode, -1 if attributes_only else 0, 0)
    return OUT_HEADER.pack(OUT_HEADER.size + len(body), NOTIFY_INVAL_INODE, 0) + body


def inval_entry(parent: int, name: bytes) -> bytes:
    """A message of ours: forget a name."""
    body = NOTIFY_INVAL_ENTRY_OUT.pack(parent, len(name), 0) + name + b"\0"
    return OUT_HEADER.pack(OUT_HEADER.size + len(body), NOTIFY_INVAL_ENTRY, 0) + body
