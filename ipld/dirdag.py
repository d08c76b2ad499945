"""Directories as DAGs: one plain block, or a HAMT when it grows beyond the profile's limits.

The editing law: the form and the CID are a function of the entries, the attributes and the profile,
never of the history. So `edit` gives the CID that `build` gives for the same content, in both
directions across the limit. What `edit` is given must have been made under the same profile; for a
directory of unknown origin `is_canonical` tells, and building it anew from `entries` adopts it.

The limit (Kubo's rule, `>` in both): more than `max_directory_links` entries, or an estimated size
above `hamt_threshold_bytes`, where 0 switches either off. The estimate is the sum of name and CID
lengths ("links"), the exact size of the plain block ("block"), or nothing ("disabled").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from ipld import cid as cids
from ipld import dagpb, hamt, unixfs, varint
from ipld.block import Block
from ipld.dagpb import Link
from ipld.errors import InvalidParameter
from ipld.nodes import (
    DirLink,
    Entry,
    Get,
    NodeKind,
    Put,
    add_tsizes,
    load,
    load_directory,
    node_kind,
    symlink_target,
)
from ipld.profile import Profile
from ipld.unixfs import Attributes, Data, Kind

__all__ = [
    "DirLink",
    "Entry",
    "NodeKind",
    "build",
    "edit",
    "empty",
    "entries",
    "is_canonical",
    "lookup",
    "node_kind",
    "symlink_target",
]


def build(
    content: Iterable[Entry], profile: Profile, put: Put, attributes: Attributes | None = None
) -> DirLink:
    """A new directory; blocks go to `put` children first.

    Holds all entries in memory. Raises InvalidParameter for an empty or repeated name,
    HashExhausted for names that no HAMT can hold together, BlockTooLarge.
    """
    listed = list(content)
    names = {entry.name for entry in listed}
    if b"" in names or len(names) != len(listed):
        raise InvalidParameter("names in a directory are unique and not empty")
    record = Data(Kind.DIRECTORY).with_attributes(attributes)
    return _write(listed, record, profile, put)


def empty(profile: Profile, put: Put) -> DirLink:
    """A directory without entries."""
    return build((), profile, put)


def entries(cid: bytes, get: Get) -> Iterator[Entry]:
    """The entries of a directory, one shard in memory per level.

    A plain directory keeps the order of its block, and of a repeated name the first one counts; a
    HAMT has the order of its hashes. Raises NotADirectory, MalformedShard, TooDeep.
    """
    links, record = load_directory(cid, get)
    if record.kind is Kind.HAMT_SHARD:
        yield from hamt.entries(hamt.parse_shard(links, record), get)
    else:
        yield from _first_of_each_name(links).values()


def lookup(cid: bytes, name: bytes, get: Get) -> Entry | None:
    """The entry of a name; None when there is none. Raises as `entries` does."""
    links, record = load_directory(cid, get)
    if record.kind is Kind.HAMT_SHARD:
        return hamt.lookup(hamt.parse_shard(links, record), name, get)
    for link in links:
        if link.name == name:
            return Entry(name, link.cid, link.tsize)
    return None


def edit(
    cid: bytes,
    changes: Mapping[bytes, Entry | None],
    profile: Profile,
    get: Get,
    put: Put,
    attributes: Attributes | None = None,
) -> DirLink:
    """Apply all changes in one pass: an entry under its name sets it, None removes the name.

    Removing an absent name changes nothing. Mode and mtime stay unless `attributes` replaces them.
    In a HAMT only shards on the paths of the changes are read and written, unless the content may
    have come below the limit: then it is measured, up to the limit. Nothing is put before all was
    read, so an error leaves no blocks behind.
    """
    if any(not name or (entry and entry.name != name) for name, entry in changes.items()):
        raise InvalidParameter("changes are keyed by the names of their entries, never empty")
    links, record = load_directory(cid, get)
    if attributes is not None:
        record = record.with_attributes(attributes)
    if record.kind is Kind.HAMT_SHARD:
        shard = hamt.parse_shard(links, record)
        if shard.shape.fanout == profile.hamt_fanout and _hashed_as(cid, profile, get):
            return _edit_sharded(shard, changes, profile, get, put, attributes is not None)
        content = {entry.name: entry for entry in hamt.entries(shard, get)}
    else:
        content = _first_of_each_name(links)
    for name, entry in changes.items():
        if entry is not None:
            content[name] = entry
        else:
            content.pop(name, None)
    return _write(list(content.values()), record, profile, put)


def is_canonical(cid: bytes, profile: Profile, get: Get) -> bool:
    """Whether `build` under this profile gives this very directory; reads all of its shards."""
    content = list(entries(cid, get))
    record = load_directory(cid, get)[1]
    return all(entry.name for entry in content) and (
        _write(content, record, profile, lambda _block: None).cid == cid
    )


class _Limit:
    """When a directory stops being plain. `size_of` is what one entry adds to the estimate."""

    def __init__(self, profile: Profile, record: Data) -> None:
        self.links_max = profile.max_directory_links or None
        self.size_max_bytes = profile.hamt_threshold_bytes or None
        self.size_of = _link_size_bytes
        self.base_size_bytes = 0
        if profile.hamt_size_estimation == "disabled":
            self.size_max_bytes = None
        elif profile.hamt_size_estimation == "block":
            self.size_of = _encoded_size_bytes
            self.base_size_bytes = len(dagpb.encode((), _encode_plain(record)))

    def is_exceeded(self, content: Iterable[Entry]) -> bool:
        """Reads no further than needed to know; an empty directory is always plain."""
        content = iter(content)
        count_left = self.links_max
        size_bytes = self.base_size_bytes
        if self.size_max_bytes is None:
            return count_left is not None and any(True for _ in islice(content, count_left, None))
        for entry in content:
            size_bytes += self.size_of(entry)
            if size_bytes > self.size_max_bytes or count_left == 0:
                return True
            if count_left is not None:
                count_left -= 1
        return False


def _link_size_bytes(entry: Entry) -> int:
    return len(entry.name) + len(entry.cid)


def _encoded_size_bytes(entry: Entry) -> int:
    """Bytes that a link to this entry takes in a dag-pb block."""
    name_size, cid_size = len(entry.name), len(entry.cid)
    size = 3 + _varint_size(cid_size) + cid_size + _varint_size(name_size) + name_size
    size += _varint_size(entry.tsize)
    return 1 + _varint_size(size) + size


def _varint_size(value: int) -> int:
    return 1 if value < 0x80 else (value.bit_length() + 6) // 7


def _first_of_each_name(links: list[Link]) -> dict[bytes, Entry]:
    content: dict[bytes, Entry] = {}
    for cid, name, tsize in links:
        if name not in content:
            content[name] = Entry(name, cid, tsize)
    return content


def _encode_plain(record: Data) -> bytes:
    """The record of a plain directory with the mode and mtime of `record`, whatever its form."""
    return unixfs.encode(Data(Kind.DIRECTORY, mode=record.mode, mtime=record.mtime))


def _write(content: list[Entry], record: Data, profile: Profile, put: Put) -> DirLink:
    """Write these entries in the form that they call for."""
    if _Limit(profile, record).is_exceeded(content):
        pending: list[Block] = []
        link = hamt.Writer(profile, pending.append).build(content, record)
        for block in pending:
            put(block)
        return link
    return _write_plain(content, record, profile, put)


def _write_plain(content: list[Entry], record: Data, profile: Profile, put: Put) -> DirLink:
    links = sorted([Link(cid, name, tsize) for name, cid, tsize in content], key=_by_name)
    data = dagpb.encode(links, _encode_plain(record))
    block = Block.build(data, cids.DAG_PB, profile)
    put(block)
    return DirLink(block.cid, add_tsizes(len(data), links))


def _by_name(link: Link) -> bytes:
    return link.name


def _hashed_as(cid: bytes, profile: Profile, get: Get) -> bool:
    """Whether the root block has the CID version, hash and inlining of the profile."""
    return Block.build(load(cid, get), cids.DAG_PB, profile).cid == cid


def _edit_sharded(
    shard: hamt.Shard,
    changes: Mapping[bytes, Entry | None],
    profile: Profile,
    get: Get,
    put: Put,
    record_changed: bool,
) -> DirLink:
    written: dict[bytes, Block] = {}

    def collect(block: Block) -> None:
        written[block.cid] = block

    def get_written(cid: bytes) -> varint.BytesLike:
        block = written.get(cid)
        return block.data if block is not None else get(cid)

    root, swaps = hamt.Writer(profile, collect).edit(shard, changes.items(), get)
    limit = _Limit(profile, shard.record)
    if record_changed or _may_have_shrunk(swaps, limit):
        content = entries(root.cid, get_written)
        if not limit.is_exceeded(content):
            left = list(entries(root.cid, get_written))
            return _write_plain(left, shard.record, profile, put)
    for block in written.values():
        put(block)
    return root


def _may_have_shrunk(swaps: list[hamt.Swap], limit: _Limit) -> bool:
    """Whether fewer entries or bytes are left than before, so that a plain block may do again."""
    count = sum((new is not None) - (old is not None) for old, new in swaps)
    size = sum(
        (limit.size_of(new) if new else 0) - (limit.size_of(old) if old else 0)
        for old, new in swaps
    )
    return count < 0 or size < 0
