"""What differs between two states, by path.

Content is compared by DAG: equal CIDs are equal trees and are not read. Modes, owners, times and
extended attributes are not in the DAG; they are compared by table where both states descend from
one root, because only then does an inode number mean the same file in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ipld import dirdag
from ipld.dirdag import Entry
from mfs import records
from mfs.heads import Head
from mfs.node import ROOT_INO, InodeRecord
from mfs.table import NodeCache, Table
from repo.service import Repo

ADDED, REMOVED, CHANGED = "added", "removed", "changed"


class Difference(NamedTuple):
    """`change` is added, removed or changed; of a directory that came or went, all paths."""

    change: str
    path: bytes


def differences(repo: Repo, cache: NodeCache, first: Head, second: Head) -> Iterator[Difference]:
    """From `first` to `second`: content by path, then paths where only attributes differ."""
    seen: set[bytes] = set()
    for difference in _content(repo, first.cid, second.cid):
        seen.add(difference.path)
        yield difference
    if first.origin == second.origin:
        for path in sorted(_attribute_paths(repo, cache, first, second) - seen):
            yield Difference(CHANGED, path)


def _content(repo: Repo, first: bytes, second: bytes) -> Iterator[Difference]:
    stack = [(b"", first, second)]
    while stack:
        path, left_cid, right_cid = stack.pop()
        if left_cid == right_cid:
            continue
        left, right = _entries(repo, left_cid), _entries(repo, right_cid)
        for name in sorted(left.keys() | right.keys()):
            below = path + b"/" + name if path else name
            old, new = left.get(name), right.get(name)
            if old is None and new is not None:
                yield from _whole(repo, ADDED, below, new.cid)
            elif new is None and old is not None:
                yield from _whole(repo, REMOVED, below, old.cid)
            elif old is not None and new is not None and old.cid != new.cid:
                kinds = [dirdag.node_kind(entry.cid, repo.get) for entry in (old, new)]
                if kinds == ["directory", "directory"]:
                    stack.append((below, old.cid, new.cid))
                else:
                    yield Difference(CHANGED, below)


def _whole(repo: Repo, change: str, path: bytes, cid: bytes) -> Iterator[Difference]:
    stack = [(path, cid)]
    while stack:
        path, cid = stack.pop()
        yield Difference(change, path)
        if dirdag.node_kind(cid, repo.get) == "directory":
            below = _entries(repo, cid)
            stack += [(path + b"/" + name, below[name].cid) for name in sorted(below, reverse=True)]


def _entries(repo: Repo, cid: bytes) -> dict[bytes, Entry]:
    return {entry.name: entry for entry in dirdag.entries(cid, repo.get)}


def _attribute_paths(repo: Repo, cache: NodeCache, first: Head, second: Head) -> set[bytes]:
    """Paths, in the second state, of inodes that are in both and look different."""
    tables = [Table(head.table, repo.get, repo.put, cache) for head in (first, second)]
    shared_end = min(first.totals.next_ino, second.totals.next_ino)
    paths = set()
    for key in tables[0].diff(tables[1]):
        if key[:1] != records.INODES or records.parse_number(key[1:]) >= shared_end:
            continue
        rows = [table.lookup(key) for table in tables]
        if rows[0] is None or rows[1] is None:
            continue
        old, new = map(records.decode_inode, (rows[0], rows[1]))
        if _visible(old) != _visible(new):
            paths.add(_path(tables[1], new))
    return paths


def _visible(record: InodeRecord) -> tuple[object, ...]:
    """What is not in the DAG and matters to people: not times, which follow from content."""
    return record.mode, record.uid, record.gid, record.rdev, record.xattrs


def _path(table: Table, record: InodeRecord) -> bytes:
    names = []
    while record.name:
        names.append(record.name)
        if record.parent == ROOT_INO:
            break
        row = table.lookup(records.inode_key(record.parent))
        if row is None:
            break
        record = records.decode_inode(row)
    return b"/".join(reversed(names))
