"""Plain directories: all entries as the links of one dag-pb block, sorted by name.

Foreign blocks may repeat a name or be unsorted; they are read in their order, the first of a name
counts, and the next edit writes them as they should be.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from operator import itemgetter, lt
from typing import NamedTuple

from ipld import cid as cids
from ipld import dagpb, unixfs
from ipld.block import Block
from ipld.dagpb import Link
from ipld.nodes import TSIZE_MAX, DirLink, Entry, Put, add_tsizes
from ipld.profile import Profile
from ipld.unixfs import Data, Kind

_BARE_RECORD = b"\x0a\x02\x08\x01"


class Spliced(NamedTuple):
    """A block that changes were worked into, and what the form of the directory depends on."""

    data: bytes
    tsize: int
    entry_count: int
    label_size_bytes: int
    """Sum of the lengths of all names and CIDs."""


def first_of_each_name(links: Iterable[Link]) -> dict[bytes, Entry]:
    """The entries that count, by name, in the order of the block."""
    content: dict[bytes, Entry] = {}
    for cid, name, tsize in links:
        if name not in content:
            content[name] = Entry(name, cid, tsize)
    return content


def encode(content: Iterable[Entry], record: Data) -> tuple[bytes, int]:
    """The block of these entries, with the mode and mtime of `record`, and its tsize."""
    links = sorted([Link(cid, name, tsize) for name, cid, tsize in content], key=itemgetter(1))
    plain = Data(Kind.DIRECTORY, mode=record.mode, mtime=record.mtime)
    data = dagpb.encode(links, unixfs.encode(plain))
    return data, add_tsizes(len(data), links)


def write(data: bytes, tsize: int, profile: Profile, put: Put) -> DirLink:
    """Hash and put a block made here."""
    block = Block.build(data, cids.DAG_PB, profile)
    put(block)
    return DirLink(block.cid, tsize)


def splice(block: bytes, changes: Mapping[bytes, Entry | None]) -> Spliced | None:
    """Work changes into a block without taking its links apart, in a third of the time.

    Only for what nearly all plain directories are: links in order, no name twice, no mode, no
    mtime. None for all else, and for blocks that are no directory.
    """
    if not block.endswith(_BARE_RECORD):
        return None
    found = dagpb.named_links(block)
    ends = [0, *found.ends]
    names = found.names
    if block[ends[-1] :] != _BARE_RECORD or not all(map(lt, names, names[1:])):
        return None
    pieces: list[bytes] = []
    kept = count = label_size = tsize = 0
    for name in sorted(changes):
        at = bisect_left(names, name)
        pieces.append(block[kept : ends[at]])
        kept = ends[at]
        if at < len(names) and names[at] == name:
            kept = ends[at + 1]
            count -= 1
            label_size -= len(name) + len(found.cids[at])
            tsize -= found.tsizes[at]
        entry = changes[name]
        if entry is not None:
            pieces.append(dagpb.encode([Link(entry.cid, name, entry.tsize)], None))
            count += 1
            label_size += len(name) + len(entry.cid)
            tsize += entry.tsize
    data = b"".join((*pieces, block[kept:]))
    return Spliced(
        data,
        min(tsize + sum(found.tsizes) + len(data), TSIZE_MAX),
        count + len(names),
        label_size + sum(map(len, names)) + sum(map(len, found.cids)),
    )
