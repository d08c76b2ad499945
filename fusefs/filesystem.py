"""The file system as a transport sees it: one handler is one call into a tree.

Synchronous and thread-safe. Inodes, names and answers are the kernel's; a `Stat` returned here is
ready to be shown. Errors are those of the layers below and of `fusefs.errors`; `fusefs.errno`
turns them into numbers.

What is done here and nowhere below, because it concerns the mount and not the tree:
- finding the tree behind an inode (`views`), and refusing what would cross two of them;
- what an open file may do, O_TRUNC, O_SYNC and the `sync=` policy;
- whose writes and truncations leave set-user-ID and set-group-ID: root's do; taking them away is
  left to us by the kernel (FUSE_HANDLE_KILLPRIV) and done by the tree;
- the facts `ipfs.*` (`facts`).
"""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from fusefs.attrs import INO_BITS, TOP_INODE, TREE_TOP_INO
from fusefs.errors import (
    CrossesTrees,
    InvalidRequest,
    NoSuchName,
    OperationNotPermitted,
    ReadOnlyView,
    StaleInode,
)
from fusefs.facts import FACTS_PREFIX, Facts, PinState, no_pins
from fusefs.handles import DirectoryHandle, FileHandle, Handle, Handles
from fusefs.options import MountOptions
from fusefs.views import SNAPSHOTS_NAME, Branch, Views
from ipld.block import BytesLike
from mfs.errors import EntryExists, NoSuchEntry
from mfs.errors import StaleInode as StaleTreeInode
from mfs.node import Stat, StatFs
from mfs.roots import Roots

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
SET_ID_BITS = modes.S_ISUID | modes.S_ISGID
LISTED = tuple[bytes, Stat, int]
"""Name, what is shown of it, and the position to go on from."""


class Notifier(Protocol):
    """How the kernel hears of changes that did not come through it. Callable from any thread, but
    not from a handler of the same inode or directory: the kernel may hold its lock."""

    def entry(self, parent: int, name: bytes) -> None:
        """Forget the name and everything below it."""

    def inode(self, inode: int, *, attributes_only: bool) -> None:
        """Forget cached attributes, and content unless told otherwise."""


class _Deaf:
    """Before a transport is there."""

    def entry(self, parent: int, name: bytes) -> None: ...

    def inode(self, inode: int, *, attributes_only: bool) -> None: ...


class FileSystem:
    """One mount's file system."""

    def __init__(
        self, roots: Roots, options: MountOptions, *, pin_state: PinState = no_pins
    ) -> None:
        self.close_waits = options.sync == "close"
        self.write_waits = options.sync == "always"
        """Whether close or write make something durable, so that they take their time."""
        self.notifier: Notifier = _Deaf()
        self._roots = roots
        self._options = options
        self._views = Views(roots, options)
        self._handles = Handles()
        self._facts = Facts(pin_state)
        self._removed: dict[int, DirectoryHandle] = {}
        """Removed directories that the kernel still knows, each opened once."""

    # -------------------------------------------------------------------- what a call may cost

    def inode_waits(self, inode: int) -> bool:
        """Whether a call on this inode is known to take long. A hint, false for unknown ones."""
        branch = self._views.branches.get(inode >> INO_BITS)
        return branch is not None and branch.tree.would_wait

    def handle_waits(self, fh: int) -> bool:
        """The same for a handle."""
        branch = self._handles.branch(fh)
        return branch is not None and branch.tree.would_wait

    # ------------------------------------------------------------------- names and attributes

    def lookup(self, parent: int, name: bytes) -> Stat:
        branch, ino = self._views.locate(parent)
        if branch.virtual:
            branch, ino = self._views.enter(ino, name)
            return self._known(branch, branch.tree.getattr(ino))
        if name == SNAPSHOTS_NAME and ino == TREE_TOP_INO and branch.is_root:
            return self._lookup_snapshots(branch)
        return self._known(branch, branch.tree.lookup(ino, name))

    def remembers_missing(self, parent: int) -> bool:
        """May the kernel cache that a name is not there? Not where commands make names: they know
        which names to invalidate, and not which were asked for in vain."""
        return parent != TOP_INODE and not self._views.locate(parent)[0].virtual

    def forget(self, inodes: Iterable[tuple[int, int]]) -> None:
        """The kernel drops that many lookups of each inode; it does so when it drops the last."""
        for inode, count in inodes:
            if inode in self._removed:
                _release(self._removed.pop(inode))
            if inode >> INO_BITS:
                self._views.forget(inode >> INO_BITS, count)

    def getattr(self, inode: int) -> Stat:
        branch, ino = self._views.locate(inode)
        return branch.present(branch.tree.getattr(ino))

    def setattr(self, inode: int, changes: Mapping[str, int], caller: int) -> Stat:
        """`changes`: any of mode, uid, gid, size, atime_ns, mtime_ns, ctime_ns."""
        branch, ino = self._writable(inode)
        if self._options.uid is not None and "uid" in changes:
            raise OperationNotPermitted("owners cannot be changed under the mount option uid=")
        if self._options.gid is not None and "gid" in changes:
            raise OperationNotPermitted("groups cannot be changed under the mount option gid=")
        if caller == 0 and "size" in changes and "mode" not in changes:
            changes = {**changes, **_kept_mode(branch, ino)}
        return branch.present(branch.tree.setattr(ino, **changes))

    def readlink(self, inode: int) -> bytes:
        branch, ino = self._views.locate(inode)
        return branch.tree.readlink(ino)

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> Stat:
        branch, ino = self._named(parent, name)
        return self._known(branch, branch.tree.mknod(ino, name, mode, rdev, uid, gid))

    def mkdir(self, parent: int, name: bytes, mode: int, uid: int, gid: int) -> Stat:
        branch, ino = self._named(parent, name)
        return self._known(branch, branch.tree.mkdir(ino, name, mode, uid, gid))

    def symlink(self, parent: int, name: bytes, target: bytes, uid: int, gid: int) -> Stat:
        branch, ino = self._named(parent, name)
        return self._known(branch, branch.tree.symlink(ino, name, target, uid, gid))

    def link(self, inode: int, new_parent: int, new_name: bytes) -> Stat:
        source, ino = self._writable(inode)
        branch, new_ino = self._named(new_parent, new_name)
        if source is not branch:
            raise CrossesTrees("a hard link cannot reach from one root to another")
        return self._known(branch, branch.tree.link(ino, new_ino, new_name))

    def unlink(self, parent: int, name: bytes) -> None:
        branch, ino = self._writable(parent)
        branch.tree.unlink(ino, name)

    def rmdir(self, parent: int, name: bytes) -> None:
        """The directory answers on, empty, until the kernel forgets it: it may be somebody's
        working directory."""
        branch, ino = self._writable(parent)
        tree = branch.tree
        removed = tree.lookup(ino, name).ino
        tree.open(removed)
        try:
            tree.rmdir(ino, name)
        except BaseException:
            tree.release(removed)
            raise
        self._removed[branch.shift | removed] = DirectoryHandle(branch, removed)

    def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int
    ) -> None:
        """`flags`: RENAME_NOREPLACE or RENAME_EXCHANGE, as renameat2(2)."""
        no_replace, exchange = bool(flags & RENAME_NOREPLACE), bool(flags & RENAME_EXCHANGE)
        if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE) or (no_replace and exchange):
            raise InvalidRequest(f"rename with flags {flags:#x}")
        source, ino = self._named(parent, name)
        branch, new_ino = self._named(new_parent, new_name)
        if source is not branch:
            raise CrossesTrees("a rename cannot move from one root to another")
        branch.tree.rename(ino, name, new_ino, new_name, no_replace=no_replace, exchange=exchange)

    # ------------------------------------------------------------------------------ files

    def create(
        self, parent: int, name: bytes, mode: int, flags: int, uid: int, gid: int
    ) -> tuple[int, Stat]:
        """Make and open a file; one that is already there is opened unless O_EXCL is set."""
        branch, ino = self._named(parent, name)
        try:
            stat = branch.tree.create(ino, name, mode, uid, gid)
        except EntryExists:
            if flags & os.O_EXCL:
                raise
            stat = branch.tree.lookup(ino, name)
        handle = self._open(branch, stat.ino, flags, uid)
        if flags & os.O_TRUNC:
            stat = branch.tree.getattr(stat.ino)
        return handle, self._known(branch, stat)

    def open(self, inode: int, flags: int, uid: int) -> int:
        """A handle number. O_TRUNC is done here: the kernel leaves it to us."""
        branch, ino = self._views.locate(inode)
        return self._open(branch, ino, flags, uid)

    def read(self, fh: int, offset: int, length: int) -> BytesLike:
        """At most `length` bytes, fewer only at the end of the file."""
        handle = self._handles.file(fh)
        return handle.branch.tree.read(handle.ino, offset, length)

    def write(
        self, fh: int, offset: int, data: BytesLike, *, clear_privileges: bool | None = None
    ) -> int:
        """Bytes written, always all of them. Without `clear_privileges` set-user-ID stays where
        root has opened the file."""
        handle = self._handles.file(fh)
        tree, ino = handle.branch.tree, handle.ino
        if clear_privileges is None:
            clear_privileges = not handle.may_keep_privileges
        if not clear_privileges:
            written = tree.write(ino, offset, data, clear_privileges=False)
        else:
            had_privileges = tree.getattr(ino).mode & SET_ID_BITS
            written = tree.write(ino, offset, data)
            if had_privileges:
                # Between requests the kernel decides by its own copy of the mode whether a
                # program runs with its owner's rights.
                self.notifier.inode(handle.branch.shift | ino, attributes_only=True)
        if handle.synchronous:
            tree.fsync(ino)
        return written

    def flush(self, fh: int) -> None:
        """At every close(2) of a descriptor; only called where the policy wants it."""
        handle = self._handles.file(fh)
        if self.close_waits and handle.writable:
            handle.branch.tree.fsync(handle.ino)

    def release(self, fh: int) -> None:
        """The last descriptor of an open(2) is gone."""
        _release(self._handles.remove(fh))

    def branch_of(self, fh: int) -> Branch | None:
        """Where a handle lives: what `fsync` of any handle there makes durable, whole. None for one
        that is not open.
        """
        return self._handles.branch(fh)

    def fsync(self, fh: int) -> None:
        """Returns when content and name survive a power cut."""
        handle = self._handles.file(fh)
        handle.branch.tree.fsync(handle.ino)

    # ------------------------------------------------------------------------ directories

    def opendir(self, inode: int) -> int:
        branch, ino = self._views.locate(inode)
        branch.tree.open(ino)
        return self._handles.add(DirectoryHandle(branch, ino))

    def readdir(self, fh: int, start: int, count: int) -> list[LISTED]:
        """At most `count` entries from position `start` on; fewer only at the end.

        "." and ".." come first. Entries that went away since the listing was taken are left out.
        """
        handle = self._handles.directory(fh)
        if start == 0 or handle.entries is None:
            handle.entries = handle.branch.tree.readdir(handle.ino)
        listed: list[LISTED] = []
        position = start
        entries = handle.entries
        while len(listed) < count and position < len(entries) + 2:
            position += 1
            if position <= 2:
                listed.append(self._dot(handle, position))
                continue
            name, ino, _ = entries[position - 3]
            try:
                stat = self._listed_stat(handle, name, ino)
            except (NoSuchEntry, NoSuchName, StaleInode, StaleTreeInode):
                continue
            listed.append((name, stat, position))
        return listed

    def listed(self, entries: Sequence[LISTED]) -> None:
        """The kernel took these entries: each counts as a lookup, "." and ".." do not."""
        for name, stat, _ in entries:
            branch = self._views.branches.get(stat.ino >> INO_BITS)
            if branch is not None and name not in (b".", b".."):
                branch.known_count += 1

    def releasedir(self, fh: int) -> None:
        _release(self._handles.remove(fh))

    def fsyncdir(self, fh: int) -> None:
        """Returns when the names survive a power cut."""
        handle = self._handles.directory(fh)
        handle.branch.tree.fsync(handle.ino)

    def statfs(self, inode: int) -> StatFs:
        """Of the root that the inode is in, or of the whole store where all are."""
        return self._views.locate(inode)[0].tree.statfs()

    # ------------------------------------------------------------------ extended attributes

    def getxattr(self, inode: int, name: bytes) -> bytes:
        branch, ino = self._views.locate(inode)
        if name.startswith(FACTS_PREFIX):
            return self._facts.value(branch, ino, name)
        return branch.tree.getxattr(ino, name)

    def setxattr(self, inode: int, name: bytes, value: bytes, flags: int = 0) -> None:
        """`flags` as in setxattr(2)."""
        branch, ino = self._writable(inode)
        _refuse_fact(name)
        branch.tree.setxattr(ino, name, value, flags)

    def listxattr(self, inode: int) -> Sequence[bytes]:
        branch, ino = self._views.locate(inode)
        return branch.tree.listxattr(ino)

    def removexattr(self, inode: int, name: bytes) -> None:
        branch, ino = self._writable(inode)
        _refuse_fact(name)
        branch.tree.removexattr(ino, name)

    # ------------------------------------------------------------- beside the kernel, and end

    @contextmanager
    def changing(self, *names: str) -> Iterator[None]:
        """Around a command that replaces, drops, makes or renames roots.

        Open files of what is gone become stale, and the kernel forgets every name and all content
        it has of these roots: of the old tree's top when that is the mount's top, too.
        """
        before = self._names_at_top(names)
        try:
            yield
        finally:
            for name in names:
                self._views.replace(name)
                if self._views.shows_all:
                    self.notifier.entry(TOP_INODE, name.encode())
            for entry in before | self._names_at_top(names):
                self.notifier.entry(TOP_INODE, entry)
            self.notifier.inode(TOP_INODE, attributes_only=False)

    def snapshot_dropped(self, root: str, snapshot: str) -> None:
        """After a command dropped it."""
        self._views.drop_snapshot(root, snapshot)
        for branch in self._views.branches.values():
            if branch.root == root and branch.is_root:
                directory = self._views.snapshots_directory(branch)
                self.notifier.entry(directory, snapshot.encode())

    def sync(self) -> None:
        """Everything that is shown is durable and in the DAG when this returns."""
        for root in {branch.root for branch in self._views.branches.values() if branch.is_root}:
            self._roots.sync(root)

    def close(self) -> None:
        """The mount is over: release what is still open, `sync`, and let go of the trees."""
        for handle in (*self._handles.remove_all(), *self._removed.values()):
            _release(handle)
        self._removed.clear()
        try:
            if not self._options.read_only:
                self.sync()
        finally:
            self._views.close()

    # ---------------------------------------------------------------------------- helpers

    def _writable(self, inode: int) -> tuple[Branch, int]:
        branch, ino = self._views.locate(inode)
        if branch.tree.read_only and not branch.virtual:
            raise ReadOnlyView("snapshots and CIDs are read-only (clone it to a root to change it)")
        return branch, ino

    def _named(self, parent: int, name: bytes) -> tuple[Branch, int]:
        """As `_writable`, for a parent that is to get or lose `name`."""
        branch, ino = self._writable(parent)
        if name == SNAPSHOTS_NAME and ino == TREE_TOP_INO and branch.is_root:
            raise OperationNotPermitted("`.snapshots` at the top of a root is reserved")
        return branch, ino

    def _known(self, branch: Branch, stat: Stat) -> Stat:
        branch.known_count += 1
        return branch.present(stat)

    def _lookup_snapshots(self, branch: Branch) -> Stat:
        try:
            return self._known(branch, branch.tree.lookup(TREE_TOP_INO, SNAPSHOTS_NAME))
        except NoSuchEntry:
            return self.getattr(self._views.snapshots_directory(branch))

    def _open(self, branch: Branch, ino: int, flags: int, uid: int) -> int:
        handle = FileHandle(branch, ino, flags, privileged=uid == 0, synchronous=self.write_waits)
        if branch.tree.read_only and (handle.writable or flags & os.O_TRUNC):
            raise ReadOnlyView("snapshots and CIDs are read-only (clone it to a root to change it)")
        branch.tree.open(ino)
        if flags & os.O_TRUNC:
            try:
                branch.tree.setattr(ino, size=0, **(_kept_mode(branch, ino) if uid == 0 else {}))
            except BaseException:
                branch.tree.release(ino)
                raise
        return self._handles.add(handle)

    def _dot(self, handle: DirectoryHandle, position: int) -> LISTED:
        """ "." or "..", of which the kernel uses nothing but number and type.

        ".." of a tree's top is the directory above it in the mount, which the kernel knows.
        """
        branch, ino = handle.branch, handle.ino
        if position == 2 and not branch.virtual:
            ino = branch.tree.parent_of(ino)
        stat = branch.present(branch.tree.getattr(ino))
        return (b"." if position == 1 else b"..", stat, position)

    def _listed_stat(self, handle: DirectoryHandle, name: bytes, ino: int) -> Stat:
        if handle.branch.virtual:
            branch, top = self._views.enter(handle.ino, name)
            return branch.present(branch.tree.getattr(top))
        return handle.branch.present(handle.branch.tree.getattr(ino))

    def _names_at_top(self, roots: Sequence[str]) -> set[bytes]:
        """What the mount's top lists, where that is the top of one of `roots`."""
        top = self._views.branches[0]
        if top.virtual or top.root not in roots:
            return set()
        return {name for name, _, _ in top.tree.readdir(TREE_TOP_INO)} | {SNAPSHOTS_NAME}


def _release(handle: Handle) -> None:
    try:
        handle.branch.tree.release(handle.ino)
    except StaleTreeInode:
        if not handle.branch.gone:
            raise


def _kept_mode(branch: Branch, ino: int) -> dict[str, int]:
    """What to add to a change of size that leaves the set-ID bits, as root's does in Linux."""
    mode = branch.tree.getattr(ino).mode
    return {"mode": modes.S_IMODE(mode)} if mode & SET_ID_BITS else {}


def _refuse_fact(name: bytes) -> None:
    if name.startswith(FACTS_PREFIX):
        raise OperationNotPermitted("ipfs.* attributes are facts and cannot be set or removed")
