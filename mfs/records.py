"""The rows of a root's table. Format: `docs/formats/head.md`.

    i + ino u64                                   -> inode record
    e + directory u64 + name                      -> entry: child u64, type u8
    l + ino u64 + directory u64 + name            -> a further name of a file with several: empty

Numbers in keys are big-endian, so that the rows of one directory lie together in order of name.
An inode record is a dag-cbor list: version, numbers of fixed widths, name, target, CID, attributes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ipld import dagcbor
from ipld.errors import IpldError
from ipld.filedag import FileLink
from mfs.errors import NewerFormat, SidecarDamaged
from mfs.node import InodeRecord

FORMAT_VERSION = 1

INODES, ENTRIES, LINKS = b"i", b"e", b"l"

_U64 = struct.Struct(">Q")
_ENTRY = struct.Struct(">QB")
# mode, uid, gid, nlink; rdev, size; atime, mtime, ctime; parent; flags; tsize and size of the DAG.
# One byte string of them takes a fifth of the time of thirteen dag-cbor integers.
_NUMBERS = struct.Struct(">4IQQ3qQBQq")
# What stands before the numbers: a list of six, the version, the head of a byte string. And behind
# everything else: an empty list.
_HEAD = bytes((0x86, FORMAT_VERSION, 0x58, _NUMBERS.size))
_NONE = b"\x80"
_SHORT_HEADS = tuple(bytes((0x40 + size,)) for size in range(24))


class EntryRecord(NamedTuple):
    """What a name stands for. `kind` is the file type (S_IFMT >> 12), 0 while it is unknown."""

    ino: int
    kind: int


def number(ino: int) -> bytes:
    """An inode number as it stands in keys."""
    return _U64.pack(ino)


def parse_number(raw: bytes) -> int:
    """Inverse of `number`."""
    value: int = _U64.unpack(raw)[0]
    return value


def inode_key(ino: int) -> bytes:
    """The key of an inode's record."""
    return INODES + _U64.pack(ino)


def encode_entry(ino: int, kind: int) -> bytes:
    """The value of an entry row."""
    return _ENTRY.pack(ino, kind)


def decode_entry(value: bytes) -> EntryRecord:
    """Inverse of `encode_entry`. Raises SidecarDamaged."""
    if len(value) != _ENTRY.size:
        raise SidecarDamaged(f"entry row of {len(value)} bytes (run `ipfs-mfs check`)")
    return EntryRecord._make(_ENTRY.unpack(value))


def encode_inode(record: InodeRecord) -> bytes:
    """The value of an inode row."""
    link = record.link
    numbers = _NUMBERS.pack(*record[:10], record.flags, *((0, 0) if link is None else link[1:]))
    cid = b"" if link is None else link.cid
    if record.xattrs:
        xattrs = [field for pair in record.xattrs for field in pair]
        return dagcbor.encode([FORMAT_VERSION, numbers, record.name, record.target, cid, xattrs])
    # The same bytes as above, written out: a flush encodes thousands of these.
    return b"".join(
        (_HEAD, numbers, *_item(record.name), *_item(record.target), *_item(cid), _NONE)
    )


def _item(data: bytes) -> tuple[bytes, bytes]:
    """Head and content of a dag-cbor byte string."""
    size = len(data)
    if size < 24:
        return _SHORT_HEADS[size], data
    return (bytes((0x58, size)) if size < 256 else struct.pack(">BH", 0x59, size)), data


def decode_inode(value: bytes) -> InodeRecord:
    """Inverse of `encode_inode`. Raises SidecarDamaged, NewerFormat."""
    try:
        fields = dagcbor.decode(value)
    except IpldError as error:
        raise SidecarDamaged(f"inode row: {error}") from error
    if not isinstance(fields, list) or not fields or type(fields[0]) is not int:
        raise SidecarDamaged("inode row: not an inode record")
    if fields[0] > FORMAT_VERSION:
        raise NewerFormat(f"inode row of version {fields[0]} (update this program)")
    if [*map(type, fields)] != [int, bytes, bytes, bytes, bytes, list]:
        raise SidecarDamaged("inode row: not the fields of an inode record")
    _, packed, name, target, cid, xattrs = fields
    if len(packed) != _NUMBERS.size or len(xattrs) % 2 or {*map(type, xattrs)} - {bytes}:
        raise SidecarDamaged("inode row: not the fields of an inode record")
    *numbers, flags, tsize, size = _NUMBERS.unpack(packed)
    pairs = tuple(zip(xattrs[::2], xattrs[1::2], strict=True))
    link = FileLink(cid, tsize, size) if cid else None
    return InodeRecord._make((*numbers, name, target, pairs, link, flags))
