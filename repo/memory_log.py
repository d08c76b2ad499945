"""The log behind the in-memory store: positions, capacity, and what a power cut takes away.

Every write registers how to undo itself. `commit` drops the undos, `crash` runs the newest ones:
what is left is a prefix of what was written that contains everything committed, which is exactly
what a device guarantees.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import RLock

from repo.errors import StoreFull


class MemoryLog:
    """Shared by the blocks, names and journals of one in-memory store. Thread-safe.

    `lock` guards this object and everything its owners keep; they hold it around each operation.
    """

    def __init__(self, capacity_bytes: int | None = None) -> None:
        self.lock = RLock()
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0
        self.commit_count = 0
        """How often `commit` was called: what a device would have had to flush."""
        self._position = 0
        self._undos: deque[Callable[[], None]] = deque()

    def position(self) -> int:
        """That of the newest write; everything written later has a larger one."""
        return self._position

    def reserve(self, size_bytes: int) -> None:
        """Take room, or raise StoreFull and take none. Give back with a negative size."""
        used = self.used_bytes + size_bytes
        if size_bytes > 0 and self.capacity_bytes is not None and used > self.capacity_bytes:
            raise StoreFull
        self.used_bytes = used

    def written(self, undo: Callable[[], None]) -> int:
        """Register a write that was just done; returns its position."""
        self._position += 1
        self._undos.append(undo)
        return self._position

    def commit(self) -> None:
        """Everything written so far survives `crash`."""
        with self.lock:
            self._undos.clear()
            self.commit_count += 1

    def uncommitted_count(self) -> int:
        """Writes that a crash may take away."""
        return len(self._undos)

    def crash(self, kept_count: int = 0) -> None:
        """Lose power: of the writes since the last commit only the first `kept_count` stay."""
        with self.lock:
            while len(self._undos) > kept_count:
                self._undos.pop()()
            self._undos.clear()
