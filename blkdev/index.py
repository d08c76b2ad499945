"""Hash index: fingerprint of a key -> locations of its records, in C where that was built.

Slots are 16 bytes; a shard is one array, which is its own image in a checkpoint. How it works:
`pure/shards.py`, whose arrays those of `native/index.c` equal slot for slot.

Invariants
- Fingerprints may collide; whoever looks up confirms with the key in the record's header.
- A shard of a checkpoint may be put off until something is asked of it. It was not changed since,
  because a change asks first; `count` and `size_bytes` count it all the same.
- Not locked: the caller holds the store's state lock. (The C one changes as a whole under the
  interpreter's lock, so `_native.Finder` may look without the other.) Whoever has that one
  calls `fetch` or `complete` before, so that nobody waits for the device under it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from struct import Struct
from typing import TYPE_CHECKING

from blkdev.pure.shards import SHARD_COUNT

if TYPE_CHECKING:
    from blkdev.pure.shards import Shards, fingerprint_of
else:
    try:
        from blkdev._native import Index as Shards
        from blkdev._native import fingerprint_of
    except ImportError:
        from blkdev.pure.shards import Shards, fingerprint_of

__all__ = ["Image", "Index", "fingerprint_of"]

Image = list[tuple[int, int, bytes]]
"""Per shard its homes, used slots, and the slots."""
_SLOT = Struct("<QQ")


class Index(Shards):
    """All shards of one store. `source` loads one that was put off, `was_damaged` says that it had
    to take one from the log.
    """

    def __init__(self) -> None:
        super().__init__()
        self._fetch_lock = threading.Lock()
        self.source: Callable[[Index, int], None] | None = None
        self.was_damaged = False

    def fetch(self, number: int) -> None:
        """Load a shard that was put off. Raises StoreDamaged, NewerFormat."""
        with self._fetch_lock:
            if self.source is not None and not self.is_there(number):
                self.source(self, number)

    def missing(self) -> list[int]:
        """Numbers of the shards that are put off."""
        return [number for number in range(SHARD_COUNT) if not self.is_there(number)]

    def complete(self) -> None:
        """Have all of it in memory. Raises as `fetch`."""
        for number in self.missing():
            self.fetch(number)

    def entries(self) -> Iterator[tuple[int, int]]:
        """All (fingerprint, location), one shard's copy at a time."""
        for number in range(SHARD_COUNT):
            _, used, slots = self.shard(number)
            if used:
                yield from (entry for entry in _SLOT.iter_unpack(slots) if entry[1])

    def image(self) -> Image:
        """A copy for a checkpoint."""
        return [self.shard(number) for number in range(SHARD_COUNT)]
