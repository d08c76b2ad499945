"""Writes a walked tree to this machine's file system, for `get`.

Guards against hostile DAGs:
- a name that is '..', holds '/' or is too long is refused (`names.check_extracted`).
- everything is made below a new directory of our own, with O_EXCL and mkdir, so that a second
  entry of the same name fails; nothing is ever written through a symlink of the DAG.
- the finished tree appears under its real name by one rename; after an error or Ctrl-C nothing is
  left of it.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from ipfs_mfs.api import TreeItem
from ipfs_mfs.errors import OutputExists, UnsafeName
from ipfs_mfs.names import check_extracted

# What a stored mode may set here: never setuid, setgid or sticky bits of somebody else's tree.
MODE_MASK = 0o777


def extract(items: Iterable[TreeItem], target: Path, advance: Callable[[int], None]) -> int:
    """Writes the tree to `target`, which must not exist; returns the bytes of file content.

    `advance` is called with the bytes of every piece. Raises OutputExists, UnsafeName, OSError.
    """
    check_absent(target)
    workshop = Path(tempfile.mkdtemp(prefix=f".{target.name[:200]}.", dir=target.parent))
    try:
        with _Writer(workshop / "new", advance) as writer:
            for item in items:
                writer.take(item)
        check_absent(target)
        (workshop / "new").rename(target)
        return writer.written_bytes
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def check_absent(target: Path) -> None:
    """Raises OutputExists; a dangling symlink is something too."""
    if os.path.lexists(target):
        raise OutputExists(f"{target} exists already", "choose another name with -o, or move it")


class _Writer:
    """Takes items parents first. Times and modes are set at the end, innermost first, because
    writing into a directory changes its time and may need its write permission."""

    def __init__(self, base: Path, advance: Callable[[int], None]) -> None:
        self._base = os.fsencode(base)
        self._advance = advance
        self._open = -1
        self._attributes: list[tuple[bytes, TreeItem]] = []
        self.written_bytes = 0

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._close()
        if kind is None:
            for path, item in reversed(self._attributes):
                _set_attributes(path, item)

    def take(self, item: TreeItem) -> None:
        if item.data is not None:
            self._write(item.data)
            return
        self._close()
        path = self._path_of(item.path)
        if item.kind == "directory":
            os.mkdir(path)  # noqa: PTH102  # names are bytes, which pathlib does not take
        elif item.kind == "symlink":
            os.symlink(item.target, path)  # noqa: PTH211  # as above
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._open = os.open(path, flags, 0o666)
        self._attributes.append((path, item))

    def _path_of(self, path: bytes) -> bytes:
        if not path:
            return self._base
        shown = os.fsdecode(path)
        return b"/".join([self._base, *(check_extracted(p, shown) for p in path.split(b"/"))])

    def _write(self, data: bytes) -> None:
        if self._open < 0:
            raise UnsafeName("content without a file", "the daemon and this program do not match")
        view = memoryview(data)
        while view:
            view = view[os.write(self._open, view) :]
        self.written_bytes += len(data)
        self._advance(len(data))

    def _close(self) -> None:
        if self._open >= 0:
            os.close(self._open)
            self._open = -1


def _set_attributes(path: bytes, item: TreeItem) -> None:
    if item.mode is not None and item.kind != "symlink":
        os.chmod(path, item.mode & MODE_MASK)  # noqa: PTH101  # names are bytes
    if item.mtime_ns is not None:
        os.utime(path, ns=(item.mtime_ns, item.mtime_ns), follow_symlinks=False)
