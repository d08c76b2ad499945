"""What the tests of trees share: tiny profiles, a clock, independent rebuilding, crashes."""

from __future__ import annotations

import os
import stat
from typing import Any

from ipld import dirdag, filedag
from ipld.dirdag import Entry
from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025, Profile
from mfs.node import ROOT_INO
from mfs.roots import Roots
from mfs.tree import Tree
from repo.backend_memory import MemoryBackend
from repo.service import Repo

TINY = UNIXFS_V1_2025.with_options(
    name="tiny", chunk_size_bytes=16, max_file_links=3, hamt_fanout=8, hamt_threshold_bytes=200
)
TINY_V0 = UNIXFS_V0_2015.with_options(
    name="tiny-v0", chunk_size_bytes=11, max_file_links=2, hamt_fanout=16, hamt_threshold_bytes=150
)
TINY_TRICKLE = TINY.with_options(name="tiny-trickle", layout="trickle", raw_leaves=False)
TINY_INLINE = TINY.with_options(name="tiny-inline", inline=True, inline_limit_bytes=12)
TINY_PROFILES = (TINY, TINY_V0, TINY_TRICKLE, TINY_INLINE)

SECOND_NS = 10**9


class Clock:
    """Moves by a microsecond with each look, and otherwise when told to."""

    def __init__(self, start_ns: int = 1_700_000_000 * SECOND_NS) -> None:
        self.now_ns = start_ns

    def __call__(self) -> int:
        self.now_ns += 1000
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND_NS)


class World:
    """One store with roots, which can be closed, opened again, and lose power."""

    def __init__(self, profile: Profile = TINY, capacity_bytes: int | None = None) -> None:
        self.backend = MemoryBackend(capacity_bytes)
        self.clock = Clock()
        self._open()
        self.roots.create("main", profile, uid=0, gid=0)

    @property
    def tree(self) -> Tree:
        return self.roots.tree("main")

    def _open(self) -> None:
        self.repo = Repo.in_memory(self.backend)
        self.roots = Roots(self.repo, self.clock)

    def reopen(self) -> Tree:
        """A clean restart."""
        self.roots.close()
        self._open()
        return self.tree

    def crash(self, kept_count: int = 0) -> Tree:
        """Power goes; of what was written and not committed, only the first writes stay."""
        self.backend.crash(kept_count)
        self._open()
        return self.tree


def put_nothing(_block: object) -> None:
    """A `Put` for DAGs of which only the CID is wanted."""


def file_cid(data: bytes, profile: Profile) -> bytes:
    """What an importer that knows nothing of this layer gives for a file."""
    return filedag.add_bytes(data, profile, put_nothing).cid


def make_file(tree: Tree, name: bytes, data: bytes = b"", parent: int = ROOT_INO) -> int:
    """A new file with this content; returns its number."""
    ino = tree.create(parent, name, 0o644, 0, 0).ino
    if data:
        tree.write(ino, 0, data)
    return ino


def content(tree: Tree, ino: int) -> bytes:
    """All bytes of a file."""
    return bytes(tree.read(ino, 0, 1 << 40))


Model = dict[bytes, Any]
"""A directory: names with bytes (a file), str (a symlink's target) or another Model."""


def read_tree(tree: Tree, ino: int = ROOT_INO) -> Model:
    """Everything that a tree shows and a DAG can hold."""
    found: Model = {}
    for name, child, _ in tree.readdir(ino):
        mode = tree.getattr(child).mode
        if stat.S_ISDIR(mode):
            found[name] = read_tree(tree, child)
        elif stat.S_ISLNK(mode):
            found[name] = os.fsdecode(tree.readlink(child))
        elif stat.S_ISREG(mode):
            found[name] = content(tree, child)
    return found


def model_link(model: Model, profile: Profile) -> dirdag.DirLink:
    """The directory that an importer makes of a model."""
    entries = []
    link: dirdag.DirLink | filedag.FileLink
    for name, item in model.items():
        if isinstance(item, dict):
            link = model_link(item, profile)
        elif isinstance(item, str):
            link = filedag.symlink(os.fsencode(item), profile, put_nothing)
        else:
            link = filedag.add_bytes(item, profile, put_nothing)
        entries.append(Entry(name, link.cid, link.tsize))
    return dirdag.build(entries, profile, put_nothing)


def model_cid(model: Model, profile: Profile) -> bytes:
    """The CID that an importer gives."""
    return model_link(model, profile).cid
