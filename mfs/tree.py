"""A tree as a file system sees it: POSIX operations on inode numbers and names.

    tree = roots.tree("main")
    stat = tree.create(ROOT_INO, b"hello", 0o644, uid, gid)
    tree.open(stat.ino)
    tree.write(stat.ino, 0, b"hello world")
    tree.fsync(stat.ino)
    tree.release(stat.ino)

All methods are synchronous and thread-safe, and each is atomic towards the others, except that a
large read may see a write that happens meanwhile in part. They raise `mfs.errors.TreeError`, and
`BlockUnavailable`, `BlockDamaged`, `StoreFailed` of `repo.errors` when the store does; what raises
has changed nothing. Permissions are the kernel's business.

Durability: what `fsync` or `sync` covered survives a power cut. See `docs/durability.md`.
"""

from __future__ import annotations

import stat as stat_bits
from collections.abc import Callable

from ipld.filedag import FileLink
from ipld.varint import BytesLike
from mfs import attributes, posix, pressure
from mfs.core import Core
from mfs.errors import InvalidArgument, NoSpace, NotInDag
from mfs.fileio import FILE_SIZE_MAX_BYTES, FileIo
from mfs.flush import flush
from mfs.journal import commit
from mfs.node import LAZY, ROOT_INO, UNRESOLVED, Inode, Stat, StatFs

__all__ = ["FILE_SIZE_MAX_BYTES", "ROOT_INO", "Tree"]


class Tree:
    """One mutable tree, or a read-only one. Made by `Roots` only; shared by all who use the root.

    `atime` may be set to False: reads then leave no trace.
    """

    def __init__(self, core: Core, on_close: Callable[[], None] | None = None) -> None:
        self._core = core
        self._lock = core.lock
        self._io = FileIo(core)
        self._on_close = on_close
        self.atime = True

    @property
    def read_only(self) -> bool:
        """Whether every change raises ReadOnlyTree."""
        return self._core.save_head is None

    @property
    def generation(self) -> int:
        """Changes when a restore gave the inode numbers another meaning."""
        return self._core.head.generation

    @property
    def would_wait(self) -> bool:
        """Whether a call made now may take long: a flush is due, or another thread has the lock.

        A hint for callers that must not wait; needs no lock.
        """
        if pressure.is_high(self._core) or not self._lock.acquire(blocking=False):
            return True
        self._lock.release()
        return False

    # ---------------------------------------------------------------------------------- names

    def lookup(self, parent: int, name: bytes) -> Stat:
        """The entry of a directory. Raises NoSuchEntry, NotADirectory, InvalidName, NameTooLong."""
        self._warm_name(parent, name)
        with self._lock:
            return self._seen(self._core.names.lookup(parent, name))

    def parent_of(self, ino: int) -> int:
        """The directory above a directory; the top is its own parent."""
        with self._lock:
            return self._core.names.directory(ino).parent

    def readdir(self, ino: int) -> list[tuple[bytes, int, int]]:
        """Name, inode number and file type (S_IFMT bits) of all entries, in order of name.

        Without '.' and '..'. The type is 0 where only reading the entry's own block would tell.
        """
        self._warm(ino)
        with self._lock:
            inode = self._core.names.directory(ino)
            listed = self._core.names.list(inode)
            self._note_read(inode)
        self._relieve_quietly()
        return listed

    def create(self, parent: int, name: bytes, mode: int, uid: int, gid: int) -> Stat:
        """A new, empty file. Raises EntryExists. It is not opened."""
        return self._make(parent, name, stat_bits.S_IFREG | stat_bits.S_IMODE(mode), uid, gid)

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> Stat:
        """A file, fifo, socket or device, as the type bits of `mode` say."""
        mode = posix.node_mode(mode)
        has_number = stat_bits.S_ISCHR(mode) or stat_bits.S_ISBLK(mode)
        return self._make(parent, name, mode, uid, gid, rdev=rdev if has_number else 0)

    def mkdir(self, parent: int, name: bytes, mode: int, uid: int, gid: int) -> Stat:
        """A new directory."""
        return self._make(parent, name, stat_bits.S_IFDIR | stat_bits.S_IMODE(mode), uid, gid)

    def symlink(self, parent: int, name: bytes, target: bytes, uid: int, gid: int) -> Stat:
        """A symbolic link. Raises InvalidArgument (empty target), NameTooLong."""
        posix.check_target(target)
        return self._make(parent, name, stat_bits.S_IFLNK | 0o777, uid, gid, target=target)

    def link(self, ino: int, parent: int, name: bytes) -> Stat:
        """Another name for a file. Raises EntryExists, NotPermitted, TooManyLinks."""
        self._warm_name(parent, name)
        core = self._core
        pressure.relieve(core)
        with self._lock:
            core.check_writable()
            pressure.check_room(core, pressure.ENTRY_COST_BYTES)
            inode = core.names.link(ino, parent, name)
            return self._changed(inode)

    def unlink(self, parent: int, name: bytes) -> None:
        """Remove a name. An open file lives on until its last `release`. Raises IsADirectory."""
        self._warm_name(parent, name)
        with self._lock:
            self._core.check_writable()
            self._dropped(self._core.names.unlink(parent, name))
        self._relieve_quietly()

    def rmdir(self, parent: int, name: bytes) -> None:
        """Remove an empty directory. Raises DirectoryNotEmpty, NotADirectory."""
        self._warm_name(parent, name)
        with self._lock:
            self._core.check_writable()
            self._dropped(self._core.names.rmdir(parent, name))
        self._relieve_quietly()

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
        """Give an entry another name and directory, replacing what has that name; or swap the two.

        Raises EntryExists (no_replace), NoSuchEntry, DirectoryNotEmpty, NotADirectory,
        IsADirectory, InvalidArgument (a directory into itself).
        """
        self._warm_name(parent, name)
        self._warm_name(new_parent, new_name)
        with self._lock:
            self._core.check_writable()
            dropped = self._core.names.rename(
                parent, name, new_parent, new_name, no_replace=no_replace, exchange=exchange
            )
            self._core.note_change()
            if dropped is not None:
                self._dropped(dropped)
        self._relieve_quietly()

    # ----------------------------------------------------------------------------- attributes

    def getattr(self, ino: int) -> Stat:
        """Attributes as of now, unflushed writes included. Raises StaleInode."""
        self._warm(ino)
        with self._lock:
            return self._seen(self._core.names.inode(ino))

    def setattr(
        self,
        ino: int,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        ctime_ns: int | None = None,
    ) -> Stat:
        """Change what is not None: mode bits, owner, size, times.

        ctime becomes the present unless given. A new owner or size takes setuid and setgid away,
        unless a mode is given too. Raises InvalidArgument, FileTooLarge, NoSpace, IsADirectory.
        """
        self._warm(ino)
        core = self._core
        with self._lock:
            core.check_writable()
            inode = core.names.inode(ino)
            if size is not None:
                self._io.check_resize(inode, size)
            now = core.clock()
            attributes.set_attributes(
                inode,
                now,
                mode=mode,
                uid=uid,
                gid=gid,
                atime_ns=atime_ns,
                mtime_ns=mtime_ns,
                ctime_ns=ctime_ns,
            )
            if size is not None:
                self._io.resize(inode, size)
                if mode is None:
                    inode.mode = posix.without_privileges(inode.mode)
                if mtime_ns is None:
                    inode.mtime_ns = now
            return self._changed(inode)

    def readlink(self, ino: int) -> bytes:
        """A symlink's target. Raises InvalidArgument for anything else."""
        self._warm(ino)
        with self._lock:
            inode = self._core.names.inode(ino)
            if not stat_bits.S_ISLNK(inode.mode):
                raise InvalidArgument(f"inode {ino} is not a symlink")
            self._note_read(inode)
            return inode.target

    def getxattr(self, ino: int, name: bytes) -> bytes:
        """Raises NoSuchAttribute, AttributeUnsupported."""
        with self._lock:
            return attributes.get_xattr(self._core.names.inode(ino), name)

    def listxattr(self, ino: int) -> list[bytes]:
        """Names of all extended attributes."""
        with self._lock:
            return [name for name, _ in self._core.names.inode(ino).xattrs]

    def setxattr(self, ino: int, name: bytes, value: bytes, flags: int = 0) -> None:
        """`flags` as in setxattr(2): 1 create, 2 replace. Raises AttributeExists,
        NoSuchAttribute, AttributeTooLarge, AttributesFull, AttributeUnsupported."""
        core = self._core
        pressure.relieve(core)
        with self._lock:
            core.check_writable()
            inode = core.names.inode(ino)
            pressure.check_room(core, len(name) + len(value))
            attributes.set_xattr(inode, name, value, flags, core.clock())
            self._changed(inode)

    def removexattr(self, ino: int, name: bytes) -> None:
        """Raises NoSuchAttribute."""
        core = self._core
        with self._lock:
            core.check_writable()
            inode = core.names.inode(ino)
            attributes.remove_xattr(inode, name, core.clock())
            self._changed(inode)

    def statfs(self) -> StatFs:
        """Room for this root: that of its quota or of the store, whichever is less."""
        with self._lock:
            return pressure.statfs(self._core)

    # -------------------------------------------------------------------------------- content

    def open(self, ino: int) -> None:
        """Count an opener: the inode stays usable, even deleted, until as many `release`s."""
        self._warm(ino)
        with self._lock:
            self._core.names.inode(ino).opens += 1

    def release(self, ino: int) -> None:
        """Undo one `open`."""
        core = self._core
        with self._lock:
            if core.is_gone:
                return
            inode = core.state.inode(ino)
            assert inode.opens > 0, "every release follows an open"
            inode.opens -= 1
            if inode.opens:
                return
            if inode.nlink == 0:
                core.drop_content(inode)
                core.state.forget(inode)
            elif inode.content is not None and inode.content.frozen is None:
                core.drop_clean_content(inode)

    def read(self, ino: int, offset: int, length: int) -> BytesLike:
        """Bytes from `offset`, fewer only at the end of the file. Raises IsADirectory."""
        self._warm(ino)
        return self._io.read(ino, offset, length, self._note_read)

    def write(
        self, ino: int, offset: int, data: BytesLike, *, clear_privileges: bool = True
    ) -> int:
        """Put bytes over the file, growing it as needed; returns how many: all of them.

        `clear_privileges`: setuid and setgid go, as after a write by an ordinary user. `data` is
        not kept. Raises NoSpace, QuotaExceeded, FileTooLarge, IsADirectory.
        """
        self._warm(ino)
        pressure.relieve(self._core)
        return self._io.write(ino, offset, memoryview(data).cast("B"), clear_privileges)

    # ----------------------------------------------------------------------------- durability

    def fsync(self, ino: int) -> None:
        """Make everything done in this tree durable: data, names and attributes of all inodes.

        One batch of the journal and one commit of the store, which concurrent callers share. A
        batch of one inode alone would let a crash separate it from the names it was given.
        """
        del ino
        if self._core.save_head is not None:
            commit(self._core)

    def sync(self) -> bytes:
        """Bring everything into the DAG, durably; returns the tree's CID."""
        core = self._core
        if core.save_head is not None:
            flush(core)
            core.repo.commit()
        return core.head.cid

    def cid_of(self, ino: int) -> bytes:
        """The CID that `ipfs add` gives for the present content, which is brought into the DAG.

        Raises NotInDag for fifos, sockets and devices.
        """
        return self._linked(ino).cid

    def dagsize_of(self, ino: int) -> int:
        """Encoded size in bytes of all blocks below, duplicates counted. Raises NotInDag."""
        return self._linked(ino).tsize

    def _linked(self, ino: int) -> FileLink:
        self._warm(ino)
        core = self._core
        with self._lock:
            inode = core.names.inode(ino)
            if posix.is_special(inode.mode):
                raise NotInDag(f"inode {ino} is of a kind that UnixFS has no node for")
        flush(core)
        while True:
            with self._lock:
                link = core.names.inode(ino).link
            if link is not None:
                return link
            flush(core)

    def close(self) -> None:
        """Let go of a read-only tree that was made by its CID. Idempotent; nothing for others."""
        if self._on_close is not None:
            self._on_close()
            self._on_close = None

    # ---------------------------------------------------------------------------------- parts

    def _make(
        self,
        parent: int,
        name: bytes,
        mode: int,
        uid: int,
        gid: int,
        *,
        rdev: int = 0,
        target: bytes = b"",
    ) -> Stat:
        self._warm_name(parent, name)
        core = self._core
        pressure.relieve(core)
        with self._lock:
            core.check_writable()
            pressure.check_room(core, pressure.ENTRY_COST_BYTES)
            inode = core.names.make(parent, name, mode, uid, gid, rdev, target)
            return self._changed(inode)

    def _changed(self, inode: Inode) -> Stat:
        self._core.note_change()
        self._core.state.touch(inode)
        return inode.to_stat(self.generation)

    def _dropped(self, inode: Inode) -> None:
        """A name is gone; without another one and unopened, the content goes with it."""
        core = self._core
        core.note_change()
        if inode.nlink == 0 and not inode.opens:
            core.drop_content(inode)
        elif inode.nlink == 0:
            core.keep_content(inode)

    def _seen(self, inode: Inode) -> Stat:
        core = self._core
        # A first look may have given inode numbers, which are kept like any other change.
        if core.state.changed and not core.is_dirty and core.save_head is not None:
            core.note_change()
        return inode.to_stat(self.generation)

    def _note_read(self, inode: Inode) -> None:
        core = self._core
        if not self.atime or core.save_head is None:
            self._seen(inode)
            return
        now = core.clock()
        if posix.is_atime_due(inode.atime_ns, inode.mtime_ns, inode.ctime_ns, now):
            inode.atime_ns = now
            core.note_change()
            core.state.touch(inode)

    def _relieve_quietly(self) -> None:
        """Where memory is given back or nothing is stored, a full store is no reason to fail."""
        try:
            pressure.relieve(self._core)
        except NoSpace:
            return

    def _warm(self, ino: int) -> None:
        """Bring the block that describes an inode here before the lock is taken."""
        inode = self._core.state.cached(ino)
        if inode is not None and inode.flags & UNRESOLVED and inode.link is not None:
            self._core.lazy.warm(inode.link.cid)

    def _warm_name(self, parent: int, name: bytes) -> None:
        """The same for the blocks that a lookup in a directory reads."""
        self._warm(parent)
        inode = self._core.state.cached(parent)
        if inode is not None and inode.flags & LAZY and inode.link is not None:
            self._core.lazy.warm_name(inode.link.cid, name)
