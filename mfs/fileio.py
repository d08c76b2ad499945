"""Reading, writing and resizing one file of a tree, with hashing and reading outside the lock.

A write is in two steps: what lies in it as whole leaves is hashed and stored first, without the
lock; then all of it is put into the active layer at once, under the lock. So a reader sees all of a
write or nothing, and a write that the store has no room for changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ipld import filedag
from ipld.block import Block
from ipld.filedag import FileLink
from ipld.varint import BytesLike
from mfs import posix, pressure
from mfs.content import Layer, fetch
from mfs.core import Core
from mfs.errors import FileTooLarge, InvalidArgument, IsADirectory, NoSpace
from mfs.node import Inode
from repo.errors import BlockNotFound, StoreFull

FILE_SIZE_MAX_BYTES = 16 << 40
"""As in ext4. A larger file would take minutes to flush even if it is one hole."""
_READ_ATTEMPTS = 3

NoteRead = Callable[[Inode], None]


class FileIo:
    """The content half of a `Tree`; takes the locks of its core itself."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = core.lock

    def read(self, ino: int, offset: int, length: int, note_read: NoteRead) -> BytesLike:
        """See `Tree.read`."""
        for attempt in range(_READ_ATTEMPTS):
            with self._lock:
                inode = self._file(ino)
                end = min(offset + length, inode.size)
                if offset >= end:
                    return b""
                content = self._core.content(inode)
                base = content.base
                plan = content.plan(offset, end)
                if attempt == 0:
                    note_read(inode)
            try:
                return fetch(plan)
            except BlockNotFound:
                # A flush may have put another base in its place, and gc freed the old one.
                if content.base is base or attempt == _READ_ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def write(self, ino: int, offset: int, data: memoryview, clear_privileges: bool) -> int:
        """See `Tree.write`."""
        core = self._core
        length = len(data)
        with self._lock:
            core.check_writable()
            inode = self._file(ino)
            if not length:
                return 0
            _check_size(offset + length)
            pressure.check_room(core, length)
            pressure.check_quota(core, offset + length - inode.size)
            if length < core.profile.chunk_size_bytes:
                complete = self._put_over(inode, offset, data, {}, clear_privileges)
        if length >= core.profile.chunk_size_bytes:
            complete = self._write_large(ino, offset, data, clear_privileges)
        for layer, index, whole in complete:
            self._seal(ino, layer, index, whole)
        return length

    def _write_large(
        self, ino: int, offset: int, data: memoryview, clear_privileges: bool
    ) -> list[tuple[Layer, int, bytearray]]:
        core = self._core
        with core.repo.lease():
            made = self._make_leaves(offset, data)
            with self._lock:
                core.check_writable()
                inode = self._file(ino)
                complete = self._put_over(inode, offset, data, made, clear_privileges)
                # The lease of the layer they went into may be younger than these blocks.
                assert core.lease is not None, "a change was noted"
                core.lease.keep([link.cid for link in made.values()])
        return complete

    def _put_over(
        self,
        inode: Inode,
        offset: int,
        data: memoryview,
        made: Mapping[int, FileLink],
        clear_privileges: bool,
    ) -> list[tuple[Layer, int, bytearray]]:
        """Change the content; returns the leaves that are complete now and no blocks yet."""
        core = self._core
        now = core.note_change()
        layer = core.content(inode).active
        before = layer.memory_bytes
        complete = layer.write(offset, data, made)
        core.memory_bytes += layer.memory_bytes - before
        self._set_size(inode, max(inode.size, offset + len(data)))
        inode.mtime_ns = inode.ctime_ns = now
        if clear_privileges:
            inode.mode = posix.without_privileges(inode.mode)
        core.state.touch(inode)
        wholes: list[tuple[Layer, int, bytearray]] = []
        for index in complete:
            whole = layer.leaves[index].under
            assert isinstance(whole, bytearray), "it became complete in this call"
            wholes.append((layer, index, whole))
        return wholes

    def _make_leaves(self, offset: int, data: memoryview) -> dict[int, FileLink]:
        """Blocks of all leaves that lie in the written range as a whole, without a copy."""
        profile = self._core.profile
        chunk_size = profile.chunk_size_bytes
        blocks: list[Block] = []
        made = {}
        for index in range(-(-offset // chunk_size), (offset + len(data)) // chunk_size):
            start = index * chunk_size - offset
            block, made[index] = filedag.make_leaf(data[start : start + chunk_size], profile)
            blocks.append(block)
        self._put(blocks)
        return made

    def _seal(self, ino: int, layer: Layer, index: int, whole: bytearray) -> None:
        """Make a block of a leaf that small writes have completed."""
        core = self._core
        block, link = filedag.make_leaf(memoryview(whole), core.profile)
        try:
            self._put([block])
        except NoSpace:
            # The write was accepted; its bytes stay in memory, where they count as unflushed.
            return
        with self._lock:
            inode = core.state.cached(ino)
            content = inode.content if inode is not None else None
            if content is not None and layer in (content.active, content.frozen):
                before = layer.memory_bytes
                layer.seal(index, whole, link)
                core.memory_bytes += layer.memory_bytes - before

    def _put(self, blocks: list[Block]) -> None:
        try:
            self._core.repo.put_many(blocks)
        except StoreFull as error:
            raise NoSpace from error

    def check_resize(self, inode: Inode, size: int) -> None:
        """Whether `resize` may be called. Needs `lock`. Raises what `Tree.setattr` does."""
        _check_file(inode)
        _check_size(size)
        pressure.check_quota(self._core, size - inode.size)

    def resize(self, inode: Inode, size: int) -> None:
        """Cut the file off, or let it grow by a hole. Needs `lock`."""
        core = self._core
        if size < inode.size:
            content = core.content(inode)
            before = content.memory_bytes
            content.active.truncate(size)
            core.memory_bytes += content.memory_bytes - before
        self._set_size(inode, size)

    def _file(self, ino: int) -> Inode:
        inode = self._core.names.inode(ino)
        _check_file(inode)
        return inode

    def _set_size(self, inode: Inode, size: int) -> None:
        state = self._core.state
        state.used_bytes = max(0, state.used_bytes + size - inode.size)
        inode.size = size


def _check_file(inode: Inode) -> None:
    if inode.is_file:
        return
    if inode.is_directory:
        raise IsADirectory(f"inode {inode.ino} is a directory")
    raise InvalidArgument(f"inode {inode.ino} is not a plain file")


def _check_size(size: int) -> None:
    if size < 0:
        raise InvalidArgument(f"size of {size} bytes")
    if size > FILE_SIZE_MAX_BYTES:
        raise FileTooLarge(f"file of {size} bytes (limit {FILE_SIZE_MAX_BYTES})")
