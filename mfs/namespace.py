"""Names: which directory has which entry, and all operations that change that.

Every change of a name is four things together: the entry row, the inode's own note of its names,
the link counts and the times. They are made under the tree's lock without reading anything in
between, so that no journal batch and no flush sees a part of them.

All checks come before the first change: an operation that raises has changed nothing.
"""

from __future__ import annotations

import stat
from collections.abc import Callable

from mfs import posix, records
from mfs.errors import (
    DirectoryNotEmpty,
    EntryExists,
    InvalidArgument,
    IsADirectory,
    NoSuchEntry,
    NotADirectory,
    NotPermitted,
    TooManyLinks,
)
from mfs.lazy import Lazy
from mfs.node import ROOT_INO, UNRESOLVED, Inode, new_record
from mfs.state import State

Clock = Callable[[], int]
"""Nanoseconds since 1970."""


class Namespace:
    """The names of one tree; the caller holds the tree's lock."""

    def __init__(self, state: State, lazy: Lazy, clock: Clock) -> None:
        self._state = state
        self._lazy = lazy
        self._clock = clock

    # -------------------------------------------------------------------------------- finding

    def inode(self, ino: int) -> Inode:
        """The inode of a number, resolved. Raises StaleInode."""
        inode = self._state.inode(ino)
        if inode.flags & UNRESOLVED:
            self._lazy.resolve(inode)
        return inode

    def directory(self, ino: int) -> Inode:
        """The same for a directory. Raises NotADirectory."""
        inode = self.inode(ino)
        if not inode.is_directory:
            raise NotADirectory(f"inode {ino} is not a directory")
        return inode

    def find(self, directory: Inode, name: bytes) -> Inode | None:
        """The inode of a name, or None."""
        entry = self._lazy.entry(directory, name)
        return None if entry is None else self.inode(entry.ino)

    def lookup(self, parent: int, name: bytes) -> Inode:
        """The inode of a name. Raises NoSuchEntry, NotADirectory, InvalidName."""
        posix.check_name(name)
        inode = self.find(self.directory(parent), name)
        if inode is None:
            raise NoSuchEntry(f"{name!r}: no such entry")
        return inode

    def names_of(self, inode: Inode) -> list[tuple[int, bytes]]:
        """Directory and name of every entry that stands for this inode."""
        names = [(inode.parent, inode.name)]
        if inode.nlink > 1 and not inode.is_directory:
            state = self._state
            names += [
                (records.parse_number(suffix[:8]), suffix[8:])
                for suffix, _ in state.links.scan(state.table, inode.ino)
            ]
        return names

    def list(self, directory: Inode) -> list[tuple[bytes, int, int]]:
        """Name, inode number and file type of all entries, by name; the type may be 0."""
        self._lazy.materialise(directory)
        state = self._state
        listed = []
        for name, value in state.entries.scan(state.table, directory.ino):
            ino, kind = records.decode_entry(value)
            listed.append((name, ino, kind << 12))
        return listed

    # ------------------------------------------------------------------------------- creating

    def make(
        self,
        parent: int,
        name: bytes,
        mode: int,
        uid: int,
        gid: int,
        rdev: int = 0,
        target: bytes = b"",
    ) -> Inode:
        """A new node of any kind. Raises EntryExists, NoSuchEntry (the directory is deleted)."""
        directory = self._free_name(parent, name)
        posix.check_id(uid)
        posix.check_id(gid)
        mode, gid = posix.inherited(directory.mode, directory.gid, mode, gid)
        now = self._clock()
        is_directory = stat.S_ISDIR(mode)
        inode = self._state.create(
            new_record(
                mode=mode,
                uid=uid,
                gid=gid,
                now_ns=now,
                parent=parent,
                name=name,
                nlink=2 if is_directory else 1,
                rdev=rdev,
                target=target,
            )
        )
        self._set_entry(directory, name, inode)
        directory.size += 1
        directory.nlink += is_directory
        self._changed(directory, now)
        return inode

    def link(self, ino: int, parent: int, name: bytes) -> Inode:
        """A further name of a file. Raises NotPermitted for directories, TooManyLinks."""
        directory = self._free_name(parent, name)
        inode = self.inode(ino)
        if inode.is_directory:
            raise NotPermitted("a directory has one name only")
        if inode.nlink == 0:
            raise NoSuchEntry(f"inode {ino}: deleted")
        if inode.nlink >= posix.LINK_COUNT_MAX:
            raise TooManyLinks(f"a file has {posix.LINK_COUNT_MAX} names at most")
        now = self._clock()
        inode.nlink += 1
        inode.ctime_ns = now
        self._state.links.set(ino, records.number(parent) + name, b"")
        self._state.touch(inode)
        self._set_entry(directory, name, inode)
        directory.size += 1
        self._changed(directory, now)
        return inode

    # ------------------------------------------------------------------------------- removing

    def unlink(self, parent: int, name: bytes) -> Inode:
        """Remove a name of a file. Raises IsADirectory. Returns what it stood for."""
        directory = self.directory(parent)
        inode = self.lookup(parent, name)
        if inode.is_directory:
            raise IsADirectory(f"{name!r} is a directory (use rmdir)")
        now = self._clock()
        self._remove_entry(directory, name)
        self._drop_name(inode, parent, name, now)
        self._changed(directory, now)
        return inode

    def rmdir(self, parent: int, name: bytes) -> Inode:
        """Remove an empty directory. Raises DirectoryNotEmpty, NotADirectory."""
        directory = self.directory(parent)
        inode = self.lookup(parent, name)
        self._check_empty(inode, name)
        now = self._clock()
        self._remove_entry(directory, name)
        self._drop_name(inode, parent, name, now)
        directory.nlink -= 1
        self._changed(directory, now)
        return inode

    # ------------------------------------------------------------------------------- renaming

    def rename(
        self,
        parent: int,
        name: bytes,
        new_parent: int,
        new_name: bytes,
        *,
        no_replace: bool,
        exchange: bool,
    ) -> Inode | None:
        """See rename(2), renameat2(2). Returns the inode that lost its name, if there is one."""
        if no_replace and exchange:
            raise InvalidArgument("no_replace and exchange exclude each other")
        posix.check_name(new_name)
        source_dir, target_dir = self.directory(parent), self.directory(new_parent)
        source = self.lookup(parent, name)
        target = self.find(target_dir, new_name)
        if target is None and target_dir.nlink == 0:
            raise NoSuchEntry("the directory is deleted")
        if target is not None and no_replace:
            raise EntryExists(f"{new_name!r} exists")
        if source.is_directory:
            self._check_not_inside(source, target_dir)
        if exchange:
            if target is None:
                raise NoSuchEntry(f"{new_name!r}: no such entry to exchange with")
            if target.is_directory:
                self._check_not_inside(target, source_dir)
            self._exchange((source_dir, name, source), (target_dir, new_name, target))
            return None
        if target is source:
            return None
        if target is not None:
            self._check_replaceable(source, target, new_name)
        now = self._clock()
        if target is not None:
            self._drop_name(target, new_parent, new_name, now)
            target_dir.nlink -= target.is_directory
            target_dir.size -= 1
        self._remove_entry(source_dir, name)
        self._move_name(source, (parent, name), (new_parent, new_name))
        self._set_entry(target_dir, new_name, source)
        target_dir.size += 1
        if source.is_directory:
            source_dir.nlink -= 1
            target_dir.nlink += 1
        source.ctime_ns = now
        self._state.touch(source)
        self._changed(source_dir, now)
        self._changed(target_dir, now)
        return target

    def _exchange(
        self, left: tuple[Inode, bytes, Inode], right: tuple[Inode, bytes, Inode]
    ) -> None:
        left_dir, left_name, left_node = left
        right_dir, right_name, right_node = right
        if left_node is right_node:
            return
        now = self._clock()
        self._move_name(left_node, (left_dir.ino, left_name), (right_dir.ino, right_name))
        self._move_name(right_node, (right_dir.ino, right_name), (left_dir.ino, left_name))
        self._set_entry(left_dir, left_name, right_node)
        self._set_entry(right_dir, right_name, left_node)
        moved = right_node.is_directory - left_node.is_directory
        left_dir.nlink += moved
        right_dir.nlink -= moved
        for inode in (left_node, right_node):
            inode.ctime_ns = now
            self._state.touch(inode)
        self._changed(left_dir, now)
        self._changed(right_dir, now)

    def _check_replaceable(self, source: Inode, target: Inode, name: bytes) -> None:
        if not source.is_directory:
            if target.is_directory:
                raise IsADirectory(f"{name!r} is a directory, and what replaces it is not")
        elif not target.is_directory:
            raise NotADirectory(f"{name!r} is not a directory, and what replaces it is one")
        else:
            self._check_empty(target, name)

    def _check_not_inside(self, inode: Inode, directory: Inode) -> None:
        """A directory must not become its own descendant: it would be reachable by nobody."""
        ino = directory.ino
        while ino != ROOT_INO:
            if ino == inode.ino:
                raise InvalidArgument("a directory cannot be moved into itself")
            ino = self._state.inode(ino).parent
        if inode.ino == ROOT_INO:
            raise InvalidArgument("the top directory cannot be moved")

    # ---------------------------------------------------------------------------------- parts

    def _free_name(self, parent: int, name: bytes) -> Inode:
        """The directory, when it can take a new entry of this name."""
        posix.check_name(name)
        directory = self.directory(parent)
        if directory.nlink == 0:
            raise NoSuchEntry("the directory is deleted")
        if self._lazy.entry(directory, name) is not None:
            raise EntryExists(f"{name!r} exists")
        return directory

    def _check_empty(self, inode: Inode, name: bytes) -> None:
        if not inode.is_directory:
            raise NotADirectory(f"{name!r} is not a directory")
        self._lazy.materialise(inode)
        if inode.size:
            raise DirectoryNotEmpty(f"{name!r} has {inode.size} entries")

    def _set_entry(self, directory: Inode, name: bytes, inode: Inode) -> None:
        value = records.encode_entry(inode.ino, stat.S_IFMT(inode.mode) >> 12)
        self._state.entries.set(directory.ino, name, value)

    def _remove_entry(self, directory: Inode, name: bytes) -> None:
        self._state.entries.set(directory.ino, name, None)
        directory.size -= 1

    def _drop_name(self, inode: Inode, parent: int, name: bytes, now: int) -> None:
        """One name less; without any, the inode is deleted."""
        inode.ctime_ns = now
        if inode.is_directory or inode.nlink == 1:
            inode.nlink = 0
            self._state.delete(inode)
            return
        state = self._state
        if (inode.parent, inode.name) == (parent, name):
            suffix, _ = next(state.links.scan(state.table, inode.ino))
            inode.parent, inode.name = records.parse_number(suffix[:8]), suffix[8:]
        else:
            suffix = records.number(parent) + name
        state.links.set(inode.ino, suffix, None)
        inode.nlink -= 1
        state.touch(inode)

    def _move_name(self, inode: Inode, old: tuple[int, bytes], new: tuple[int, bytes]) -> None:
        if (inode.parent, inode.name) == old:
            inode.parent, inode.name = new
        else:
            links = self._state.links
            links.set(inode.ino, records.number(old[0]) + old[1], None)
            links.set(inode.ino, records.number(new[0]) + new[1], b"")

    def _changed(self, directory: Inode, now: int) -> None:
        directory.mtime_ns = directory.ctime_ns = now
        self._state.touch(directory)
