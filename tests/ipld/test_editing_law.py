"""The editing law of whole trees: after any history of writes, renames and removals, the root has
the CID that adding the same tree at once gives. `filedag.edit` and `dirdag.edit` work together as
the file system uses them: leaves are replaced below, then each directory up to the root."""

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ipld import chunk, dirdag, filedag, walk
from ipld.dirdag import Entry
from ipld.filedag import FileLink
from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025, Profile
from tests.ipld.memory import MemoryDag

Tree = dict[bytes, "Tree | bytes"]

NAMES = [b"a", b"b", b"a rather long name", b"\xff\xfe", b"e", b"f", b"g", b"h"]
# Tiny limits, so that a few operations cross every one of them in both directions.
TINY = {
    "chunk_size_bytes": 4,
    "max_file_links": 3,
    "hamt_fanout": 8,
    "hamt_threshold_bytes": 160,
}
names = st.sampled_from(NAMES)
paths = st.lists(names, max_size=3).map(tuple)
contents = st.binary(max_size=60)


def add_tree(tree: Tree, profile: Profile, dag: MemoryDag) -> Entry:
    """What importing the tree at once gives."""
    entries = []
    for name, child in tree.items():
        if isinstance(child, dict):
            entries.append(add_tree(child, profile, dag)._replace(name=name))
        else:
            link = filedag.add_bytes(child, profile, dag.put)
            entries.append(Entry(name, link.cid, link.tsize))
    return Entry(b"", *dirdag.build(entries, profile, dag.put))


def rewrite(old: bytes, new: bytes, link: FileLink, profile: Profile, dag: MemoryDag) -> FileLink:
    """Make `new` of the file `old` by handing only the leaves that differ to `edit`."""
    size = profile.chunk_size_bytes
    count = chunk.leaf_count(len(new), size)
    replaced = {}
    for index in range(count):
        leaf = new[index * size : (index + 1) * size]
        if leaf != old[index * size : (index + 1) * size] or index * size >= max(len(old), 1):
            block, replaced[index] = filedag.make_leaf(leaf, profile)
            dag.put(block)
    return filedag.edit(link, replaced, count, profile, dag.get, dag.put)


class EditedTree(RuleBasedStateMachine):
    """A tree as plain Python values, and beside it the edited DAG that must keep up with it."""

    base: Profile = UNIXFS_V1_2025

    @initialize(inline=st.booleans(), max_directory_links=st.sampled_from([0, 2, 4]))
    def start(self, inline: bool, max_directory_links: int) -> None:
        self.profile = self.base.with_options(
            inline=inline, max_directory_links=max_directory_links, **TINY
        )
        self.dag = MemoryDag()
        self.tree: Tree = {}
        self.root = Entry(b"", *dirdag.empty(self.profile, self.dag.put))
        self.memo = dirdag.SizeMemo()

    # ---- the model

    def directory(self, path: tuple[bytes, ...]) -> Tree | None:
        node: Tree | bytes = self.tree
        for name in path:
            if not isinstance(node, dict) or name not in node:
                return None
            node = node[name]
        return node if isinstance(node, dict) else None

    # ---- the DAG

    def change(self, path: tuple[bytes, ...], changes: dict[bytes, Entry | None]) -> None:
        """Edit the directory at `path`, then each one above it."""
        above = [self.root]
        for name in path:
            found = dirdag.lookup(above[-1].cid, name, self.dag.get)
            assert found is not None
            above.append(found)
        while above:
            entry = above.pop()
            link = dirdag.edit(
                entry.cid, changes, self.profile, self.dag.get, self.dag.put, memo=self.memo
            )
            self.root = entry._replace(cid=link.cid, tsize=link.tsize)
            changes = {self.root.name: self.root}

    def entry(self, path: tuple[bytes, ...], name: bytes) -> Entry:
        cid = self.root.cid
        for step in path:
            found = dirdag.lookup(cid, step, self.dag.get)
            assert found is not None
            cid = found.cid
        found = dirdag.lookup(cid, name, self.dag.get)
        assert found is not None
        return found

    # ---- operations

    @rule(path=paths, name=names, content=contents)
    def create_or_replace_file(self, path, name, content) -> None:
        if (directory := self.directory(path)) is not None:
            directory[name] = content
            link = filedag.add_bytes(content, self.profile, self.dag.put)
            self.change(path, {name: Entry(name, link.cid, link.tsize)})

    @rule(path=paths, name=names)
    def make_directory(self, path, name) -> None:
        directory = self.directory(path)
        if directory is not None and name not in directory:
            directory[name] = {}
            link = dirdag.empty(self.profile, self.dag.put)
            self.change(path, {name: Entry(name, link.cid, link.tsize)})

    @rule(path=paths, name=names, offset=st.integers(0, 70), data=contents, cut=st.booleans())
    def write_into_file(self, path, name, offset, data, cut) -> None:
        """Overwrite, append, write behind a hole, and with `cut` truncate behind it."""
        directory = self.directory(path)
        if directory is None or not isinstance(old := directory.get(name), bytes):
            return
        new = old[:offset].ljust(offset, b"\0") + data
        if not cut:
            new += old[len(new) :]
        entry = self.entry(path, name)
        link = rewrite(old, new, FileLink(entry.cid, entry.tsize, len(old)), self.profile, self.dag)
        assert link.size == len(new)
        directory[name] = new
        self.change(path, {name: Entry(name, link.cid, link.tsize)})

    @precondition(lambda self: self.tree)
    @rule(path=paths, data=st.data())
    def remove(self, path, data) -> None:
        directory = self.directory(path)
        if directory:
            name = data.draw(st.sampled_from(sorted(directory)))
            del directory[name]
            self.change(path, {name: None})

    @precondition(lambda self: self.tree)
    @rule(path=paths, data=st.data(), new_path=paths, new_name=names)
    def rename(self, path, data, new_path, new_name) -> None:
        directory, target = self.directory(path), self.directory(new_path)
        if not directory or target is None:
            return
        name = data.draw(st.sampled_from(sorted(directory)))
        if new_path[: len(path) + 1] == (*path, name):
            return  # a directory does not go into itself
        moved = self.entry(path, name)
        target[new_name] = directory.pop(name)
        if target is directory:
            renamed = {name: None, new_name: moved._replace(name=new_name)}
            self.change(path, renamed)
        else:
            self.change(path, {name: None})
            self.change(new_path, {new_name: moved._replace(name=new_name)})

    @rule(path=paths, count=st.integers(1, 12))
    def fill_and_empty_at_once(self, path, count) -> None:
        """One bulk edit in each direction, across the limit and back."""
        if (directory := self.directory(path)) is not None:
            bulk = [b"bulk %d" % index for index in range(count)]
            link = filedag.add_bytes(b"bulk", self.profile, self.dag.put)
            self.change(path, {name: Entry(name, link.cid, link.tsize) for name in bulk})
            kept = bulk[::3]
            directory.update(dict.fromkeys(kept, b"bulk"))
            gone = [name for name in bulk if name not in kept and name in directory]
            for name in gone:
                del directory[name]
            self.change(path, dict.fromkeys(set(bulk) - set(kept)))

    # ---- the law

    @invariant()
    def root_is_that_of_adding_the_tree_at_once(self) -> None:
        if hasattr(self, "root"):
            assert self.root == add_tree(self.tree, self.profile, MemoryDag())

    def teardown(self) -> None:
        if hasattr(self, "root"):
            assert dict(read_tree(self.root.cid, self.dag)) == dict(flatten(self.tree))
            # Everything that the root needs is there.
            list(walk.walk([self.root.cid], self.dag.get))


def flatten(tree: Tree, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes | None]]:
    for name, child in tree.items():
        path = prefix + b"/" + name
        if isinstance(child, dict):
            yield path, None
            yield from flatten(child, path)
        else:
            yield path, child


def read_tree(
    cid: bytes, dag: MemoryDag, prefix: bytes = b""
) -> Iterator[tuple[bytes, bytes | None]]:
    for entry in dirdag.entries(cid, dag.get):
        path = prefix + b"/" + entry.name
        if dirdag.node_kind(entry.cid, dag.get) == "directory":
            yield path, None
            yield from read_tree(entry.cid, dag, path)
        else:
            reader = filedag.FileReader(entry.cid, dag.get)
            yield path, reader.read(0, reader.size)


@pytest.mark.parametrize("base", [UNIXFS_V0_2015, UNIXFS_V1_2025], ids=lambda base: base.name)
@pytest.mark.parametrize("raw_leaves", [False, True], ids=["dag-pb", "raw"])
def test_any_history_of_a_tree_has_the_root_of_one_import(base, raw_leaves):
    machine = type("Machine", (EditedTree,), {"base": base.with_options(raw_leaves=raw_leaves)})
    # Each step builds the tree anew, so fewer and longer histories than the profile's.
    examples = max(15, settings().max_examples // 4)
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=30)
    )
