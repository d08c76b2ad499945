"""Which blocks were found intact recently: hashing 1 MiB for each 4 KiB read would cost 600 us.

Two generations, as in `repo.recent`: keys enter the young one; when that is full it becomes the old
one, and what was in the old one is forgotten unless it was asked for since.

Invariant: a multihash is in a set only after bytes read from the store hashed to it. A write
does not put it there: what the device gives back is what counts. Deleting takes it out.

What the sets cannot see is damage to a page that leaves memory and comes back from the device
changed while the multihash is still in one. They are bounded, so this window is too;
`check` and `scrub` read everything without them.
"""

from __future__ import annotations

from threading import Lock

from ipld.block import Block, BytesLike
from repo.errors import BlockDamaged

VERIFIED_COUNT_MAX = 1 << 16
"""About 10 MiB of memory; 64 GiB of 1 MiB leaves."""


class Verified:
    """Thread-safe. `recent` is the young generation: the engine's views look at it themselves, and
    add to it (`blkdev.reader.Compared`).
    """

    __slots__ = ("_lock", "_old", "recent", "recent_max")

    def __init__(self, count_max: int = VERIFIED_COUNT_MAX) -> None:
        self._lock = Lock()
        self.recent: set[bytes] = set()
        self._old: set[bytes] = set()
        self.recent_max = max(1, count_max // 2)

    def is_known(self, multihash: bytes) -> bool:
        """Whether a read may skip the hash."""
        if multihash in self.recent:
            return True
        if multihash not in self._old:
            return False
        with self._lock:
            # Looked up again under the lock: what was forgotten since must stay forgotten.
            is_known = multihash in self._old
            if is_known:
                self._old.discard(multihash)
                self._add(multihash)
        return is_known or multihash in self.recent

    def check(self, cid: bytes, multihash: bytes, data: BytesLike) -> None:
        """Hash what was read and remember the result. Raises BlockDamaged."""
        if not Block.matches(multihash, data):
            raise BlockDamaged(cid)
        with self._lock:
            self._add(multihash)

    def turn(self) -> None:
        """The young generation is full."""
        with self._lock:
            self._turn()

    def forget(self, multihash: bytes) -> None:
        """The block is deleted, or its bytes are in doubt."""
        with self._lock:
            self.recent.discard(multihash)
            self._old.discard(multihash)

    def clear(self) -> None:
        """Trust nothing that was read before."""
        with self._lock:
            self.recent, self._old = set(), set()

    def __len__(self) -> int:
        return len(self.recent) + len(self._old)

    def _add(self, multihash: bytes) -> None:
        self.recent.add(multihash)
        self._turn()

    def _turn(self) -> None:
        if len(self.recent) > self.recent_max:
            # A fresh set, not a cleared one: readers without the lock keep a consistent view.
            self._old, self.recent = self.recent, set()
