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

from collections.abc import Callable, Iterable, Iterator, Mapping

from ipld import cid as cids
from ipld import hamt, plaindir
from ipld.block import Block
from ipld.errors import InvalidParameter
from ipld.hamtsize import Scale, SizeMemo
from ipld.nodes import (
    DirLink,
    Entry,
    Get,
    NodeKind,
    Put,
    load_dag_pb,
    load_directory,
    node_kind,
    parse_directory,
    symlink_target,
)
from ipld.profile import Profile
from ipld.unixfs import Attributes, Data, Kind
from ipld.varint import BytesLike

__all__ = [
    "DirLink",
    "Entry",
    "NodeKind",
    "SizeMemo",
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
        yield from plaindir.first_of_each_name(links).values()


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
    memo: SizeMemo | None = None,
) -> DirLink:
    """Apply all changes in one pass: an entry under its name sets it, None removes the name.

    Removing an absent name changes nothing. Mode and mtime stay unless `attributes` replaces them.
    In a HAMT only shards on the paths of the changes are read and written, unless the content may
    have come below the limit: then it is measured, up to the limit; whoever edits often passes a
    `memo`, so that a shard is measured once. Nothing is put before all was read, so an error leaves
    no blocks behind.
    """
    if any(not name or (entry and entry.name != name) for name, entry in changes.items()):
        raise InvalidParameter("changes are keyed by the names of their entries, never empty")
    block = load_dag_pb(cid, get)
    if attributes is None:
        spliced = _edit_spliced(block, changes, profile, put)
        if spliced is not None:
            return spliced
    links, record = parse_directory(cid, block)
    if attributes is not None:
        record = record.with_attributes(attributes)
    if record.kind is Kind.HAMT_SHARD:
        shard = hamt.parse_shard(links, record)
        if shard.shape.fanout == profile.hamt_fanout and (
            Block.build(block, cids.DAG_PB, profile).cid == cid
        ):
            limit = _Limit(profile, record, memo or SizeMemo())
            return _edit_sharded(shard, changes, limit, get, put, attributes is not None)
        content = {entry.name: entry for entry in hamt.entries(shard, get)}
    else:
        content = plaindir.first_of_each_name(links)
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
    """When a directory stops being plain, by number and size of its entries."""

    def __init__(self, profile: Profile, record: Data, memo: SizeMemo | None = None) -> None:
        self.profile = profile
        self.memo = memo or SizeMemo()
        self._count_max = profile.max_directory_links or _UNLIMITED
        self._size_max_bytes = profile.hamt_threshold_bytes or _UNLIMITED
        self.size_of: Callable[[bytes, bytes, int], int] = _label_size_bytes
        if profile.hamt_size_estimation == "disabled":
            self._size_max_bytes = _UNLIMITED
        elif profile.hamt_size_estimation == "block":
            self.size_of = _encoded_size_bytes
            self._size_max_bytes -= len(plaindir.encode((), record)[0])

    def exceeds(self, entry_count: int, size_bytes: int) -> bool:
        """Whether this many entries, whose `size_of` adds up to this, need a HAMT."""
        return entry_count > 0 and (
            entry_count > self._count_max or size_bytes > self._size_max_bytes
        )

    def is_exceeded_by(self, content: list[Entry]) -> bool:
        """Looks no further than needed to know."""
        size_bytes = 0
        for count, (name, cid, tsize) in enumerate(content, 1):
            size_bytes += self.size_of(name, cid, tsize)
            if self.exceeds(count, size_bytes):
                return True
        return False


_UNLIMITED = 1 << 62


def _label_size_bytes(name: bytes, cid: bytes, _tsize: int) -> int:
    return len(name) + len(cid)


def _encoded_size_bytes(name: bytes, cid: bytes, tsize: int) -> int:
    """Bytes that a link takes in a dag-pb block."""
    name_size, cid_size = len(name), len(cid)
    size = 3 + _varint_size(cid_size) + cid_size + _varint_size(name_size) + name_size
    size += _varint_size(tsize)
    return 1 + _varint_size(size) + size


def _varint_size(value: int) -> int:
    return 1 if value < 0x80 else (value.bit_length() + 6) // 7


def _write(content: list[Entry], record: Data, profile: Profile, put: Put) -> DirLink:
    """Write these entries in the form that they call for."""
    if _Limit(profile, record).is_exceeded_by(content):
        pending: list[Block] = []
        link = hamt.Writer(profile, pending.append).build(content, record)
        for block in pending:
            put(block)
        return link
    return plaindir.write(*plaindir.encode(content, record), profile, put)


def _edit_spliced(
    block: bytes, changes: Mapping[bytes, Entry | None], profile: Profile, put: Put
) -> DirLink | None:
    """The quick way for ordinary plain directories that stay plain; None when it does not apply."""
    spliced = plaindir.splice(block, changes)
    if spliced is None:
        return None
    record = Data(Kind.DIRECTORY)
    size_bytes = spliced.label_size_bytes
    if profile.hamt_size_estimation == "block":
        size_bytes = len(spliced.data) - len(plaindir.encode((), record)[0])
    if _Limit(profile, record).exceeds(spliced.entry_count, size_bytes):
        return None
    return plaindir.write(spliced.data, spliced.tsize, profile, put)


def _edit_sharded(
    shard: hamt.Shard,
    changes: Mapping[bytes, Entry | None],
    limit: _Limit,
    get: Get,
    put: Put,
    record_changed: bool,
) -> DirLink:
    written: dict[bytes, Block] = {}

    def collect(block: Block) -> None:
        written[block.cid] = block

    def get_written(cid: bytes) -> BytesLike:
        block = written.get(cid)
        return block.data if block is not None else get(cid)

    root, swaps = hamt.Writer(limit.profile, collect).edit(shard, changes.items(), get)
    if record_changed or _may_have_shrunk(swaps, limit):
        edited = hamt.parse_shard(*load_directory(root.cid, get_written))
        scale = Scale(limit.size_of, limit.exceeds, limit.memo)
        if not scale.is_exceeded(edited, get_written):
            left = hamt.entries(edited, get_written)
            return plaindir.write(*plaindir.encode(left, edited.record), limit.profile, put)
    for block in written.values():
        put(block)
    return root


def _may_have_shrunk(swaps: list[hamt.Swap], limit: _Limit) -> bool:
    """Whether fewer entries or bytes are left than before, so that a plain block may do again."""
    count = size = 0
    for old, new in swaps:
        if old is not None:
            count, size = count - 1, size - limit.size_of(*old)
        if new is not None:
            count, size = count + 1, size + limit.size_of(*new)
    return count < 0 or size < 0
