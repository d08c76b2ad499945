"""A mount's session on libfuse, through pyfuse3, which keeps it in module globals.

Invariant: one session at a time in one process. `_session_lock` is held for the life of one.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyfuse3

from fusefs import kernel_mount, loop
from fusefs.errors import SessionLimit
from fusefs.filesystem import FileSystem
from fusefs.loop import Loop
from fusefs.options import MountOptions
from fusefs.transport import WORKER_COUNT, Counters
from fusefs.transport_pyfuse3 import Transport

_session_lock = threading.Lock()
_session_at: list[str] = []
"""Mount point of this process's session, for the message to whoever wants a second one."""


class Pyfuse3Session:
    """A `fusefs.transport.Session`."""

    def __init__(self, filesystem: FileSystem) -> None:
        self._loop = Loop(WORKER_COUNT)
        self._transport = Transport(filesystem, self._loop)
        self.counters: Counters = self._transport.counters
        self.paces = self._transport.paces

    def mount(self, point: str, options: MountOptions) -> None:
        if not _session_lock.acquire(blocking=False):
            raise SessionLimit(_session_at[0] if _session_at else "another mount")
        _session_at[:] = [point]
        try:
            _init(self._transport, point, options)
        except BaseException:
            _end_session()
            raise

    def serve(self) -> None:
        loop.install(self._loop)
        self._loop.run(pyfuse3.main())

    def stop(self) -> None:
        self._loop.call_soon(pyfuse3.terminate)

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        pyfuse3.invalidate_entry(parent, name)

    def invalidate_inode(self, inode: int, *, attributes_only: bool) -> None:
        pyfuse3.invalidate_inode(inode, attributes_only)

    def close(self, *, unmount: bool) -> None:
        # Without unmounting the session stays: a notification hangs in it.
        if unmount:
            pyfuse3.close(unmount=True)
        _end_session()


def _end_session() -> None:
    _session_at.clear()
    _session_lock.release()


def _init(transport: Transport, point: str, options: MountOptions) -> None:
    """Mount. libfuse explains a refusal on stderr only, so that is where the reason comes from."""
    with _captured_stderr() as said:
        try:
            pyfuse3.init(transport, point, kernel_mount.told(options))
            return
        except RuntimeError as error:
            reason = " ".join(said().split()) or str(error)
    raise kernel_mount.refusal(point, reason)


@contextmanager
def _captured_stderr() -> Iterator[Callable[[], str]]:
    """Collect what C code writes to stderr meanwhile; yields a function that gives it so far."""
    with tempfile.TemporaryFile() as collected:
        saved = os.dup(2)
        os.dup2(collected.fileno(), 2)

        def so_far() -> str:
            collected.seek(0)
            return collected.read().decode(errors="replace")

        try:
            yield so_far
        finally:
            os.dup2(saved, 2)
            os.close(saved)
