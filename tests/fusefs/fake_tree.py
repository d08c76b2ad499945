"""Trees in RAM that misbehave on request, for what a sound tree cannot show.

A fault is looked up by the name that an operation is about: a file called `b"raise-KeyError"`
makes whatever touches it fail. The sound behaviour is just enough for a mount to work.
"""

from __future__ import annotations

import itertools
import stat as modes
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ipld import cid as cids
from ipld.block import Block
from ipld.profile import UNIXFS_V1_2025
from mfs import posix
from mfs.errors import (
    DirectoryNotEmpty,
    EntryExists,
    NoSuchAttribute,
    NoSuchEntry,
    RootNotFound,
    SnapshotNotFound,
    StaleInode,
)
from mfs.node import Stat, StatFs


class Node:
    def __init__(self, ino: int, mode: int, uid: int, gid: int) -> None:
        self.ino, self.mode, self.uid, self.gid = ino, mode, uid, gid
        self.data = bytearray()
        self.names: dict[bytes, Node] = {}
        self.xattrs: dict[bytes, bytes] = {}
        self.times = [time.time_ns()] * 3
        self.opens = 0


class FakeTree:
    """The part of a tree's interface that the adapter's own tests need."""

    def __init__(self, *, read_only: bool = False) -> None:
        self.read_only = read_only
        self.atime = True
        self.would_wait = False
        self._numbers = itertools.count(2)
        self.nodes = {1: Node(1, modes.S_IFDIR | 0o755, 0, 0)}
        self.faults: dict[bytes, Callable[[], None]] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.lock = threading.RLock()

    def _node(self, ino: int) -> Node:
        try:
            return self.nodes[ino]
        except KeyError:
            raise StaleInode(ino) from None

    def _fault(self, name: bytes) -> None:
        if name in self.faults:
            self.faults[name]()

    def _stat(self, node: Node) -> Stat:
        size = len(node.data)
        blocks = -(-size // 512)
        times = (node.times[0], node.times[1], node.times[2])
        return Stat(node.ino, node.mode, 1, node.uid, node.gid, 0, size, blocks, *times, 0)

    def lookup(self, parent: int, name: bytes) -> Stat:
        self._fault(name)
        try:
            return self._stat(self._node(parent).names[name])
        except KeyError:
            raise NoSuchEntry(repr(name)) from None

    def getattr(self, ino: int) -> Stat:
        return self._stat(self._node(ino))

    def parent_of(self, ino: int) -> int:
        above = (n.ino for n in self.nodes.values() if self.nodes[ino] in n.names.values())
        return next(above, 1)

    def setattr(self, ino: int, **changes: int) -> Stat:
        self.calls.append(("setattr", ino, changes))
        node = self._node(ino)
        if {"uid", "gid", "size"} & changes.keys():
            node.mode = posix.without_privileges(node.mode)
        if "mode" in changes:
            node.mode = modes.S_IFMT(node.mode) | changes["mode"]
        node.uid, node.gid = changes.get("uid", node.uid), changes.get("gid", node.gid)
        if "size" in changes:
            del node.data[changes["size"] :]
            node.data.extend(bytes(changes["size"] - len(node.data)))
        return self._stat(node)

    def _make(self, parent: int, name: bytes, mode: int, uid: int, gid: int) -> Stat:
        with self.lock:
            self._fault(name)
            names = self._node(parent).names
            if name in names:
                raise EntryExists(repr(name))
            node = Node(next(self._numbers), mode, uid, gid)
            names[name] = self.nodes[node.ino] = node
            return self._stat(node)

    def create(self, parent: int, name: bytes, mode: int, uid: int, gid: int) -> Stat:
        return self._make(parent, name, modes.S_IFREG | modes.S_IMODE(mode), uid, gid)

    def mkdir(self, parent: int, name: bytes, mode: int, uid: int, gid: int) -> Stat:
        return self._make(parent, name, modes.S_IFDIR | modes.S_IMODE(mode), uid, gid)

    def link(self, ino: int, parent: int, name: bytes) -> Stat:
        self._node(parent).names[name] = self._node(ino)
        return self._stat(self._node(ino))

    def unlink(self, parent: int, name: bytes) -> None:
        names = self._node(parent).names
        if name not in names:
            raise NoSuchEntry(repr(name))
        del names[name]

    def rmdir(self, parent: int, name: bytes) -> None:
        if self._node(parent).names[name].names:
            raise DirectoryNotEmpty(repr(name))
        self.unlink(parent, name)

    def rename(
        self,
        parent: int,
        name: bytes,
        new_parent: int,
        new_name: bytes,
        *,
        no_replace: bool = False,
        exchange: bool = False,
    ) -> None:
        self.calls.append(("rename", name, new_name, no_replace, exchange))
        self._node(new_parent).names[new_name] = self._node(parent).names.pop(name)

    def open(self, ino: int) -> None:
        self._node(ino).opens += 1

    def release(self, ino: int) -> None:
        self._node(ino).opens -= 1

    def read(self, ino: int, offset: int, length: int) -> bytes:
        data = self._node(ino).data
        if data.startswith(b"fault:"):
            self._fault(bytes(data[6:]))
        return bytes(data[offset : offset + length])

    def write(self, ino: int, offset: int, data: bytes, *, clear_privileges: bool = True) -> int:
        if clear_privileges:
            self._node(ino).mode = posix.without_privileges(self._node(ino).mode)
        stored = self._node(ino).data
        if len(stored) < offset:
            stored.extend(bytes(offset - len(stored)))
        stored[offset : offset + len(data)] = data
        return len(data)

    def fsync(self, ino: int) -> None:
        self.calls.append(("fsync", ino))

    def readdir(self, ino: int) -> list[tuple[bytes, int, int]]:
        return [(name, node.ino, node.mode) for name, node in self._node(ino).names.items()]

    def getxattr(self, ino: int, name: bytes) -> bytes:
        try:
            return self._node(ino).xattrs[name]
        except KeyError:
            raise NoSuchAttribute(repr(name)) from None

    def setxattr(self, ino: int, name: bytes, value: bytes, flags: int = 0) -> None:
        del flags
        self._node(ino).xattrs[name] = value

    def listxattr(self, ino: int) -> list[bytes]:
        return list(self._node(ino).xattrs)

    def removexattr(self, ino: int, name: bytes) -> None:
        self.getxattr(ino, name)
        del self._node(ino).xattrs[name]

    def statfs(self) -> StatFs:
        return StatFs(1 << 30, 1 << 29, 1000, 500, 255)

    def cid_of(self, ino: int) -> bytes:
        return Block.build(bytes(self._node(ino).data), cids.RAW, UNIXFS_V1_2025).cid

    def dagsize_of(self, ino: int) -> int:
        return len(self._node(ino).data)

    def close(self) -> None:
        self.calls.append(("close",))


class FakeRoot(NamedTuple):
    name: str
    root_id: int


class FakeRoots:
    """Named trees, each with a number."""

    def __init__(self, *names: str) -> None:
        self.trees = {name: FakeTree() for name in names}
        self.ids = {name: number for number, name in enumerate(names, 1)}
        self.snapshot_trees: dict[tuple[str, str], FakeTree] = {}
        self.cid_trees: dict[bytes, FakeTree] = {}
        self.synced: list[str | None] = []

    def tree(self, name: str) -> FakeTree:
        if name not in self.trees:
            raise RootNotFound(name)
        return self.trees[name]

    def stat(self, name: str) -> FakeRoot:
        self.tree(name)
        return FakeRoot(name, self.ids[name])

    def list(self) -> list[FakeRoot]:
        return [self.stat(name) for name in self.trees]

    def snapshots(self, name: str) -> Sequence[str]:
        return [snapshot for root, snapshot in self.snapshot_trees if root == name]

    def snapshot_tree(self, name: str, snapshot: str) -> FakeTree:
        try:
            return self.snapshot_trees[(name, snapshot)]
        except KeyError:
            raise SnapshotNotFound(name, snapshot) from None

    def cid_tree(self, cid: bytes) -> FakeTree:
        return self.cid_trees[cid]

    def statfs(self) -> StatFs:
        return StatFs(1 << 30, 1 << 29, 1000, 500, 255)

    def sync(self, name: str | None = None) -> None:
        self.synced.append(name)
