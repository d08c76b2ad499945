"""A disk that fails on command, as the kernel sees one: a FUSE file under a loop device.

    python -m tests.blkdev.faultdisk MOUNTPOINT SIZE_BYTES

It serves one file, `disk`, from memory. Each line on stdin is JSON: an object whose entries are
faults to set (see `Faults`), or one of the words `counts`, `cut`. The answer is one line of JSON.
The end of stdin unmounts. The kernel caches nothing of the file, so every request of the loop
device arrives here.

What was written lies in a volatile cache until a flush: `cut` forgets it, as a power cut does.
"""

import errno
import json
import os
import stat
import sys
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import pyfuse3
import trio

SECTOR_SIZE_BYTES = 512
NAME = b"disk"
INODE = 2


@dataclass
class Faults:
    """What is wrong with the disk just now; ranges are (first byte, byte after the last)."""

    unreadable: list[tuple[int, int]] = field(default_factory=list)
    unwritable: list[tuple[int, int]] = field(default_factory=list)
    full: bool = False  # writes fail with ENOSPC, as those of a thin device do
    failing_flush: bool = False  # says so, and forgets what it should have made durable
    lying_flush: bool = False  # says that all is well, and makes nothing durable
    torn_at: int = -1  # of the next write only so many bytes arrive; then the disk is unplugged
    unplugged: bool = False
    delay_s: float = 0.0


@dataclass
class Counts:
    """Requests so far."""

    reads: int = 0
    writes: int = 0
    flushes: int = 0


class FaultDisk(pyfuse3.Operations):
    """The file, its faults and its counts. Everything runs in one thread."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__()
        self.cached = bytearray(size_bytes)
        self.durable = bytearray(size_bytes)
        self.unflushed: list[tuple[int, int]] = []
        self.faults = Faults()
        self.counts = Counts()

    def command(self, line: str) -> Any:
        request = json.loads(line)
        if request == "counts":
            return asdict(self.counts)
        if request == "cut":
            self.lose()
            return True
        known = {each.name for each in fields(Faults)}
        if not isinstance(request, dict) or not set(request) <= known:
            return f"not a fault: {line}"
        for name, value in request.items():
            setattr(self.faults, name, value)
        return True

    def lose(self) -> None:
        """Lose what no flush made durable."""
        for first, end in self.unflushed:
            self.cached[first:end] = self.durable[first:end]
        self.unflushed.clear()

    async def _pass(self, ranges: list[tuple[int, int]], first: int, end: int) -> None:
        if self.faults.delay_s:
            await trio.sleep(self.faults.delay_s)
        if self.faults.unplugged:
            raise pyfuse3.FUSEError(errno.ENXIO)
        if any(first < bad_end and bad_first < end for bad_first, bad_end in ranges):
            raise pyfuse3.FUSEError(errno.EIO)

    async def read(self, fh, off, size):
        self.counts.reads += 1
        await self._pass(self.faults.unreadable, off, off + size)
        return bytes(self.cached[off : off + size])

    async def write(self, fh, off, buf):
        self.counts.writes += 1
        await self._pass(self.faults.unwritable, off, off + len(buf))
        if self.faults.full:
            raise pyfuse3.FUSEError(errno.ENOSPC)
        kept = buf
        if self.faults.torn_at >= 0:
            kept = buf[: self.faults.torn_at]
            self.faults.unplugged = True
        self.cached[off : off + len(kept)] = kept
        self.unflushed.append((off, off + len(kept)))
        if self.faults.unplugged:
            self.faults.torn_at = -1
            # A part of it reached the medium before the power went.
            self.durable[off : off + len(kept)] = kept
            raise pyfuse3.FUSEError(errno.EIO)
        return len(buf)

    async def fsync(self, fh, datasync):
        self.counts.flushes += 1
        await self._pass([], 0, 0)
        if self.faults.failing_flush:
            self.lose()
            raise pyfuse3.FUSEError(errno.EIO)
        if self.faults.lying_flush:
            return
        for first, end in self.unflushed:
            self.durable[first:end] = self.cached[first:end]
        self.unflushed.clear()

    async def getattr(self, inode, ctx=None):
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = inode
        folder = inode == pyfuse3.ROOT_INODE
        attributes.st_mode = stat.S_IFDIR | 0o700 if folder else stat.S_IFREG | 0o600
        attributes.st_size = 0 if folder else len(self.cached)
        attributes.st_blksize = 4096
        attributes.st_uid, attributes.st_gid = os.getuid(), os.getgid()
        return attributes

    async def lookup(self, parent_inode, name, ctx=None):
        if name != NAME:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(INODE)

    async def open(self, inode, flags, ctx):
        return pyfuse3.FileInfo(fh=INODE, direct_io=True)

    async def release(self, fh):
        return


async def obey(disk: FaultDisk, cancel: trio.CancelScope) -> None:
    """Answer the lines on stdin until it ends."""
    pending = b""
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stream:
        async for received in stream:
            *lines, pending = (pending + received).split(b"\n")
            for line in lines:
                print(json.dumps(disk.command(line.decode())), flush=True)
    cancel.cancel()


async def serve(disk: FaultDisk) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(obey, disk, nursery.cancel_scope)
        nursery.start_soon(pyfuse3.main)
        print(json.dumps("ready"), flush=True)


def main() -> None:
    mountpoint, size_bytes = sys.argv[1], int(sys.argv[2])
    options = {*pyfuse3.default_options, "fsname=faultdisk"} - {"default_permissions"}
    disk = FaultDisk(size_bytes)
    pyfuse3.init(disk, mountpoint, options)
    try:
        trio.run(serve, disk)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
