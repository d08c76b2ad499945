"""Sharded directories: a trie over the hashes of the names, one dag-pb block per shard.

A shard has `fanout` slots. Level by level, the next log2(fanout) bits of a name's hash, from the
most significant end, choose its slot. A slot holds nothing, an entry, or a link to a sub-shard with
two or more entries; so the tree is a function of its content, whatever the order of the changes.
Entry links are named by the slot in uppercase hex and the name, sub-shard links by the slot alone.
Mode and mtime are on the root shard only. Source: specs.ipfs.tech/unixfs; Kubo's bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias, TypeVar

from ipld import cid as cids
from ipld import dagpb, unixfs
from ipld.block import Block
from ipld.dagpb import Link
from ipld.errors import FanoutTooLarge, HashExhausted, MalformedShard, TooDeep
from ipld.murmur import HASH_BITS, MURMUR3_X64_64, hash64
from ipld.nodes import DirLink, Entry, Get, Put, add_tsizes, load_unixfs
from ipld.profile import HAMT_FANOUT_MAX, HAMT_FANOUT_MIN, Profile
from ipld.unixfs import Data, Kind


class Shape:
    """What follows from a fan-out alone. Instances come from `shape_of`."""

    def __init__(self, fanout: int) -> None:
        self.fanout = fanout
        self.bits = fanout.bit_length() - 1
        self.level_count = HASH_BITS // self.bits
        self.width = len(f"{fanout - 1:X}")
        self.prefixes = tuple(f"{slot:0{self.width}X}".encode() for slot in range(fanout))
        self.slots = {prefix: slot for slot, prefix in enumerate(self.prefixes)}

    def shift(self, level: int) -> int:
        """How far a hash is shifted right to leave the path down to a slot of this level."""
        return HASH_BITS - self.bits * (level + 1)


@lru_cache(maxsize=16)
def shape_of(fanout: int) -> Shape:
    """Raises FanoutTooLarge, MalformedShard."""
    if fanout > HAMT_FANOUT_MAX:
        raise FanoutTooLarge(f"HAMT fan-out {fanout} (limit {HAMT_FANOUT_MAX})")
    if fanout < HAMT_FANOUT_MIN or fanout & (fanout - 1):
        raise MalformedShard(f"HAMT fan-out {fanout} is not a power of two from 8 to 1024")
    return Shape(fanout)


class Shard(NamedTuple):
    """One decoded shard: `children` by slot, ascending; names still have their slot's prefix."""

    shape: Shape
    children: dict[int, Link]
    record: Data


def parse_shard(links: Sequence[Link], record: Data) -> Shard:
    """Check a shard's record against its links. Raises MalformedShard, FanoutTooLarge."""
    if record.kind is not Kind.HAMT_SHARD or record.hash_type != MURMUR3_X64_64:
        raise MalformedShard(f"not a murmur3 HAMT shard (hash type {record.hash_type})")
    shape = shape_of(record.fanout or 0)
    width = shape.width
    try:
        slots = [shape.slots[link.name[:width]] for link in links]
    except KeyError:
        raise MalformedShard("link name in a HAMT shard without its slot") from None
    bitmap = 0
    for slot in slots:
        bitmap |= 1 << slot
    if bitmap != int.from_bytes(record.content or b"", "big") or slots != sorted(set(slots)):
        raise MalformedShard("bitmap and links of a HAMT shard disagree")
    return Shard(shape, dict(zip(slots, links, strict=True)), record)


def load_child(link: Link, shape: Shape, level: int, get: Get) -> Shard:
    """The sub-shard behind a link, at this level of a tree of this shape."""
    if level >= shape.level_count:
        raise TooDeep(f"HAMT is deeper than its hash allows ({shape.level_count} levels)")
    if cids.codec_of(link.cid) != cids.DAG_PB:
        raise MalformedShard(f"{cids.to_text(link.cid)} is linked as a HAMT shard")
    shard = parse_shard(*load_unixfs(link.cid, get))
    if shard.shape is not shape:
        raise MalformedShard("HAMT shards of one directory differ in their fan-out")
    if not shard.children:
        raise MalformedShard("empty HAMT shard below the root")
    return shard


def lookup(root: Shard, name: bytes, get: Get) -> Entry | None:
    """The entry of this name; reads one shard per level."""
    hashed = hash64(name)
    shape, shard = root.shape, root
    for level in range(shape.level_count):
        link = shard.children.get(hashed >> shape.shift(level) & shape.fanout - 1)
        if link is None:
            return None
        if len(link.name) > shape.width:
            found = link.name[shape.width :] == name
            return Entry(name, link.cid, link.tsize) if found else None
        shard = load_child(link, shape, level + 1, get)
    return None


def entries(root: Shard, get: Get) -> Iterator[Entry]:
    """All entries in the order of their hashes; holds one shard per level.

    Each name must hash to where it stands, so what is listed can also be looked up, and a shard
    cannot be linked from two places to multiply its entries.
    """
    shape = root.shape
    width, bits = shape.width, shape.bits
    stack = [(0, iter(root.children.items()))]
    while stack:
        path, children = stack[-1]
        level = len(stack) - 1
        shift = shape.shift(level)
        for slot, link in children:
            name = link.name[width:]
            if not name:
                child = load_child(link, shape, level + 1, get)
                stack.append((path << bits | slot, iter(child.children.items())))
                break
            if hash64(name) >> shift != path << bits | slot:
                raise MalformedShard("name in a HAMT slot that is not its own")
            yield Entry(name, link.cid, link.tsize)
        else:
            stack.pop()


Change: TypeAlias = tuple[bytes, Entry | None]
"""A name and its new entry, or None to remove it."""
HashedChange: TypeAlias = tuple[int, bytes, Entry | None]
_Hashed = TypeVar("_Hashed", tuple[int, Entry], HashedChange)


class Swap(NamedTuple):
    """What one change did: `old` is None for a new name, `new` for a removed one."""

    old: Entry | None
    new: Entry | None


def _by_slot(items: list[_Hashed], shape: Shape, level: int) -> Iterator[tuple[int, list[_Hashed]]]:
    """Cut items that are sorted by hash, and equal in the bits above, into runs of one slot."""
    shift, mask = shape.shift(level), shape.fanout - 1
    start, end = 0, len(items)
    while start < end:
        path = items[start][0] >> shift
        stop = start + 1
        while stop < end and items[stop][0] >> shift == path:
            stop += 1
        yield path & mask, items[start:stop]
        start = stop


class Writer:
    """Builds and edits shards of one profile. Blocks go to `put` children first."""

    def __init__(self, profile: Profile, put: Put) -> None:
        self._profile = profile
        self._put = put
        self._shape = shape_of(profile.hamt_fanout)

    def build(self, items: Iterable[Entry], record: Data) -> DirLink:
        """A new tree whose root has the mode and mtime of `record`. Raises HashExhausted."""
        hashed = sorted([(hash64(entry.name), entry) for entry in items])
        return self._write(self._place_all(hashed, 0), record)

    def edit(self, root: Shard, changes: Iterable[Change], get: Get) -> tuple[DirLink, list[Swap]]:
        """Apply all changes in one pass; reads and writes only shards on their paths.

        Also returns what was really replaced: a change to the present state is none.
        """
        swaps: list[Swap] = []
        ordered = sorted([(hash64(name), name, entry) for name, entry in changes])
        children = self._edit_shard(root, ordered, 0, get, swaps)
        return self._write(children, root.record), swaps

    def _edit_shard(
        self, shard: Shard, changes: list[HashedChange], level: int, get: Get, swaps: list[Swap]
    ) -> dict[int, Link]:
        children = dict(shard.children)
        for slot, group in _by_slot(changes, self._shape, level):
            link = children.get(slot)
            if link is not None and len(link.name) == self._shape.width:
                changed = self._edit_child(link, group, level + 1, get, swaps)
            else:
                changed = self._edit_slot(link, group, level, slot, swaps)
            if changed is None:
                children.pop(slot, None)
            else:
                children[slot] = changed
        return children

    def _edit_child(
        self, link: Link, changes: list[HashedChange], level: int, get: Get, swaps: list[Swap]
    ) -> Link | None:
        """The link that takes the place of a sub-shard's: to its successor, or to what is left."""
        shard = load_child(link, self._shape, level, get)
        children = self._edit_shard(shard, changes, level, get, swaps)
        if children == shard.children:
            return link
        if not children:
            return None
        if len(children) == 1:
            (only,) = children.values()
            name = only.name[self._shape.width :]
            if name:
                return Link(only.cid, link.name + name, only.tsize)
        written = self._write(children, None)
        return Link(written.cid, link.name, written.tsize)

    def _edit_slot(
        self,
        link: Link | None,
        changes: list[HashedChange],
        level: int,
        slot: int,
        swaps: list[Swap],
    ) -> Link | None:
        """The same for a slot that holds one entry or nothing."""
        content: dict[bytes, tuple[int, Entry]] = {}
        if link is not None:
            name = link.name[self._shape.width :]
            hashed, shift = hash64(name), self._shape.shift(level)
            if hashed >> shift != changes[0][0] >> shift:
                raise MalformedShard("name in a HAMT slot that is not its own")
            content[name] = hashed, Entry(name, link.cid, link.tsize)
        for hashed, name, entry in changes:
            old = content.pop(name, (0, None))[1]
            if entry is not None:
                content[name] = hashed, entry
            if old != entry:
                swaps.append(Swap(old, entry))
        items = sorted(content.values())
        return self._place(items, level, slot) if items else None

    def _place_all(self, items: list[tuple[int, Entry]], level: int) -> dict[int, Link]:
        if level >= self._shape.level_count:
            names = b", ".join(entry.name for _, entry in items[:2]).decode(errors="replace")
            raise HashExhausted(f"names collide in all bits of the HAMT's hash: {names}")
        groups = _by_slot(items, self._shape, level)
        return {slot: self._place(group, level, slot) for slot, group in groups}

    def _place(self, items: list[tuple[int, Entry]], level: int, slot: int) -> Link:
        """The link for a slot of this level with these entries, sorted by hash."""
        prefix = self._shape.prefixes[slot]
        if len(items) == 1:
            entry = items[0][1]
            return Link(entry.cid, prefix + entry.name, entry.tsize)
        written = self._write(self._place_all(items, level + 1), None)
        return Link(written.cid, prefix, written.tsize)

    def _write(self, children: dict[int, Link], root_record: Data | None) -> DirLink:
        bitmap = 0
        for slot in children:
            bitmap |= 1 << slot
        links = [children[slot] for slot in sorted(children)]
        record = Data(
            Kind.HAMT_SHARD,
            bitmap.to_bytes((bitmap.bit_length() + 7) // 8, "big"),
            hash_type=MURMUR3_X64_64,
            fanout=self._shape.fanout,
            mode=root_record.mode if root_record else None,
            mtime=root_record.mtime if root_record else None,
        )
        data = dagpb.encode(links, unixfs.encode(record))
        block = Block.build(data, cids.DAG_PB, self._profile)
        self._put(block)
        return DirLink(block.cid, add_tsizes(len(data), links))
