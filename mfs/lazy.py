"""Directories that came as a CID: nothing below them is read before somebody asks for it.

A directory with the flag LAZY has entries in its DAG that are not rows of the table yet. Asking for
one name makes one row and one inode; listing the directory makes all of them, once. The inodes are
UNRESOLVED: their own blocks are read when their attributes are asked for. None of this changes a
CID; it only gives inode numbers, which stay what they are from then on.

The tree's lock is held throughout. Blocks that may be far away are brought here before it is taken
(`Tree` warms them), so that a slow peer stalls nobody else.
"""

from __future__ import annotations

import stat

from ipld import cid as cids
from ipld import dagpb, dirdag, filedag, unixfs
from ipld.filedag import FileLink
from mfs import posix
from mfs.node import LAZY, ROOT_INO, UNCOUNTED, UNRESOLVED, Inode, InodeRecord, Top, new_record
from mfs.records import EntryRecord, decode_entry, encode_entry
from mfs.state import State
from repo.service import Repo

_SIZE_UNKNOWN = -1
_MODES = {
    "file": stat.S_IFREG | 0o644,
    "other": stat.S_IFREG | 0o444,
    "directory": stat.S_IFDIR | 0o755,
    "symlink": stat.S_IFLNK | 0o777,
}


def directory_record(link: FileLink, top: Top, now_ns: int) -> InodeRecord:
    """The top inode of a tree whose content is the directory at `link`."""
    return new_record(
        mode=stat.S_IFDIR | top.mode,
        uid=top.uid,
        gid=top.gid,
        now_ns=now_ns,
        parent=ROOT_INO,
        name=b"",
        nlink=2,
        link=link,
        flags=LAZY | UNCOUNTED,
    )


class Lazy:
    """Turns entries of DAGs into rows and inodes of one tree."""

    def __init__(self, state: State, repo: Repo) -> None:
        self._state = state
        self._repo = repo

    def warm(self, cid: bytes) -> None:
        """Have the block here, so that `resolve` does not wait. Needs no lock."""
        if cids.codec_of(cid) != cids.RAW:
            self._repo.get(cid)

    def warm_name(self, cid: bytes, name: bytes) -> None:
        """Have the blocks here that `entry` reads. Needs no lock."""
        dirdag.lookup(cid, name, self._repo.get)

    def entry(self, directory: Inode, name: bytes) -> EntryRecord | None:
        """What a name stands for, found in the table or in the DAG."""
        state = self._state
        row = state.entries.get(state.table, directory.ino, name)
        if row is not None:
            return decode_entry(row)
        if not directory.flags & LAZY or directory.link is None:
            return None
        if state.entries.is_removed(directory.ino, name):
            return None
        found = dirdag.lookup(directory.link.cid, name, self._repo.get)
        return None if found is None else self._adopt(directory, found)

    def materialise(self, directory: Inode) -> None:
        """Make rows of all entries; afterwards the directory is not LAZY."""
        if not directory.flags & LAZY:
            return
        state = self._state
        # First of all, so that it stays in memory while its entries fill the cache.
        state.touch(directory)
        if directory.link is not None:
            for found in dirdag.entries(directory.link.cid, self._repo.get):
                name = found.name
                if not posix.is_listable(name) or state.entries.is_removed(directory.ino, name):
                    continue
                if state.entries.get(state.table, directory.ino, name) is None:
                    self._adopt(directory, found)
        directory.flags &= ~LAZY

    def resolve(self, inode: Inode) -> None:
        """Find out what an inode is. Raises BlockUnavailable, ipld's DataError."""
        if not inode.flags & UNRESOLVED or inode.link is None:
            return
        cid, tsize, _ = inode.link
        # The tsize stays what the directory says, however wrong: reading must not change a CID.
        if cids.codec_of(cid) == cids.RAW:
            # Its size is known without its bytes, and offline even without the block.
            blocks = self._repo.blocks
            size = blocks.size_of(cid) if blocks.has(cid) else tsize
            self._become(inode, "file", FileLink(cid, tsize, size), unixfs.Attributes())
        else:
            self._resolve_node(inode, cid, tsize)
        inode.flags &= ~UNRESOLVED
        self._state.touch(inode)

    def _resolve_node(self, inode: Inode, cid: bytes, tsize: int) -> None:
        get = self._repo.get
        kind = dirdag.node_kind(cid, get)
        attributes = unixfs.Attributes()
        if cids.codec_of(cid) == cids.DAG_PB:
            attributes = unixfs.decode(dagpb.decode(get(cid)).data).attributes or attributes
        if kind == "symlink":
            inode.target = dirdag.symlink_target(cid, get)
        size = len(get(cid)) if kind == "other" else filedag.describe(cid, get).size
        self._become(inode, kind, FileLink(cid, tsize, size), attributes)

    def _become(
        self, inode: Inode, kind: str, link: FileLink, attributes: unixfs.Attributes
    ) -> None:
        inode.mode = _MODES[kind]
        if attributes.mode is not None:
            inode.mode = stat.S_IFMT(inode.mode) | attributes.mode
        if attributes.mtime is not None:
            seconds, nanoseconds = attributes.mtime
            time_ns = seconds * 10**9 + nanoseconds
            inode.mtime_ns = max(posix.TIME_MIN_NS, min(time_ns, posix.TIME_MAX_NS))
        inode.link = link
        inode.size = link.size
        if kind == "directory":
            inode.nlink = 2
            inode.flags |= LAZY | UNCOUNTED
        value = encode_entry(inode.ino, stat.S_IFMT(inode.mode) >> 12)
        self._state.entries.set(inode.parent, inode.name, value)

    def _adopt(self, directory: Inode, found: dirdag.Entry) -> EntryRecord:
        """A row and an unresolved inode for an entry of a DAG."""
        state = self._state
        inode = state.create(
            new_record(
                mode=0,
                uid=directory.uid,
                gid=directory.gid,
                now_ns=directory.mtime_ns,
                parent=directory.ino,
                name=found.name,
                link=FileLink(found.cid, found.tsize, _SIZE_UNKNOWN),
                flags=UNRESOLVED,
            )
        )
        kind = stat.S_IFREG >> 12 if cids.codec_of(found.cid) == cids.RAW else 0
        state.entries.set(directory.ino, found.name, encode_entry(inode.ino, kind))
        directory.size += 1
        state.touch(directory)
        return EntryRecord(inode.ino, kind)
