"""Open files and directories: what a handle number stands for.

Invariants:
- A handle number is never used twice in the life of a mount, so a late release cannot close
  somebody else's file.
- A file handle counts as one opener of its inode in the tree, from `add` to `remove`.

Thread-safe without a lock: numbers come from one atomic counter, and every change to the tables is
a single dict operation on a key that only its owner uses.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

from fusefs.errors import BadHandle, StaleInode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusefs.views import Branch


class FileHandle:
    """An open file."""

    __slots__ = ("branch", "ino", "may_keep_privileges", "synchronous", "writable")

    def __init__(
        self, branch: Branch, ino: int, flags: int, *, privileged: bool, synchronous: bool
    ) -> None:
        self.branch = branch
        self.ino = ino
        self.writable = flags & os.O_ACCMODE != os.O_RDONLY
        self.synchronous = synchronous or bool(flags & os.O_DSYNC)
        """Every write is durable when it is answered (O_SYNC includes O_DSYNC)."""
        self.may_keep_privileges = privileged
        """Opened by a user whose writes leave the set-user-ID bit alone, as root's do."""


class DirectoryHandle:
    """An open directory: the listing taken when it was opened or rewound.

    The position of an entry is its index plus one, so listing goes on where it stopped and shows
    every entry that was there all the time exactly once, whatever is made or removed meanwhile.
    """

    __slots__ = ("branch", "entries", "ino")

    def __init__(self, branch: Branch, ino: int) -> None:
        self.branch = branch
        self.ino = ino
        self.entries: Sequence[tuple[bytes, int, int]] | None = None


Handle = FileHandle | DirectoryHandle


class Handles:
    """Numbers to handles."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._open: dict[int, Handle] = {}

    def add(self, handle: Handle) -> int:
        number = next(self._numbers)
        self._open[number] = handle
        return number

    def file(self, number: int) -> FileHandle:
        """Raises BadHandle."""
        handle = self._open.get(number)
        if type(handle) is not FileHandle:
            raise BadHandle(f"handle {number} is not an open file")
        if handle.branch.gone:
            raise StaleInode("the root of this open file was replaced or dropped (open it again)")
        return handle

    def directory(self, number: int) -> DirectoryHandle:
        """Raises BadHandle."""
        handle = self._open.get(number)
        if type(handle) is not DirectoryHandle:
            raise BadHandle(f"handle {number} is not an open directory")
        if handle.branch.gone:
            raise StaleInode("the root of this directory was replaced or dropped (open it again)")
        return handle

    def branch(self, number: int) -> Branch | None:
        """Where a handle lives; None for one that is not open."""
        handle = self._open.get(number)
        return None if handle is None else handle.branch

    def remove(self, number: int) -> Handle:
        """Raises BadHandle."""
        handle = self._open.pop(number, None)
        if handle is None:
            raise BadHandle(f"handle {number} is not open")
        return handle

    def remove_all(self) -> list[Handle]:
        """What is still open at the end of a mount: the kernel forgot to, or could not, release."""
        left = []
        while self._open:
            left.append(self._open.popitem()[1])
        return left

    def __len__(self) -> int:
        return len(self._open)
