"""What both ways to the kernel have in common: how long it may believe us, what a call may take,
and what a mount does with a transport.
"""

from __future__ import annotations

from typing import Final, Protocol

from fusefs.filesystem import FileSystem
from fusefs.options import MountOptions
from fusefs.pace import Pace

ENTRY_TIMEOUT_S: Final = 3600
"""How long the kernel trusts names and attributes. Long, because this program is the only writer
and tells the kernel about changes that do not come through it."""
DEADLINE_S: Final = 30.0
SYNC_DEADLINE_S: Final = 300.0
"""For calls that write out what others left dirty, which a slow device makes long and not wrong."""
WORKER_COUNT: Final = 48
"""Above the number of requests that a few stuck calls may hold, below pyfuse3's 99 tasks."""
LIST_COUNT_MIN: Final = 16
BIG_TRANSFER_BYTES: Final = 128 << 10
"""From this size on, hashing and copying pay for the hand-over to a thread, where they run beside
the next requests (hashlib lets go of the interpreter's lock)."""


class Counters:
    """What went wrong since the mount; for `stats` and for tests."""

    def __init__(self) -> None:
        self.unexpected_errors = 0
        self.timeouts = 0


class Paces:
    """The recent past of each kind of call on one file system."""

    def __init__(self, filesystem: FileSystem) -> None:
        of_inode, of_handle = filesystem.inode_waits, filesystem.handle_waits
        waits, closes = filesystem.write_waits, filesystem.close_waits
        self.lookup = Pace("lookup", DEADLINE_S, of_inode)
        self.attributes = Pace("attributes", DEADLINE_S, of_inode)
        self.names = Pace("names", SYNC_DEADLINE_S, of_inode)
        self.open = Pace("open", SYNC_DEADLINE_S, of_inode)
        self.close = Pace("close", SYNC_DEADLINE_S, of_handle, always_threaded=closes)
        self.small_read = Pace("read", DEADLINE_S, of_handle)
        self.big_read = Pace("read", DEADLINE_S, of_handle, always_threaded=True)
        self.small_write = Pace("write", SYNC_DEADLINE_S, of_handle, always_threaded=waits)
        self.big_write = Pace("write", SYNC_DEADLINE_S, of_handle, always_threaded=True)
        self.list = Pace("readdir", DEADLINE_S, of_handle)
        self.sync = Pace("fsync", SYNC_DEADLINE_S, of_handle, always_threaded=True)
        self.facts = Pace("facts", SYNC_DEADLINE_S, of_inode, always_threaded=True)

    def read(self, size_bytes: int) -> Pace:
        return self.small_read if size_bytes < BIG_TRANSFER_BYTES else self.big_read

    def write(self, size_bytes: int) -> Pace:
        return self.small_write if size_bytes < BIG_TRANSFER_BYTES else self.big_write


class Session(Protocol):
    """One mount's connection to the kernel. `mount` comes first, then `serve`, then `close`."""

    counters: Counters
    paces: Paces

    def mount(self, point: str, options: MountOptions) -> None:
        """From here on the kernel has requests. Raises MountNotPermitted, MountFailed,
        SessionLimit."""

    def serve(self) -> None:
        """Answer requests until the mount is over or `stop` was called."""

    def stop(self) -> None:
        """End `serve` soon, whoever still has files open. From any thread."""

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        """Raises OSError, for which there may be good reason: nothing is cached."""

    def invalidate_inode(self, inode: int, *, attributes_only: bool) -> None:
        """Likewise."""

    def close(self, *, unmount: bool) -> None:
        """Let go of the kernel."""
