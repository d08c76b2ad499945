"""The file system on libfuse, through pyfuse3.

Invariants:
- Only FUSEError leaves a handler: pyfuse3 ends the mount on anything else. An error of the layers
  below becomes its errno; an unexpected exception becomes EIO, a logged traceback and a count.
- The event loop never waits for the device: see `pace` for what runs where. Every call that is
  handed to a thread has a deadline, because pyfuse3 cannot pass on the kernel's interrupts and a
  process waiting for an answer cannot be killed.
- pyfuse3 keeps its session in module globals: one mount per process. `session_pyfuse3` guards that.

Threads: handlers run in the loop's thread; notifications may come from any thread.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Generic, TypeVar, cast

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileInfo,
    FUSEError,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
)

from fusefs.attrs import BLOCK_SIZE_HINT_BYTES, STATFS_BLOCK_BYTES, TOP_INODE
from fusefs.errno import errno_of
from fusefs.errors import HandlerTimedOut
from fusefs.filesystem import FileSystem
from fusefs.loop import Loop
from fusefs.pace import Pace
from fusefs.rounds import Rounds
from fusefs.transport import ENTRY_TIMEOUT_S, LIST_COUNT_MIN, Counters, Paces
from mfs.node import Stat

log = logging.getLogger(__name__)
T = TypeVar("T")


class _Outcome(Generic[T]):
    """What a worker's call came to, and whether anybody still waits for it.

    Whoever comes second, the worker or the deadline, finds out under the lock; so a handle opened
    too late is closed again instead of staying open for ever.
    """

    __slots__ = ("abandoned", "done", "duration_s", "error", "lock", "value")

    def __init__(self) -> None:
        self.duration_s = 0.0
        self.error: Exception | None = None
        self.lock = threading.Lock()
        self.abandoned = False
        self.done = False
        self.value: T | None = None


class Transport(pyfuse3.Operations):
    """pyfuse3's handlers: convert, decide where to run, convert back."""

    supports_dot_lookup = False
    """The trees answer no "." and ".."; the kernel only asks for them to serve NFS handles."""

    def __init__(self, filesystem: FileSystem, loop: Loop) -> None:
        super().__init__()
        self.counters = Counters()
        self._fs = filesystem
        self._loop = loop
        self.paces = Paces(filesystem)
        self._list_count = LIST_COUNT_MIN
        self._rounds = Rounds(loop)

    # ------------------------------------------------------------------- running a call

    async def _call(
        self,
        pace: Pace,
        function: Callable[..., T],
        subject: int,
        *args: object,
        undo: Callable[[T], object] | None = None,
    ) -> T:
        """Run `function(subject, *args)` where `pace` says; every failure comes out as FUSEError.

        `undo` takes back a result that came too late for its caller.
        """
        try:
            if pace.goes_to_thread(subject):
                return await self._in_thread(pace, lambda: function(subject, *args), undo)
            started = perf_counter()
            try:
                return function(subject, *args)
            finally:
                pace.took(perf_counter() - started)
        except Exception as error:  # noqa: BLE001  # the edge: nothing else may reach pyfuse3
            raise FUSEError(self._errno(pace, error)) from None

    def _errno(self, pace: Pace, error: Exception) -> int:
        code = errno_of(error)
        if code is not None:
            return code
        self.counters.unexpected_errors += 1
        log.error("%s failed unexpectedly; the caller gets EIO", pace.name, exc_info=error)
        return errno.EIO

    async def _in_thread(
        self, pace: Pace, function: Callable[[], T], undo: Callable[[T], object] | None
    ) -> T:
        outcome: _Outcome[T] = _Outcome()

        def work() -> None:
            started = perf_counter()
            try:
                outcome.value = function()
            except Exception as error:  # noqa: BLE001  # `_call` looks at it in the loop's thread
                outcome.error = error
            outcome.duration_s = perf_counter() - started
            with outcome.lock:
                outcome.done = True
                late = outcome.abandoned
            if late and outcome.error is None and undo is not None:
                undo(cast(T, outcome.value))

        await self._loop.in_thread(work, pace.deadline_s)
        with outcome.lock:
            outcome.abandoned = not outcome.done
        if outcome.abandoned:
            self.counters.timeouts += 1
            raise HandlerTimedOut(f"{pace.name}: no answer within {pace.deadline_s:g} s")
        pace.took(outcome.duration_s)
        if outcome.error is not None:
            raise outcome.error
        return cast(T, outcome.value)

    # ------------------------------------------------------------------ names and attributes

    async def lookup(self, parent_inode: int, name: bytes, _ctx: RequestContext) -> EntryAttributes:
        try:
            stat = await self._call(self.paces.lookup, self._fs.lookup, parent_inode, name)
        except FUSEError as error:
            if error.errno != errno.ENOENT or not self._fs.remembers_missing(parent_inode):
                raise
            missing = EntryAttributes()
            missing.st_ino = 0
            missing.entry_timeout = ENTRY_TIMEOUT_S
            return missing
        return self._entry(stat)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        try:
            self._fs.forget(inode_list)
        except Exception as error:  # noqa: BLE001  # forget has no answer that could carry an error
            self._errno(self.paces.lookup, error)

    async def getattr(self, inode: int, _ctx: RequestContext) -> EntryAttributes:
        return self._entry(await self._call(self.paces.attributes, self._fs.getattr, inode))

    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: SetattrFields,
        _fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        changes: dict[str, int] = {}
        if fields.update_mode:
            changes["mode"] = attr.st_mode & 0o7777
        if fields.update_uid:
            changes["uid"] = attr.st_uid
        if fields.update_gid:
            changes["gid"] = attr.st_gid
        if fields.update_size:
            changes["size"] = attr.st_size
        if fields.update_atime:
            changes["atime_ns"] = attr.st_atime_ns
        if fields.update_mtime:
            changes["mtime_ns"] = attr.st_mtime_ns
        if fields.update_ctime:
            changes["ctime_ns"] = attr.st_ctime_ns
        return self._entry(
            await self._call(self.paces.attributes, self._fs.setattr, inode, changes, ctx.uid)
        )

    async def readlink(self, inode: int, _ctx: RequestContext) -> bytes:
        return await self._call(self.paces.attributes, self._fs.readlink, inode)

    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        return self._entry(
            await self._call(
                self.paces.names, self._fs.mknod, parent_inode, name, mode, rdev, ctx.uid, ctx.gid
            )
        )

    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        return self._entry(
            await self._call(
                self.paces.names, self._fs.mkdir, parent_inode, name, mode, ctx.uid, ctx.gid
            )
        )

    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        return self._entry(
            await self._call(
                self.paces.names, self._fs.symlink, parent_inode, name, target, ctx.uid, ctx.gid
            )
        )

    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, _ctx: RequestContext
    ) -> EntryAttributes:
        return self._entry(
            await self._call(self.paces.names, self._fs.link, inode, new_parent_inode, new_name)
        )

    async def unlink(self, parent_inode: int, name: bytes, _ctx: RequestContext) -> None:
        await self._call(self.paces.names, self._fs.unlink, parent_inode, name)

    async def rmdir(self, parent_inode: int, name: bytes, _ctx: RequestContext) -> None:
        await self._call(self.paces.names, self._fs.rmdir, parent_inode, name)

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        _ctx: RequestContext,
    ) -> None:
        await self._call(
            self.paces.names,
            self._fs.rename,
            parent_inode_old,
            name_old,
            parent_inode_new,
            name_new,
            flags,
        )

    # ------------------------------------------------------------------------------ files

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        handle, stat = await self._call(
            self.paces.open,
            self._fs.create,
            parent_inode,
            name,
            mode,
            flags,
            ctx.uid,
            ctx.gid,
            undo=lambda created: self._fs.release(created[0]),
        )
        return FileInfo(fh=handle, keep_cache=True), self._entry(stat)

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        handle = await self._call(
            self.paces.open, self._fs.open, inode, flags, ctx.uid, undo=self._fs.release
        )
        return FileInfo(fh=handle, keep_cache=True)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        pace = self.paces.read(size)
        # Any contiguous buffer will do; pyfuse3 says bytes.
        return cast(bytes, await self._call(pace, self._fs.read, fh, off, size))

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        pace = self.paces.write(len(buf))
        return await self._call(pace, self._fs.write, fh, off, buf)

    async def flush(self, fh: int) -> None:
        if not self._fs.close_waits:
            # The kernel takes this for "never needed" and saves a round trip on every close(2).
            raise FUSEError(errno.ENOSYS)
        await self._call(self.paces.close, self._fs.flush, fh)

    async def release(self, fh: int) -> None:
        await self._call(self.paces.close, self._fs.release, fh)

    async def fsync(self, fh: int, _datasync: bool) -> None:
        await self._made_durable(self._fs.fsync, fh)

    # ------------------------------------------------------------------------ directories

    async def opendir(self, inode: int, _ctx: RequestContext) -> int:
        return await self._call(self.paces.open, self._fs.opendir, inode, undo=self._fs.releasedir)

    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        # In batches as long as the last reply: a worker must not touch `token`, which pyfuse3
        # frees when this handler ends, and facts fetched beyond the kernel's buffer are wasted.
        wanted = self._list_count
        position, total, more = start_id, 0, True
        while more:
            batch = await self._call(self.paces.list, self._fs.readdir, fh, position, wanted)
            accepted = 0
            for name, stat, next_id in batch:
                if not pyfuse3.readdir_reply(token, name, self._entry(stat), next_id):
                    break
                accepted, position = accepted + 1, next_id
            self._fs.listed(batch[:accepted])
            total += accepted
            more = accepted == wanted
        self._list_count = max(LIST_COUNT_MIN, total + 1)

    async def releasedir(self, fh: int) -> None:
        await self._call(self.paces.close, self._fs.releasedir, fh)

    async def fsyncdir(self, fh: int, _datasync: bool) -> None:
        await self._made_durable(self._fs.fsyncdir, fh)

    async def _made_durable(self, function: Callable[[int], None], fh: int) -> None:
        # All of a tree becomes durable together, so one call answers all who ask for that.
        key = self._fs.branch_of(fh) or fh
        await self._rounds.join(key, lambda: self._call(self.paces.sync, function, fh))

    async def statfs(self, _ctx: RequestContext) -> StatvfsData:
        facts = await self._call(self.paces.attributes, self._fs.statfs, TOP_INODE)
        reply = StatvfsData()
        reply.f_bsize = reply.f_frsize = STATFS_BLOCK_BYTES
        reply.f_blocks = facts.total_bytes // STATFS_BLOCK_BYTES
        reply.f_bfree = reply.f_bavail = facts.free_bytes // STATFS_BLOCK_BYTES
        reply.f_files = facts.inodes
        reply.f_ffree = reply.f_favail = facts.inodes_free
        reply.f_namemax = facts.name_size_max_bytes
        return reply

    # ------------------------------------------------------------------------- attributes

    async def getxattr(self, inode: int, name: bytes, _ctx: RequestContext) -> bytes:
        pace = self.paces.facts if name.startswith(b"ipfs.") else self.paces.attributes
        return await self._call(pace, self._fs.getxattr, inode, name)

    async def setxattr(self, inode: int, name: bytes, value: bytes, _ctx: RequestContext) -> None:
        await self._call(self.paces.attributes, self._fs.setxattr, inode, name, value)

    async def listxattr(self, inode: int, _ctx: RequestContext) -> Sequence[bytes]:
        return await self._call(self.paces.attributes, self._fs.listxattr, inode)

    async def removexattr(self, inode: int, name: bytes, _ctx: RequestContext) -> None:
        await self._call(self.paces.attributes, self._fs.removexattr, inode, name)

    # -------------------------------------------------------------------------- converting

    def _entry(self, stat: Stat) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = stat.ino
        entry.generation = stat.generation
        entry.st_mode = stat.mode
        entry.st_nlink = stat.nlink
        entry.st_uid = stat.uid
        entry.st_gid = stat.gid
        entry.st_rdev = stat.rdev
        entry.st_size = stat.size
        entry.st_blocks = stat.blocks
        entry.st_blksize = BLOCK_SIZE_HINT_BYTES
        entry.st_atime_ns = stat.atime_ns
        entry.st_mtime_ns = stat.mtime_ns
        entry.st_ctime_ns = stat.ctime_ns
        entry.entry_timeout = entry.attr_timeout = ENTRY_TIMEOUT_S
        return entry
