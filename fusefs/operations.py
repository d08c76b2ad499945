"""What each kind of request means: from its bytes to a call of the file system, and back to bytes.

Invariants
- A handler raises, or gives an answer; it never waits for another request.
- What an answer gives the kernel, a handle or a lookup, can be taken back: the kernel may have no
  use for it any more.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from struct import Struct
from typing import NamedTuple

from fusefs import wire
from fusefs.attrs import BLOCK_SIZE_HINT_BYTES, STATFS_BLOCK_BYTES
from fusefs.crew import Rounds
from fusefs.errors import DoesNotFit, InvalidRequest, MalformedRequest, NotBegun
from fusefs.filesystem import FileSystem
from fusefs.pace import Pace
from fusefs.transport import ENTRY_TIMEOUT_S, LIST_COUNT_MIN, Paces
from fusefs.wire import Request
from ipld.block import BytesLike
from mfs.errors import NoSuchEntry
from mfs.node import Stat

WANTED = (
    wire.ASYNC_READ
    | wire.ATOMIC_O_TRUNC
    | wire.BIG_WRITES
    | wire.DO_READDIRPLUS
    | wire.READDIRPLUS_AUTO
    | wire.ASYNC_DIO
    | wire.PARALLEL_DIROPS
    | wire.MAX_PAGES
    | wire.CACHE_SYMLINKS
    | wire.HANDLE_KILLPRIV_V2
)
"""KILLPRIV_V2 says with each request whose privileges are to go, and saves the question for
security.capability before each write. Locks are the kernel's: nobody else writes to the mount."""
WITHOUT_PRIVILEGES = 65_534
"""Any user but root, for a caller whom the kernel says to be without CAP_FSETID."""
_LIST_HEAD_BYTES = wire.DIRENT.size + 8
_ENTRY_BYTES = wire.ENTRY_OUT.size + wire.ATTR.size


class Undoable(NamedTuple):
    """An answer that is taken back when the kernel does not want it any more."""

    data: bytes
    undo: Callable[[], object]


Answer = BytesLike | Undoable | None
Handler = Callable[[Request], Answer]
"""None is no answer at all."""


class Operation(NamedTuple):
    """How one kind of request is handled: what says where it runs, and by which number."""

    handle: Handler
    pace: Pace | Callable[[Request], Pace]
    subject: Callable[[Request], int]


def _inode(request: Request) -> int:
    return request.inode


_HANDLE = Struct("=Q")


def _handle(request: Request) -> int:
    """Of requests whose body begins with a handle."""
    return wire.take(_HANDLE, request.body)[0]


class Operations:
    """The handlers of one file system. `interrupt` is told of requests whose processes were sent a
    signal, and says whether anybody works on them. Thread-safe.
    """

    def __init__(
        self, filesystem: FileSystem, paces: Paces, interrupt: Callable[[int], bool]
    ) -> None:
        self._fs = filesystem
        self._paces = paces
        self._interrupt_of = interrupt
        self._rounds = Rounds()
        self.by_opcode = self._table()

    # --------------------------------------------------------------------------- the table

    def _table(self) -> dict[int, Operation]:
        paces = self._paces
        by_handle: list[tuple[int, Handler, Pace]] = [
            (wire.RELEASE, self._release, paces.close),
            (wire.RELEASEDIR, self._releasedir, paces.close),
            (wire.FSYNC, partial(self._durable, self._fs.fsync), paces.sync),
            (wire.FSYNCDIR, partial(self._durable, self._fs.fsyncdir), paces.sync),
            (wire.READDIR, partial(self._readdir, plus=False), paces.list),
            (wire.READDIRPLUS, partial(self._readdir, plus=True), paces.list),
        ]
        if self._fs.close_waits:
            # Else the kernel is told that it is never needed, which saves it a request a close.
            by_handle.append((wire.FLUSH, self._flush, paces.close))
        by_inode: list[tuple[int, Handler, Pace]] = [
            (wire.LOOKUP, self._lookup, paces.lookup),
            (wire.FORGET, self._forget, paces.attributes),
            (wire.BATCH_FORGET, self._forget, paces.attributes),
            (wire.GETATTR, self._getattr, paces.attributes),
            (wire.SETATTR, self._setattr, paces.attributes),
            (wire.READLINK, lambda request: self._fs.readlink(request.inode), paces.attributes),
            (wire.SYMLINK, self._symlink, paces.names),
            (wire.MKNOD, self._mknod, paces.names),
            (wire.MKDIR, self._mkdir, paces.names),
            (wire.UNLINK, partial(self._remove, self._fs.unlink), paces.names),
            (wire.RMDIR, partial(self._remove, self._fs.rmdir), paces.names),
            (wire.RENAME, self._rename, paces.names),
            (wire.RENAME2, self._rename, paces.names),
            (wire.LINK, self._link, paces.names),
            (wire.OPEN, self._open, paces.open),
            (wire.CREATE, self._create, paces.open),
            (wire.OPENDIR, self._opendir, paces.open),
            (wire.STATFS, self._statfs, paces.attributes),
            (wire.SETXATTR, self._setxattr, paces.attributes),
            (wire.LISTXATTR, self._listxattr, paces.attributes),
            (wire.REMOVEXATTR, self._removexattr, paces.attributes),
            (wire.INIT, self._init, paces.attributes),
            (wire.DESTROY, lambda _request: b"", paces.attributes),
            (wire.INTERRUPT, self._interrupt, paces.attributes),
            (wire.SYNCFS, self._syncfs, paces.sync),
        ]
        table = {
            code: Operation(handle, pace, subject)
            for subject, rows in ((_handle, by_handle), (_inode, by_inode))
            for code, handle, pace in rows
        }
        table[wire.READ] = Operation(self._read, self._pace_of_read, _handle)
        table[wire.WRITE] = Operation(self._write, self._pace_of_write, _handle)
        table[wire.GETXATTR] = Operation(self._getxattr, self._pace_of_getxattr, _inode)
        return table

    def _pace_of_read(self, request: Request) -> Pace:
        return self._paces.read(wire.take(wire.READ_IN, request.body)[2])

    def _pace_of_write(self, request: Request) -> Pace:
        return self._paces.write(len(request.body))

    def _pace_of_getxattr(self, request: Request) -> Pace:
        is_fact = wire.name(request.body, wire.GETXATTR_IN.size).startswith(b"ipfs.")
        return self._paces.facts if is_fact else self._paces.attributes

    # ---------------------------------------------------------------------- session requests

    def _init(self, request: Request) -> bytes:
        offered = wire.offer(request.body)
        if offered.major == wire.MAJOR and offered.minor < wire.MINOR_MIN:
            raise InvalidRequest(f"the kernel speaks FUSE {offered.major}.{offered.minor} only")
        return wire.accept(offered, WANTED, offered.read_ahead_bytes)

    def _interrupt(self, request: Request) -> None:
        (unique,) = wire.take(wire.INTERRUPT_IN, request.body)
        if not self._interrupt_of(unique):
            raise NotBegun("nobody works on that request, or not any more")

    def _syncfs(self, _request: Request) -> bytes:
        self._fs.sync()
        return b""

    def _statfs(self, request: Request) -> bytes:
        return wire.statfs(self._fs.statfs(request.inode), STATFS_BLOCK_BYTES)

    # ------------------------------------------------------------------- names and attributes

    def _entry(self, stat: Stat) -> Undoable:
        """An inode that the kernel knows once more from here on."""
        return Undoable(_known_entry(stat), partial(self._fs.forget, [(stat.ino, 1)]))

    def _lookup(self, request: Request) -> Answer:
        try:
            stat = self._fs.lookup(request.inode, wire.name(request.body))
        except NoSuchEntry:
            if not self._fs.remembers_missing(request.inode):
                raise
            return wire.no_entry(ENTRY_TIMEOUT_S)
        return self._entry(stat)

    def _forget(self, request: Request) -> None:
        self._fs.forget(wire.forgotten(request))

    def _getattr(self, request: Request) -> bytes:
        return self._attributes(self._fs.getattr(request.inode))

    def _setattr(self, request: Request) -> bytes:
        changes = wire.changes(request.body)
        caller = WITHOUT_PRIVILEGES if changes.clears_privileges else 0
        return self._attributes(self._fs.setattr(request.inode, changes.values, caller))

    def _attributes(self, stat: Stat) -> bytes:
        return wire.attributes(stat, ENTRY_TIMEOUT_S, BLOCK_SIZE_HINT_BYTES)

    def _symlink(self, request: Request) -> Undoable:
        name, target = wire.names(request.body, 0, 2)
        return self._entry(self._fs.symlink(request.inode, name, target, request.uid, request.gid))

    def _mknod(self, request: Request) -> Undoable:
        mode, rdev, _, _ = wire.take(wire.MKNOD_IN, request.body)
        name = wire.name(request.body, wire.MKNOD_IN.size)
        return self._entry(
            self._fs.mknod(request.inode, name, mode, rdev, request.uid, request.gid)
        )

    def _mkdir(self, request: Request) -> Undoable:
        mode, _ = wire.take(wire.MKDIR_IN, request.body)
        name = wire.name(request.body, wire.MKDIR_IN.size)
        return self._entry(self._fs.mkdir(request.inode, name, mode, request.uid, request.gid))

    def _remove(self, remove: Callable[[int, bytes], None], request: Request) -> bytes:
        remove(request.inode, wire.name(request.body))
        return b""

    def _rename(self, request: Request) -> bytes:
        body, flags = request.body, 0
        if request.opcode == wire.RENAME2:
            target, flags = wire.take(wire.RENAME2_IN, body)
            old, new = wire.names(body, wire.RENAME2_IN.size, 2)
        else:
            (target,) = wire.take(wire.RENAME_IN, body)
            old, new = wire.names(body, wire.RENAME_IN.size, 2)
        self._fs.rename(request.inode, old, target, new, flags)
        return b""

    def _link(self, request: Request) -> Undoable:
        (inode,) = wire.take(wire.LINK_IN, request.body)
        name = wire.name(request.body, wire.LINK_IN.size)
        return self._entry(self._fs.link(inode, request.inode, name))

    # ------------------------------------------------------------------------------ files

    def _open(self, request: Request) -> Undoable:
        flags, more = wire.take(wire.OPEN_IN, request.body)
        handle = self._fs.open(request.inode, flags, _caller(request, flags, more))
        data = wire.OPEN_OUT.pack(handle, wire.FOPEN_KEEP_CACHE, 0)
        return Undoable(data, partial(self._fs.release, handle))

    def _create(self, request: Request) -> Undoable:
        flags, mode, _, _ = wire.take(wire.CREATE_IN, request.body)
        name = wire.name(request.body, wire.CREATE_IN.size)
        handle, stat = self._fs.create(request.inode, name, mode, flags, request.uid, request.gid)
        entry = self._entry(stat)

        def undo() -> None:
            self._fs.release(handle)
            entry.undo()

        data = entry.data + wire.OPEN_OUT.pack(handle, wire.FOPEN_KEEP_CACHE, 0)
        return Undoable(data, undo)

    def _read(self, request: Request) -> BytesLike:
        handle, offset, size_bytes, _, _, _ = wire.take(wire.READ_IN, request.body)
        return self._fs.read(handle, offset, size_bytes)

    def _write(self, request: Request) -> bytes:
        handle, offset, size_bytes, flags, _, _ = wire.take(wire.WRITE_IN, request.body)
        data = request.body[wire.WRITE_IN.size :]
        if len(data) != size_bytes:
            raise MalformedRequest(f"a write of {size_bytes} bytes with {len(data)}")
        kills = bool(flags & wire.WRITE_KILL_PRIVILEGES)
        return wire.WRITE_OUT.pack(self._fs.write(handle, offset, data, clear_privileges=kills))

    def _flush(self, request: Request) -> bytes:
        self._fs.flush(_handle(request))
        return b""

    def _release(self, request: Request) -> bytes:
        self._fs.release(_handle(request))
        return b""

    def _durable(self, function: Callable[[int], None], request: Request) -> bytes:
        # All of a tree becomes durable together, so one call answers all who ask for that.
        handle = _handle(request)
        key = self._fs.branch_of(handle) or handle
        self._rounds.join(key, lambda: function(handle))
        return b""

    # ------------------------------------------------------------------------ directories

    def _opendir(self, request: Request) -> Undoable:
        handle = self._fs.opendir(request.inode)
        return Undoable(wire.OPEN_OUT.pack(handle, 0, 0), partial(self._fs.releasedir, handle))

    def _readdir(self, request: Request, *, plus: bool) -> Answer:
        handle, position, size_max_bytes, _, _, _ = wire.take(wire.READ_IN, request.body)
        # As many as there is room for if their names are short: what does not fit was in vain.
        least = _LIST_HEAD_BYTES + (_ENTRY_BYTES if plus else 0)
        count = max(LIST_COUNT_MIN, size_max_bytes // least)
        entries = self._fs.readdir(handle, position, count)
        data, taken = wire.listing(entries, size_max_bytes, _known_entry if plus else None)
        if not plus:
            return data
        listed = entries[:taken]
        self._fs.listed(listed)
        known = [(stat.ino, 1) for name, stat, _ in listed if name not in (b".", b"..")]
        return Undoable(data, partial(self._fs.forget, known))

    def _releasedir(self, request: Request) -> bytes:
        self._fs.releasedir(_handle(request))
        return b""

    # ------------------------------------------------------------------------- attributes

    def _getxattr(self, request: Request) -> bytes:
        (room,) = wire.take(wire.GETXATTR_IN, request.body)
        name = wire.name(request.body, wire.GETXATTR_IN.size)
        return _fitting(self._fs.getxattr(request.inode, name), room)

    def _listxattr(self, request: Request) -> bytes:
        (room,) = wire.take(wire.GETXATTR_IN, request.body)
        names = self._fs.listxattr(request.inode)
        return _fitting(b"".join(name + b"\0" for name in names), room)

    def _setxattr(self, request: Request) -> bytes:
        size_bytes, flags = wire.take(wire.SETXATTR_IN, request.body)
        rest = bytes(request.body[wire.SETXATTR_IN.size :])
        name, separator, value = rest.partition(b"\0")
        if not separator or len(value) != size_bytes:
            raise MalformedRequest(f"an attribute of {size_bytes} bytes with {len(value)}")
        self._fs.setxattr(request.inode, name, value, flags)
        return b""

    def _removexattr(self, request: Request) -> bytes:
        self._fs.removexattr(request.inode, wire.name(request.body))
        return b""


def _known_entry(stat: Stat) -> bytes:
    return wire.entry(stat, ENTRY_TIMEOUT_S, BLOCK_SIZE_HINT_BYTES)


def _fitting(value: bytes, room: int) -> bytes:
    """The answer to who has so much room for a value, or, with none, asks for its length."""
    if not room:
        return wire.GETXATTR_OUT.pack(len(value))
    if len(value) > room:
        raise DoesNotFit(f"{len(value)} bytes, and room for {room}")
    return value


def _caller(request: Request, flags: int, more: int) -> int:
    """As whom a file is opened: root may leave set-user-ID alone. Of a truncation the kernel says
    whether it is to go; each write says so for itself.
    """
    if flags & os.O_TRUNC:
        return WITHOUT_PRIVILEGES if more & wire.OPEN_KILL_PRIVILEGES else 0
    return request.uid
