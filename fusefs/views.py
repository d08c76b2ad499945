"""Which trees a mount shows, and how one gets from one to another.

Three views: one root (branch 0 is its tree), all roots (branch 0 is a virtual directory of them),
one CID (branch 0, read-only). Each root also has a virtual directory `.snapshots` at its top:
found by name, never listed, so that a copy, a backup and the CID do not see it. A real entry of
that name, in a tree made elsewhere, wins over the virtual one.

Invariants:
- A branch index means the same tree as long as the mount lives, or nothing any more.
- A snapshot's tree is open from the kernel's first look at it to its last forget.

Lock: `_lock` guards the making and the dropping of branches. It is held while a tree is opened,
never while one is read or written. Reading `branches` needs no lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from fusefs.attrs import INO_BITS, INO_MASK, TOP_INODE, TREE_TOP_INO, presenter
from fusefs.errors import NoSuchName, StaleInode
from fusefs.options import MountOptions
from fusefs.virtual import Listing, VirtualTree, directory_entry
from ipld import cid as cids
from mfs.errors import RootNotFound, SnapshotNotFound
from mfs.roots import Roots
from mfs.tree import Tree

SNAPSHOTS_NAME = b".snapshots"
FIRST_SNAPSHOT_INDEX = 0x8000
"""Below it, an index is a root's id."""
VIRTUAL_INDEX = 0xFFFF
"""The branch of all `.snapshots` directories; the number of one is its root's index + 1."""


class Branch:
    """One tree in the view."""

    __slots__ = (
        "gone",
        "index",
        "known_count",
        "present",
        "root",
        "shift",
        "snapshot",
        "tree",
        "virtual",
    )

    def __init__(
        self,
        index: int,
        tree: Tree | VirtualTree,
        options: MountOptions,
        *,
        root: str | None = None,
        snapshot: str | None = None,
        generation: int = 0,
    ) -> None:
        self.index = index
        self.tree = tree
        self.root = root
        self.snapshot = snapshot
        self.virtual = isinstance(tree, VirtualTree)
        self.shift = 0 if self.virtual else index << INO_BITS
        self.present = presenter(0 if self.virtual else index, generation, options)
        self.gone = False
        """Replaced or dropped beside the kernel; files that are open in it are stale."""
        self.known_count = 0
        """Lookups the kernel has not forgotten yet; counted for snapshots."""

    @property
    def is_root(self) -> bool:
        """A root's own tree, which has a `.snapshots` at its top."""
        return self.root is not None and self.snapshot is None


class Views:
    """The branches of one mount."""

    def __init__(self, roots: Roots, options: MountOptions) -> None:
        """Raises RootNotFound, or what opening a tree raises."""
        self._roots = roots
        self._options = options
        self._lock = threading.Lock()
        self._generations: dict[int, int] = {}
        self._snapshot_indexes: dict[tuple[int, str], int] = {}
        self._next_snapshot_index = FIRST_SNAPSHOT_INDEX
        self._virtual = VirtualTree(self._list_virtual, roots.statfs)
        self.branches: dict[int, Branch] = {
            VIRTUAL_INDEX: Branch(VIRTUAL_INDEX, self._virtual, options)
        }
        if options.all_roots:
            self.branches[0] = Branch(0, self._virtual, options)
        elif options.cid:
            self.branches[0] = Branch(0, roots.cid_tree(cids.parse(options.cid)), options)
        else:
            self.branches[0] = self._open_root(options.root_name or "", 0)

    @property
    def shows_all(self) -> bool:
        return self._options.all_roots

    def locate(self, inode: int) -> tuple[Branch, int]:
        """The branch and the number in its tree. Raises StaleInode."""
        branch = self.branches.get(inode >> INO_BITS)
        if branch is None:
            raise StaleInode(
                f"inode {inode}: its root or snapshot is gone (look its path up again)"
            )
        return branch, inode if branch.virtual else inode & INO_MASK

    def enter(self, directory: int, name: bytes) -> tuple[Branch, int]:
        """Go from a virtual directory into a root's or a snapshot's top. Raises NoSuchName."""
        try:
            text = name.decode()
        except UnicodeDecodeError:
            raise NoSuchName(repr(name)) from None
        if directory == TOP_INODE:
            return self._enter_root(text), TREE_TOP_INO
        return self._enter_snapshot((directory & INO_MASK) - 1, text), TREE_TOP_INO

    def snapshots_directory(self, branch: Branch) -> int:
        """Inode of the virtual `.snapshots` of a root."""
        return VIRTUAL_INDEX << INO_BITS | (branch.index + 1)

    def forget(self, index: int, count: int) -> None:
        """The kernel drops `count` lookups below a branch; an unused snapshot is closed."""
        branch = self.branches.get(index)
        if branch is None or branch.snapshot is None:
            return
        with self._lock:
            branch.known_count -= count
            if branch.known_count <= 0:
                self.branches.pop(index, None)

    def replace(self, root: str) -> None:
        """A command changed, dropped or made `root`: show its present state from now on.

        Its branches, those of its snapshots included, are gone for whoever has them open.
        """
        with self._lock:
            gone = [branch for branch in self.branches.values() if branch.root == root]
            self._retire(gone)
            if self._options.root_name == root:
                self.branches[0] = self._open_root(root, 0)
            for branch in gone:
                if self.branches.get(branch.index) is branch:
                    del self.branches[branch.index]

    def drop_snapshot(self, root: str, name: str) -> None:
        """A command dropped one snapshot."""
        with self._lock:
            gone = [
                branch
                for branch in self.branches.values()
                if branch.root == root and branch.snapshot == name
            ]
            self._retire(gone)
            for branch in gone:
                del self.branches[branch.index]

    def _retire(self, gone: Iterable[Branch]) -> None:
        for branch in gone:
            branch.gone = True
            self._generations[branch.index] = self._generations.get(branch.index, 0) + 1

    def close(self) -> None:
        """Let go of what was opened for this mount alone."""
        for branch in self.branches.values():
            branch.tree.close()

    def _open_root(self, name: str, index: int) -> Branch:
        tree = self._roots.tree(name)
        tree.atime = self._options.update_atime
        return Branch(
            index, tree, self._options, root=name, generation=self._generations.get(index, 0)
        )

    def _enter_root(self, name: str) -> Branch:
        try:
            index = self._roots.stat(name).root_id
        except RootNotFound:
            raise NoSuchName(name) from None
        if index >= FIRST_SNAPSHOT_INDEX:
            raise NoSuchName(
                f"{name}: a mount of all roots numbers 32,767 of them (mount it alone)"
            )
        with self._lock:
            branch = self.branches.get(index)
            if branch is None:
                branch = self.branches[index] = self._open_root(name, index)
            return branch

    def _enter_snapshot(self, root_index: int, name: str) -> Branch:
        owner = self.branches.get(root_index)
        if owner is None or owner.root is None:
            raise StaleInode(f"root {root_index} is gone")
        with self._lock:
            index = self._snapshot_index(root_index, name)
            branch = self.branches.get(index)
            if branch is None:
                try:
                    tree = self._roots.snapshot_tree(owner.root, name)
                except (RootNotFound, SnapshotNotFound):
                    raise NoSuchName(name) from None
                generation = self._generations.get(index, 0)
                branch = Branch(
                    index,
                    tree,
                    self._options,
                    root=owner.root,
                    snapshot=name,
                    generation=generation,
                )
                self.branches[index] = branch
                self._snapshot_indexes[(root_index, name)] = index
            return branch

    def _snapshot_index(self, root_index: int, name: str) -> int:
        known = self._snapshot_indexes.get((root_index, name))
        if known is not None:
            return known
        if self._next_snapshot_index >= VIRTUAL_INDEX:
            raise StaleInode("more snapshots were looked at than one mount can number (remount)")
        self._next_snapshot_index += 1
        return self._next_snapshot_index - 1

    def _list_virtual(self, directory: int) -> Listing:
        if directory == TOP_INODE:
            return [
                directory_entry(root.name, root.root_id << INO_BITS | TREE_TOP_INO)
                for root in self._roots.list()
            ]
        owner = self.branches.get((directory & INO_MASK) - 1)
        if owner is None or owner.root is None:
            raise StaleInode(f"inode {directory}: its root is gone")
        # The number in a listing is only a hint; a lookup gives the one that counts.
        return [directory_entry(name, directory) for name in self._roots.snapshots(owner.root)]
