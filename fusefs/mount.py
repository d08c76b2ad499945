"""A mount from its first check to its last sync.

    mount = Mount(roots, "/mnt", MountOptions.parse("root=main"))
    mount.run(ready)        # in a thread of its own; returns when the mount is over
    mount.unmount()         # from any other thread

Invariants:
- However a mount ends (`unmount` here, umount(8), fusermount3 -u, an error), everything
  acknowledged is synced before `run` returns.
- The session outlives every notification that is on its way to the kernel.

Locks: `_notifying` guards a count and a flag and is never held during a call into the kernel, which
may wait there for one of our own handlers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from fusefs import mountpoint
from fusefs.errors import NotMounted, SyncTimedOut
from fusefs.facts import PinState, no_pins
from fusefs.filesystem import FileSystem
from fusefs.options import KERNEL, MountOptions
from fusefs.transport import Counters, Session
from mfs.roots import Roots

log = logging.getLogger(__name__)

END_DEADLINE_S = 300.0
"""How long `unmount` waits for the last sync. Longer means a device in trouble."""
NOTIFY_DEADLINE_S = 5.0


def session_of(options: MountOptions, filesystem: FileSystem) -> Session:
    """By the option `transport`. Each is imported by who uses it: one of them needs no libfuse."""
    if options.transport == KERNEL:
        from fusefs.transport_kernel import KernelSession

        return KernelSession(filesystem)
    from fusefs.session_pyfuse3 import Pyfuse3Session

    return Pyfuse3Session(filesystem)


class Mount:
    """One mount. `run` may be called once."""

    def __init__(
        self,
        roots: Roots,
        path: str,
        options: MountOptions | None = None,
        *,
        pin_state: PinState = no_pins,
    ) -> None:
        """Open the view. Raises its errors (no such root, …) before anything is mounted."""
        self.options = options or MountOptions()
        self.options.validate()
        self.point = mountpoint.real_path(path)
        self.ended = threading.Event()
        """Set when everything is synced and `run` is about to return."""
        self._filesystem = FileSystem(roots, self.options, pin_state=pin_state)
        self._filesystem.notifier = self
        self._session = session_of(self.options, self._filesystem)
        self._notifying = threading.Condition()
        self._notification_count = 0
        self._serving = False
        self._failure: Exception | None = None

    @property
    def counters(self) -> Counters:
        """What went wrong since the mount."""
        return self._session.counters

    # ------------------------------------------------------------------ for other threads

    def changing(self, *roots: str) -> AbstractContextManager[None]:
        """Put it around a command that restores, drops, makes or renames these roots."""
        return self._filesystem.changing(*roots)

    def snapshot_dropped(self, root: str, snapshot: str) -> None:
        """Call it after a command that dropped a snapshot."""
        self._filesystem.snapshot_dropped(root, snapshot)

    def sync(self) -> None:
        """Everything acknowledged so far is durable and in the DAG when this returns."""
        self._filesystem.sync()

    def unmount(self, *, lazy: bool = False) -> None:
        """Sync, unmount, and wait until `run` has let go of everything.

        Raises MountBusy, with everything synced and the mount as it was, while programs have files
        open; `lazy` does it to them all the same. Raises what the last sync raised.
        """
        if not self._serving:
            raise NotMounted(self.point)
        self.sync()
        if lazy:
            mountpoint.detach(self.point)
            self._session.stop()
        else:
            mountpoint.unmount(self.point)
        if not self.ended.wait(END_DEADLINE_S):
            raise SyncTimedOut(self.point, END_DEADLINE_S)
        if self._failure is not None:
            raise self._failure

    # --------------------------------------------------------------- the file system's Notifier

    def entry(self, parent: int, name: bytes) -> None:
        """Make the kernel forget a name. A name it does not know is no error."""
        self._notify(partial(self._session.invalidate_entry, parent, name))

    def inode(self, inode: int, *, attributes_only: bool) -> None:
        """Make the kernel forget an inode's attributes, or its content as well."""
        self._notify(
            partial(self._session.invalidate_inode, inode, attributes_only=attributes_only)
        )

    def _notify(self, call: Callable[[], None]) -> None:
        with self._notifying:
            if not self._serving:
                return
            self._notification_count += 1
        try:
            call()
        except OSError as error:
            # ENOENT: nothing cached. ENOTCONN and the like: unmounted meanwhile.
            log.debug("notification: %s", error)
        finally:
            with self._notifying:
                self._notification_count -= 1
                self._notifying.notify_all()

    # ---------------------------------------------------------------------------- serving

    def run(self, ready: Callable[[], object] = lambda: None) -> None:
        """Mount, call `ready` (in another thread) once requests are answered, serve until the end.

        Raises the typed error of what is in the way before the mount, and after it the error of
        `ready` or of the last sync.
        """
        point = mountpoint.prepare(self.point, self.options)
        self._session.mount(point, self.options)
        self._serving = True
        threading.Thread(target=self._announce, args=(ready,), name="mount-ready").start()
        try:
            self._session.serve()
        finally:
            self._finish()
        if self._failure is not None:
            raise self._failure

    def _announce(self, ready: Callable[[], object]) -> None:
        if not mountpoint.set_read_ahead(self.point, self.options.read_ahead_bytes):
            log.info("%s: the kernel's read-ahead stays as it is: only root sets it", self.point)
        try:
            ready()
        except Exception as error:  # noqa: BLE001  # the edge: `run` raises it again
            self._failure = error
            mountpoint.detach(self.point)
            self._session.stop()

    def _finish(self) -> None:
        """The loop has ended: save everything, then let go of the kernel."""
        try:
            self._filesystem.close()
        except Exception as error:  # the edge: `run` raises it when unmounted
            log.exception("%s: not everything could be synced", self.point)
            self._failure = error
        with self._notifying:
            self._serving = False
            quiet = self._notifying.wait_for(
                lambda: not self._notification_count, NOTIFY_DEADLINE_S
            )
        if not quiet:
            log.error("%s: a notification hangs in the kernel; unmounting lazily", self.point)
            mountpoint.detach(self.point)
        self._session.close(unmount=quiet)
        self.ended.set()
