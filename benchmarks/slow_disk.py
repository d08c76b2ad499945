"""Slow disks: files in a folder that FUSE serves from memory, at the speed of an SD card.

    python -m benchmarks.slow_disk FOLDER

A file is quick until it is made executable: disks are made and formatted first. From then on each
request keeps it busy as long as `Speed` says, one request after the other. The kernel caches
nothing of a file, so every request of a loop device over it arrives here. It prints a line when it
serves, and ends, forgetting all, with its standard input.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyfuse3
import trio

_SLOW_MODE = 0o700
_QUICK_MODE = 0o600
_TURN_S = 0.002
"""What waits longer lets others have their turn; the rest, at most this, is slept exactly."""


@dataclass(frozen=True)
class Speed:
    """How long requests take: their bytes, and each flush."""

    bytes_s: float = 20e6
    flush_s: float = 0.020


@dataclass
class Busy:
    """One disk's time: requests follow each other without a pause when they arrive early enough."""

    free_at_s: float = 0.0

    def until(self, now_s: float, cost_s: float) -> float:
        """When a request that arrives now is done."""
        self.free_at_s = max(now_s, self.free_at_s) + cost_s
        return self.free_at_s


@dataclass
class Disk:
    """One file."""

    name: bytes
    content: mmap.mmap | None = None
    mode: int = _QUICK_MODE
    busy: Busy = field(default_factory=Busy)

    @property
    def size_bytes(self) -> int:
        return 0 if self.content is None else len(self.content)


class SlowDisks(pyfuse3.Operations):
    """The folder. Everything runs in one thread."""

    def __init__(self, speed: Speed) -> None:
        super().__init__()
        self._speed = speed
        self._disks: dict[int, Disk] = {}
        self._next_inode = pyfuse3.ROOT_INODE + 1

    async def _pass(self, disk: Disk, cost_s: float) -> None:
        if disk.mode != _SLOW_MODE:
            return
        done_s = disk.busy.until(time.monotonic(), cost_s)
        if (left_s := done_s - time.monotonic()) > _TURN_S:
            await trio.sleep(left_s - _TURN_S / 2)
        # Exact, which a sleep of the event loop is not.
        time.sleep(max(0.0, done_s - time.monotonic()))  # noqa: ASYNC251  # see `_TURN_S`

    async def read(self, fh: int, off: int, size: int) -> bytes:
        disk = self._disks[fh]
        await self._pass(disk, size / self._speed.bytes_s)
        return b"" if disk.content is None else disk.content[off : off + size]

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        disk = self._disks[fh]
        await self._pass(disk, len(buf) / self._speed.bytes_s)
        if disk.content is None or off + len(buf) > disk.size_bytes:
            raise pyfuse3.FUSEError(errno.ENOSPC)
        disk.content[off : off + len(buf)] = buf
        return len(buf)

    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._pass(self._disks[fh], self._speed.flush_s)

    async def lookup(self, parent_inode, name, ctx=None):
        for inode, disk in self._disks.items():
            if disk.name == name:
                return await self.getattr(inode)
        raise pyfuse3.FUSEError(errno.ENOENT)

    async def getattr(self, inode, ctx=None):
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = inode
        attributes.st_uid, attributes.st_gid = os.getuid(), os.getgid()
        if inode == pyfuse3.ROOT_INODE:
            attributes.st_mode = stat.S_IFDIR | 0o700
        else:
            disk = self._disks[inode]
            attributes.st_mode, attributes.st_size = stat.S_IFREG | disk.mode, disk.size_bytes
        return attributes

    async def create(self, parent_inode, name, mode, flags, ctx):
        inode, self._next_inode = self._next_inode, self._next_inode + 1
        self._disks[inode] = Disk(bytes(name))
        return pyfuse3.FileInfo(fh=inode, direct_io=True), await self.getattr(inode)

    async def open(self, inode, flags, ctx):
        return pyfuse3.FileInfo(fh=inode, direct_io=True)

    async def setattr(self, inode, attr, fields, fh, ctx):
        disk = self._disks[inode]
        if fields.update_mode:
            disk.mode = stat.S_IMODE(attr.st_mode)
        if fields.update_size and attr.st_size:
            disk.content = mmap.mmap(-1, attr.st_size)
        return await self.getattr(inode)

    async def unlink(self, parent_inode, name, ctx):
        inode = (await self.lookup(parent_inode, name)).st_ino
        # Its memory goes at once; who has it open still finds it empty.
        self._disks[inode] = Disk(b"")

    async def release(self, fh: int) -> None:
        return


def create(folder: Path, name: str, size_bytes: int) -> Path:
    """A new disk, quick so far."""
    path = folder / name
    with path.open("wb", buffering=0) as file:
        file.truncate(size_bytes)
    return path


def make_slow(disk: Path) -> None:
    """From now on it has the speed of its folder."""
    disk.chmod(_SLOW_MODE)


@contextmanager
def served(folder: Path, cpus: set[int]) -> Iterator[None]:
    """Serve slow disks in a folder by a process that runs on these CPUs."""
    command = [sys.executable, "-m", "benchmarks.slow_disk", str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    os.sched_setaffinity(process.pid, cpus)
    try:
        if not process.stdout.readline():
            raise RuntimeError(f"slow disks cannot be served in {folder}")
        yield
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


async def _end_with_stdin(cancel: trio.CancelScope) -> None:
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stream:
        async for _ in stream:
            continue
    cancel.cancel()


async def _serve() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_with_stdin, nursery.cancel_scope)
        nursery.start_soon(pyfuse3.main)
        print(json.dumps("ready"), flush=True)


def main() -> None:
    options = {*pyfuse3.default_options, "fsname=slowdisk"} - {"default_permissions"}
    pyfuse3.init(SlowDisks(Speed()), sys.argv[1], options)
    try:
        trio.run(_serve)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
