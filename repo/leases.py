"""What must survive a gc that runs beside writers.

A writer stores blocks first and the ref that keeps them alive last, so in between they look like
garbage. While a lease is open, gc frees

- no block written since the lease was opened (its place in the log tells), nor
- a block that anyone stored again or asked for with `has` since (`touched`: the store kept the old
  record, so only this set knows that somebody counts on it), nor
- anything below a CID that the lease was told to `keep`.

Invariants: a block is touched *before* the store is asked to write it, and the sweep holds `lock`
from the test to the deletion. So either the sweep sees the touch, or the write comes after the
deletion and stores the block anew.

Lock order: `lock` is taken alone or before the store's own locks, never while one of those is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import RLock
from types import TracebackType


def fingerprint(multihash: bytes) -> bytes:
    """16 bytes that stand for a block in the sets of gc: the end of its digest.

    Two blocks that share them are treated as one, which can keep garbage and can never free what
    is alive.
    """
    return multihash[-16:]


class Lease:
    """Open from `Leases.open` until `close`; a context manager. Thread-safe."""

    def __init__(self, leases: Leases, number: int, position: int) -> None:
        self._leases = leases
        self._number = number
        self.position = position
        self.kept: set[bytes] = set()

    def keep(self, cids: Iterable[bytes]) -> None:
        """Treat these CIDs as if a ref pointed at them, with all that is below, until `close`."""
        self._leases.keep(self, tuple(cids))

    def close(self) -> None:
        """End the protection. Idempotent."""
        self._leases.close(self._number)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Leases:
    """The open leases of one repository."""

    def __init__(self, position: Callable[[], int]) -> None:
        self.lock = RLock()
        self._position = position
        self._open: dict[int, Lease] = {}
        # One set per lease, filled while it is the newest: a lease is protected by its own set and
        # all later ones, so that a touch costs one insertion however many leases are open.
        self._touched: dict[int, set[bytes]] = {}
        self._next_number = 0
        self._announced: list[bytes] | None = None

    def open(self) -> Lease:
        """A lease from now on."""
        with self.lock:
            number = self._next_number
            self._next_number += 1
            lease = Lease(self, number, self._position())
            self._open[number] = lease
            self._touched[number] = set()
            return lease

    def close(self, number: int) -> None:
        """Called by the lease."""
        with self.lock:
            if self._open.pop(number, None) is None:
                return
            oldest = min(self._open, default=self._next_number)
            for old in [n for n in self._touched if n < oldest]:
                del self._touched[old]

    def keep(self, lease: Lease, cids: tuple[bytes, ...]) -> None:
        """Called by the lease."""
        with self.lock:
            lease.kept.update(cids)
            self.announce(cids)

    def is_any_open(self) -> bool:
        """Whether touches matter. A plain read: a lease opened later covers only what is later."""
        return bool(self._open)

    def touch(self, multihashes: Iterable[bytes]) -> None:
        """Somebody counts on these blocks from now on."""
        with self.lock:
            if self._touched:
                newest = next(reversed(self._touched.values()))
                newest.update(map(fingerprint, multihashes))

    def is_touched(self, mark: bytes) -> bool:
        """Whether a block with this fingerprint was touched under a lease that is still open."""
        return any(mark in touched for touched in self._touched.values())

    def oldest_position(self) -> int:
        """Blocks written later than this belong to an open lease."""
        with self.lock:
            return min((lease.position for lease in self._open.values()), default=self._position())

    def kept(self) -> list[bytes]:
        """The CIDs that open leases keep."""
        with self.lock:
            return [cid for lease in self._open.values() for cid in lease.kept]

    def announce(self, cids: Iterable[bytes]) -> None:
        """New roots: a gc that is running marks them before it frees anything more."""
        with self.lock:
            if self._announced is not None:
                self._announced.extend(cids)

    def listen(self, on: bool) -> None:
        """Begin or end collecting what is announced; called by gc, before it lists the refs."""
        with self.lock:
            self._announced = [] if on else None

    def take_announced(self) -> list[bytes]:
        """What was announced since the last call."""
        with self.lock:
            taken = self._announced or []
            if self._announced:
                self._announced = []
            return taken
