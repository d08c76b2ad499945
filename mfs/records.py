"""The rows of a root's table. Format: `docs/formats/head.md`.

    i + ino u64                                   -> inode record
    e + directory u64 + name                      -> entry: child u64, type u8
    l + ino u64 + directory u64 + name            -> a further name of a file with several: empty

Numbers in keys are big-endian, so that the rows of one directory lie together in order of name.
An inode record is a dag-cbor list, so it is as long as its values need and can be read by anyone.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from ipld import dagcbor
from ipld.errors import IpldError
from ipld.filedag import FileLink
from mfs.errors import NewerFormat, SidecarDamaged
from mfs.node import InodeRecord

FORMAT_VERSION = 1

INODES, ENTRIES, LINKS = b"i", b"e", b"l"

_U64 = struct.Struct(">Q")
_ENTRY = struct.Struct(">QB")
_FIELD_COUNT = 17


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
    return dagcbor.encode(
        [
            FORMAT_VERSION,
            record.mode,
            record.uid,
            record.gid,
            record.nlink,
            record.rdev,
            record.size,
            record.atime_ns,
            record.mtime_ns,
            record.ctime_ns,
            record.parent,
            record.name,
            record.target,
            [list(pair) for pair in record.xattrs],
            b"" if link is None else link.cid,
            [] if link is None else [link.tsize, link.size],
            record.flags,
        ]
    )


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
    if len(fields) != _FIELD_COUNT or not _has_types(fields):
        raise SidecarDamaged("inode row: not the fields of an inode record")
    xattrs, cid, sizes, flags = fields[13:]
    pairs = tuple((name, data) for name, data in xattrs)
    return InodeRecord._make((*fields[1:13], pairs, FileLink(cid, *sizes) if cid else None, flags))


def _has_types(fields: list[Any]) -> bool:
    xattrs, cid, sizes = fields[13:16]
    return (
        all(type(field) is int for field in (*fields[1:11], fields[16]))
        and all(type(field) is bytes for field in (fields[11], fields[12], cid))
        and isinstance(xattrs, list)
        and all(isinstance(pair, list) and [*map(type, pair)] == [bytes, bytes] for pair in xattrs)
        and isinstance(sizes, list)
        and [*map(type, sizes)] == ([int, int] if cid else [])
    )
