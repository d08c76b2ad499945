"""The conformance suite of file systems on a real mount, of each transport."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from ipld import cid as cids
from ipld.profile import UNIXFS_V1_2025
from tests.fusefs.conftest import Mounts
from tests.suites.filesystem_suite import FilesystemSuite

AT_FDCWD = -100
# Every case calls the kernel with the bytes it was given, which pathlib cannot.


class MountDriver:
    """The calls of `os`, below a folder of a mount that can be mounted anew."""

    chunk_size_bytes = UNIXFS_V1_2025.chunk_size_bytes

    def __init__(self, shared: SharedMount, folder: bytes) -> None:
        self._shared = shared
        self._top = os.fsencode(shared.mounts.point) + b"/" + folder
        os.mkdir(self._top)  # noqa: PTH102  # names are bytes

    def _path(self, path: bytes) -> bytes:
        return self._top if path == b"/" else self._top + path

    def open(self, path: bytes, flags: int, mode: int = 0o644) -> int:
        return os.open(self._path(path), flags, mode)

    close = staticmethod(os.close)
    pread = staticmethod(os.pread)
    pwrite = staticmethod(os.pwrite)
    write = staticmethod(os.write)
    ftruncate = staticmethod(os.ftruncate)
    fsync = staticmethod(os.fsync)
    fstat = staticmethod(os.fstat)

    def stat(self, path: bytes) -> os.stat_result:
        return os.stat(self._path(path))  # noqa: PTH116  # names are bytes

    def lstat(self, path: bytes) -> os.stat_result:
        return os.lstat(self._path(path))

    def truncate(self, path: bytes, size: int) -> None:
        os.truncate(self._path(path), size)

    def mkdir(self, path: bytes, mode: int = 0o755) -> None:
        os.mkdir(self._path(path), mode)  # noqa: PTH102  # names are bytes

    def rmdir(self, path: bytes) -> None:
        os.rmdir(self._path(path))  # noqa: PTH106  # names are bytes

    def unlink(self, path: bytes) -> None:
        os.unlink(self._path(path))  # noqa: PTH108  # names are bytes

    def rename(self, source: bytes, target: bytes, flags: int = 0) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        paths = self._path(source), self._path(target)
        if libc.renameat2(AT_FDCWD, paths[0], AT_FDCWD, paths[1], flags):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def link(self, source: bytes, target: bytes) -> None:
        os.link(self._path(source), self._path(target), follow_symlinks=False)

    def symlink(self, target: bytes, path: bytes) -> None:
        os.symlink(target, self._path(path))  # noqa: PTH211  # names are bytes

    def readlink(self, path: bytes) -> bytes:
        return os.readlink(self._path(path))  # noqa: PTH115  # names are bytes

    def mknod(self, path: bytes, mode: int, device: int = 0) -> None:
        os.mknod(self._path(path), mode, device)

    def chmod(self, path: bytes, mode: int) -> None:
        os.chmod(self._path(path), mode)  # noqa: PTH101  # names are bytes

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        os.chown(self._path(path), uid, gid)

    def utime(self, path: bytes, atime_ns: int, mtime_ns: int) -> None:
        os.utime(self._path(path), ns=(atime_ns, mtime_ns))

    def listdir(self, path: bytes) -> list[bytes]:
        return os.listdir(self._path(path))  # noqa: PTH208  # names are bytes

    def getxattr(self, path: bytes, name: bytes) -> bytes:
        return os.getxattr(self._path(path), name)

    def setxattr(self, path: bytes, name: bytes, value: bytes, flags: int = 0) -> None:
        os.setxattr(self._path(path), name, value, flags)

    def listxattr(self, path: bytes) -> list[bytes]:
        return [os.fsencode(name) for name in os.listxattr(self._path(path))]

    def removexattr(self, path: bytes, name: bytes) -> None:
        os.removexattr(self._path(path), name)

    def statvfs(self) -> os.statvfs_result:
        return os.statvfs(self._top)

    def remount(self) -> None:
        self._shared.remount()

    def cid(self, path: bytes) -> bytes:
        value = os.getxattr(self._path(path), b"ipfs.cid", follow_symlinks=False)
        return cids.parse(value.decode())


class SharedMount:
    """One mount for all cases, each in a folder of its own."""

    def __init__(self, folder: Path, transport: str) -> None:
        self.mounts = Mounts(folder, transport)
        self.server = self.mounts.mount()

    def remount(self) -> None:
        assert self.server.ask("counters.unexpected_errors") == 0, self.server.errors()
        assert self.server.terminate() == "ended"
        self.server = self.mounts.mount()


@pytest.fixture(scope="module")
def shared_mount(tmp_path_factory: pytest.TempPathFactory, transport: str):
    shared = SharedMount(tmp_path_factory.mktemp("suite"), transport)
    yield shared
    try:
        shared.remount()
        assert shared.server.ask("repo.gc().missing_count") == 0
        shared.server.terminate()
    finally:
        shared.mounts.finish()


@pytest.mark.needs_fuse
@pytest.mark.needs_root
class TestOnMount(FilesystemSuite):
    @pytest.fixture
    def fs(self, shared_mount, request):
        return MountDriver(shared_mount, request.node.name.encode())
