"""A persistent ordered map from bytes to bytes: a copy-on-write B+tree of dag-cbor blocks.

It holds everything about a root that UnixFS has no place for: inodes and directory entries. A
`Table` is one version and never changes; `apply` writes the nodes that differ and returns the root
of the next version, so that a snapshot of millions of entries is one CID.

Invariants
- All leaves are at level 0 and at the same depth; a child's level is its parent's minus one.
- Every key below child i of a node is >= keys[i] and < keys[i + 1].
- A node is written after its children, so a root that can be read is complete in the log.
- `apply` reads the nodes on the changed paths, plus at most one neighbour for each node that became
  too small, and writes only nodes whose content changed. Changes that change nothing write nothing.

The shape depends on the history, not only on the content: two tables with equal entries may have
different roots. Nobody compares table roots with another program's, and a shape that is a function
of the content would cost a rewrite of neighbours on each change.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ipld.nodes import Get, Put
from mfs import table_node
from mfs.errors import MalformedTable
from mfs.table_node import KEY_SIZE_MAX_BYTES, VALUE_SIZE_MAX_BYTES, Node
from repo.recent import Recent

CACHE_SIZE_BYTES = 8 << 20
"""Encoded size of the decoded nodes kept in memory; they take about three times as much there."""

NodeCache = Recent[bytes, Node]


class Table:
    """One version of the map. Thread-safe: it is immutable, and so are cached nodes."""

    __slots__ = ("_cache", "_get", "_put", "root")

    def __init__(self, root: bytes | None, get: Get, put: Put, cache: NodeCache | None = None):
        """`root` is a CID or None for the empty map; errors of `get` and `put` pass through."""
        self.root = root
        self._get = get
        self._put = put
        self._cache = NodeCache(CACHE_SIZE_BYTES) if cache is None else cache

    def at(self, root: bytes | None) -> Table:
        """Another version, sharing this one's cache."""
        return Table(root, self._get, self._put, self._cache)

    # ------------------------------------------------------------------------------- reading

    def lookup(self, key: bytes) -> bytes | None:
        """The value, or None. Raises MalformedTable."""
        if self.root is None:
            return None
        node = self._load(self.root)
        while node.level:
            index = bisect_right(node.keys, key) - 1
            if index < 0:
                return None
            node = self._child(node, index)
        keys = node.keys
        index = bisect_left(keys, key)
        if index < len(keys) and keys[index] == key:
            return node.items[index]
        return None

    def range(self, first: bytes = b"", last: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Entries with first <= key < last in order, read as they are asked for."""
        if self.root is None:
            return
        path: list[tuple[Node, int]] = []
        node = self._load(self.root)
        while node.level:
            index = max(0, bisect_right(node.keys, first) - 1)
            path.append((node, index + 1))
            node = self._child(node, index)
        start = bisect_left(node.keys, first)
        while True:
            keys, values = node.keys, node.items
            end = len(keys) if last is None else bisect_left(keys, last, start)
            yield from zip(keys[start:end], values[start:end], strict=True)
            if end < len(keys):
                return
            following = self._next_leaf(path, last)
            if following is None:
                return
            node, start = following, 0

    def _next_leaf(self, path: list[tuple[Node, int]], last: bytes | None) -> Node | None:
        """The leaf after the one that `path` led to, unless it lies beyond `last`."""
        while path:
            node, index = path.pop()
            if index == len(node.keys):
                continue
            if last is not None and node.keys[index] >= last:
                return None
            path.append((node, index + 1))
            node = self._child(node, index)
            while node.level:
                path.append((node, 1))
                node = self._child(node, 0)
            return node
        return None

    def diff(self, other: Table) -> Iterator[bytes]:
        """Keys whose value differs between the two versions, or that only one of them has, in
        order. Subtrees that both share are not read."""
        mine, theirs = _Cursor(self), _Cursor(other)
        while (left := mine.head()) and (right := theirs.head()):
            if left.cid is not None and left.cid == right.cid:
                mine.skip()
                theirs.skip()
            elif left.cid is None and right.cid is None and left.key == right.key:
                if left.value != right.value:
                    yield left.key
                mine.skip()
                theirs.skip()
            elif left.cid is None and left.key < right.key:
                yield left.key
                mine.skip()
            elif right.cid is None and right.key < left.key:
                yield right.key
                theirs.skip()
            else:
                _open_larger(mine, left, theirs, right)
        yield from mine.remaining_keys()
        yield from theirs.remaining_keys()

    # ------------------------------------------------------------------------------- writing

    def apply(self, changes: Mapping[bytes, bytes | None]) -> bytes | None:
        """Set and remove (None) entries; returns the root of the new version, None when empty.

        Raises ValueError for a key or value beyond the limits, before anything is written.
        """
        keys = sorted(changes)
        values = [changes[key] for key in keys]
        _check_sizes(keys, values)
        if not keys:
            return self.root
        batch = _Batch(keys, values)
        if self.root is None:
            nodes: list[Node] | None = _edit_leaf(Node(0, [], []), batch, 0, len(keys))
        else:
            nodes = self._edit(self._load(self.root), batch, 0, len(keys))
        return self.root if nodes is None else self._plant(nodes)

    def _edit(self, node: Node, batch: _Batch, start: int, end: int) -> list[Node] | None:
        """The nodes that replace `node` when changes start … end are made below it.

        They are of the same level and not stored yet, while their children are. None means that
        nothing changed, an empty list that nothing is left.
        """
        if node.level == 0:
            return _edit_leaf(node, batch, start, end)
        replaced: list[tuple[int, list[Node]]] = []
        while start < end:
            index = max(0, bisect_right(node.keys, batch.keys[start]) - 1)
            stop = end
            if index + 1 < len(node.keys):
                stop = bisect_left(batch.keys, node.keys[index + 1], start, end)
            nodes = self._edit(self._child(node, index), batch, start, stop)
            if nodes is not None:
                replaced.append((index, nodes))
            start = stop
        if not replaced:
            return None
        keys = list(node.keys)
        children: list[bytes | Node] = list(node.items)
        for index, nodes in reversed(replaced):
            keys[index : index + 1] = [fresh.keys[0] for fresh in nodes]
            children[index : index + 1] = nodes
        if any(
            fresh.size_bytes < table_node.JOIN_SIZE_BYTES for _, new in replaced for fresh in new
        ):
            self._join_small(node.level - 1, keys, children)
        if not keys:
            return []
        cids = [child if isinstance(child, bytes) else self._store(child) for child in children]
        return list(Node(node.level, keys, cids).split())

    def _join_small(self, level: int, keys: list[bytes], children: list[bytes | Node]) -> None:
        """Join rewritten children that are too small with a neighbour, in place.

        A child that was not rewritten keeps its size, however small: it is not worth a read.
        """
        at = 0
        while at < len(children) and len(children) > 1:
            child = children[at]
            if isinstance(child, bytes) or child.size_bytes >= table_node.JOIN_SIZE_BYTES:
                at += 1
                continue
            left = max(0, at - 1)
            pair = [
                self._load(item, level) if isinstance(item, bytes) else item
                for item in children[left : left + 2]
            ]
            parts = list(pair[0].joined(pair[1]).split())
            keys[left : left + 2] = [part.keys[0] for part in parts]
            children[left : left + 2] = parts
            # One part may still be small and is looked at again; the list became shorter.
            at = left if len(parts) == 1 else left + len(parts)

    def _plant(self, nodes: list[Node]) -> bytes | None:
        """Store the top nodes under as many levels as they need; returns the root."""
        while len(nodes) > 1:
            keys = [node.keys[0] for node in nodes]
            above = Node(nodes[0].level + 1, keys, [*map(self._store, nodes)])
            nodes = list(above.split())
        if not nodes:
            return None
        root: bytes | Node = nodes[0]
        while True:
            node = self._load(root) if isinstance(root, bytes) else root
            if node.level == 0 or len(node.keys) > 1:
                return self._store(root)
            root = node.items[0]

    # ----------------------------------------------------------------------------------- nodes

    def _store(self, item: bytes | Node) -> bytes:
        """The CID of a child, written if it is new."""
        if isinstance(item, bytes):
            return item
        block = item.encode()
        self._put(block)
        self._cache.put(block.cid, item, item.size_bytes)
        return block.cid

    def _load(self, cid: bytes, level: int | None = None) -> Node:
        node = self._cache.get(cid)
        if node is None:
            node = table_node.decode(self._get(cid))
            self._cache.put(cid, node, node.size_bytes)
        if level is not None and node.level != level:
            raise MalformedTable(f"table node of level {node.level} where {level} belongs")
        return node

    def _child(self, node: Node, index: int) -> Node:
        return self._load(node.items[index], node.level - 1)


class _Batch(NamedTuple):
    """Changes in order of their keys."""

    keys: list[bytes]
    values: list[bytes | None]


def _check_sizes(keys: list[bytes], values: list[bytes | None]) -> None:
    for key, value in zip(keys, values, strict=True):
        if len(key) > KEY_SIZE_MAX_BYTES:
            raise ValueError(f"table key of {len(key)} bytes (limit {KEY_SIZE_MAX_BYTES})")
        if value is not None and len(value) > VALUE_SIZE_MAX_BYTES:
            raise ValueError(f"table value of {len(value)} bytes (limit {VALUE_SIZE_MAX_BYTES})")


def _edit_leaf(leaf: Node, batch: _Batch, start: int, end: int) -> list[Node] | None:
    """A leaf with changes start … end made; the result is as of `Table._edit`."""
    keys, values = list(leaf.keys), list(leaf.items)
    changed = False
    at = 0
    for key, value in zip(batch.keys[start:end], batch.values[start:end], strict=True):
        at = bisect_left(keys, key, at)
        found = at < len(keys) and keys[at] == key
        if value is None:
            if found:
                del keys[at], values[at]
                changed = True
        elif not found:
            keys.insert(at, key)
            values.insert(at, value)
            changed = True
        elif values[at] != value:
            values[at] = value
            changed = True
    if not changed:
        return None
    return list(Node(0, keys, values).split()) if keys else []


# ------------------------------------------------------------------------------------- diff


class _Head(NamedTuple):
    """What a cursor stands before: a subtree (cid) or an entry (value)."""

    key: bytes
    """The entry's key, or a lower bound of the keys in the subtree."""
    cid: bytes | None
    value: bytes | None
    level: int


class _Cursor:
    """Walks a table in order and opens a subtree only when told to."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._path: list[tuple[Node, int]] = []
        self._root = table.root

    def head(self) -> _Head | None:
        """Where the cursor stands; None at the end."""
        if self._root is not None:
            return _Head(b"", self._root, None, table_node.LEVEL_MAX + 1)
        while self._path:
            node, index = self._path[-1]
            if index < len(node.keys):
                key, item = node.keys[index], node.items[index]
                if node.level:
                    return _Head(key, item, None, node.level - 1)
                return _Head(key, None, item, -1)
            self._path.pop()
        return None

    def skip(self) -> None:
        """Step over the entry or the whole subtree."""
        if self._root is not None:
            self._root = None
        else:
            node, index = self._path[-1]
            self._path[-1] = (node, index + 1)

    def enter(self) -> None:
        """Step into the subtree."""
        if self._root is not None:
            node = self._table._load(self._root)
        else:
            parent, index = self._path[-1]
            node = self._table._child(parent, index)
        self.skip()
        self._path.append((node, 0))

    def remaining_keys(self) -> Iterator[bytes]:
        """Keys of all entries that are left."""
        while head := self.head():
            if head.cid is not None:
                self.enter()
            else:
                yield head.key
                self.skip()


def _open_larger(mine: _Cursor, left: _Head, theirs: _Cursor, right: _Head) -> None:
    """Enter one of two different subtrees, so that equal ones below are met side by side."""
    if left.level == right.level:
        (mine if left.key <= right.key else theirs).enter()
    elif left.level > right.level:
        mine.enter()
    else:
        theirs.enter()
