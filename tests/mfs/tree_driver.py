"""A `Tree` behind the calls of `os`: what the kernel adds to a file system, in small.

Paths, symlinks on the way, descriptors with flags and positions, errno. It checks no permissions.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
import threading

from ipld.profile import Profile
from mfs import errors
from mfs.node import ROOT_INO, Stat
from tests.mfs.worlds import World

ERRNO = {
    errors.NoSuchEntry: errno.ENOENT,
    errors.EntryExists: errno.EEXIST,
    errors.NotADirectory: errno.ENOTDIR,
    errors.IsADirectory: errno.EISDIR,
    errors.DirectoryNotEmpty: errno.ENOTEMPTY,
    errors.InvalidName: errno.EINVAL,
    errors.NameTooLong: errno.ENAMETOOLONG,
    errors.InvalidArgument: errno.EINVAL,
    errors.NotPermitted: errno.EPERM,
    errors.TooManyLinks: errno.EMLINK,
    errors.FileTooLarge: errno.EFBIG,
    errors.ReadOnlyTree: errno.EROFS,
    errors.StaleInode: errno.ESTALE,
    errors.NoSuchAttribute: errno.ENODATA,
    errors.AttributeExists: errno.EEXIST,
    errors.AttributeUnsupported: errno.EOPNOTSUPP,
    errors.AttributeTooLarge: errno.ERANGE,
    errors.NoSpace: errno.ENOSPC,
    errors.QuotaExceeded: errno.ENOSPC,
    errors.AttributesFull: errno.ENOSPC,
    errors.NotInDag: errno.ENODATA,
}
SYMLINKS_MAX = 40
ATTEMPTS = 10


def fail(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def by_path(operation):
    """As the kernel: an inode that went away between lookup and use is looked up again."""

    @functools.wraps(operation)
    def retried(self, *args, **options):
        for _ in range(ATTEMPTS - 1):
            try:
                return operation(self, *args, **options)
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
        return operation(self, *args, **options)

    return retried


class _Open:
    def __init__(self, ino: int, flags: int) -> None:
        self.ino, self.flags, self.position = ino, flags, 0


class TreeDriver:
    """See `tests.suites.filesystem_suite.Driver`."""

    def __init__(self, profile: Profile) -> None:
        self.world = World(profile)
        self.chunk_size_bytes = profile.chunk_size_bytes
        self._tree = self.world.tree
        self._open: dict[int, _Open] = {}
        self._next_fd = 3
        self._lock = threading.Lock()

    def _call(self, name: str, *args, **options):
        try:
            return getattr(self._tree, name)(*args, **options)
        except errors.TreeError as error:
            raise fail(ERRNO[type(error)]) from error

    # --------------------------------------------------------------------------- paths

    def _parent(self, path: bytes, depth: int = 0) -> tuple[int, bytes]:
        *above, name = path.strip(b"/").split(b"/")
        return self._walk(ROOT_INO, above, depth), name

    def _walk(self, ino: int, names: list[bytes], depth: int) -> int:
        for name in names:
            if name:
                ino = self._step(ino, name, depth)
        return ino

    def _step(self, parent: int, name: bytes, depth: int) -> int:
        """One component, followed when it is a symlink."""
        found = self._call("lookup", parent, name)
        if not stat.S_ISLNK(found.mode):
            return found.ino
        if depth >= SYMLINKS_MAX:
            raise fail(errno.ELOOP)
        target = self._call("readlink", found.ino)
        start = ROOT_INO if target.startswith(b"/") else parent
        return self._walk(start, target.split(b"/"), depth + 1)

    def _find(self, path: bytes, follow: bool = True) -> int:
        if not path.strip(b"/"):
            return ROOT_INO
        parent, name = self._parent(path)
        return self._step(parent, name, 0) if follow else self._call("lookup", parent, name).ino

    # --------------------------------------------------------------------- descriptors

    @by_path
    def open(self, path: bytes, flags: int, mode: int = 0o644) -> int:
        ino = self._create(path, flags, mode) if flags & os.O_CREAT else self._find(path)
        found = self._call("getattr", ino)
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        if stat.S_ISDIR(found.mode) and writes:
            raise fail(errno.EISDIR)
        self._call("open", ino)
        if flags & os.O_TRUNC and writes:
            self._call("setattr", ino, size=0)
        with self._lock:
            self._next_fd += 1
            self._open[self._next_fd] = _Open(ino, flags)
            return self._next_fd

    def _create(self, path: bytes, flags: int, mode: int) -> int:
        parent, name = self._parent(path)
        try:
            return self._call("create", parent, name, mode, 0, 0).ino
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            return self._find(path)

    def close(self, fd: int) -> None:
        with self._lock:
            opened = self._open.pop(fd)
        self._call("release", opened.ino)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        return bytes(self._call("read", self._open[fd].ino, offset, length))

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        return self._call("write", self._open[fd].ino, offset, data)

    def write(self, fd: int, data: bytes) -> int:
        opened = self._open[fd]
        if opened.flags & os.O_APPEND:
            opened.position = self._call("getattr", opened.ino).size
        written = self.pwrite(fd, data, opened.position)
        opened.position += written
        return written

    def ftruncate(self, fd: int, size: int) -> None:
        self._call("setattr", self._open[fd].ino, size=size)

    def fsync(self, fd: int) -> None:
        self._call("fsync", self._open[fd].ino)

    def fstat(self, fd: int) -> os.stat_result:
        return _result(self._call("getattr", self._open[fd].ino))

    # --------------------------------------------------------------------------- names

    @by_path
    def stat(self, path: bytes) -> os.stat_result:
        return _result(self._call("getattr", self._find(path)))

    @by_path
    def lstat(self, path: bytes) -> os.stat_result:
        return _result(self._call("getattr", self._find(path, follow=False)))

    @by_path
    def truncate(self, path: bytes, size: int) -> None:
        self._call("setattr", self._find(path), size=size)

    @by_path
    def mkdir(self, path: bytes, mode: int = 0o755) -> None:
        self._call("mkdir", *self._parent(path), mode, 0, 0)

    @by_path
    def rmdir(self, path: bytes) -> None:
        self._call("rmdir", *self._parent(path))

    @by_path
    def unlink(self, path: bytes) -> None:
        self._call("unlink", *self._parent(path))

    @by_path
    def rename(self, source: bytes, target: bytes, flags: int = 0) -> None:
        self._call(
            "rename",
            *self._parent(source),
            *self._parent(target),
            no_replace=bool(flags & 1),
            exchange=bool(flags & 2),
        )

    @by_path
    def link(self, source: bytes, target: bytes) -> None:
        self._call("link", self._find(source, follow=False), *self._parent(target))

    @by_path
    def symlink(self, target: bytes, path: bytes) -> None:
        # These two are the kernel's: a path argument is not empty and has 4095 bytes at most.
        if not target:
            raise fail(errno.ENOENT)
        self._call("symlink", *self._parent(path), target, 0, 0)

    @by_path
    def readlink(self, path: bytes) -> bytes:
        return self._call("readlink", self._find(path, follow=False))

    @by_path
    def mknod(self, path: bytes, mode: int, device: int = 0) -> None:
        self._call("mknod", *self._parent(path), mode, device, 0, 0)

    @by_path
    def listdir(self, path: bytes) -> list[bytes]:
        return [name for name, _, _ in self._call("readdir", self._find(path))]

    # ---------------------------------------------------------------------- attributes

    @by_path
    def chmod(self, path: bytes, mode: int) -> None:
        self._call("setattr", self._find(path), mode=mode)

    @by_path
    def chown(self, path: bytes, uid: int, gid: int) -> None:
        self._call("setattr", self._find(path), uid=uid, gid=gid)

    @by_path
    def utime(self, path: bytes, atime_ns: int, mtime_ns: int) -> None:
        self._call("setattr", self._find(path), atime_ns=atime_ns, mtime_ns=mtime_ns)

    @by_path
    def getxattr(self, path: bytes, name: bytes) -> bytes:
        return self._call("getxattr", self._find(path), name)

    @by_path
    def setxattr(self, path: bytes, name: bytes, value: bytes, flags: int = 0) -> None:
        self._call("setxattr", self._find(path), name, value, flags)

    @by_path
    def listxattr(self, path: bytes) -> list[bytes]:
        return self._call("listxattr", self._find(path))

    @by_path
    def removexattr(self, path: bytes, name: bytes) -> None:
        self._call("removexattr", self._find(path), name)

    def statvfs(self) -> os.statvfs_result:
        facts = self._call("statfs")
        blocks, free = facts.total_bytes // 4096, facts.free_bytes // 4096
        return os.statvfs_result(
            (
                4096,
                4096,
                blocks,
                free,
                free,
                facts.inodes,
                facts.inodes_free,
                facts.inodes_free,
                0,
                facts.name_size_max_bytes,
            )
        )

    def remount(self) -> None:
        for fd in list(self._open):
            self.close(fd)
        self._tree = self.world.reopen()

    @by_path
    def cid(self, path: bytes) -> bytes:
        return self._call("cid_of", self._find(path, follow=False))


def _result(found: Stat) -> os.stat_result:
    fields = {
        "st_atime_ns": found.atime_ns,
        "st_mtime_ns": found.mtime_ns,
        "st_ctime_ns": found.ctime_ns,
        "st_blocks": found.blocks,
        "st_blksize": 4096,
        "st_rdev": found.rdev,
    }
    seconds = [ns // 10**9 for ns in (found.atime_ns, found.mtime_ns, found.ctime_ns)]
    head = (found.mode, found.ino, 1, found.nlink, found.uid, found.gid, found.size, *seconds)
    return os.stat_result(head, fields)
