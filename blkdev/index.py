"""Hash index: fingerprint of a key -> locations of its records, in C where that was built.

Slots are 16 bytes; a shard is one array, which is its own image in a checkpoint. How it works:
`shards.py`, whose arrays those of `native/index.c` equal slot for slot.

Invariants
- Fingerprints may collide; whoever looks up confirms with the key in the record's header.
- Not locked: the caller holds the store's state lock. (The C one changes as a whole under the
  interpreter's lock, so `_native.Finder` may look without the other.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import TYPE_CHECKING

from blkdev.format import BytesLike
from blkdev.shards import SHARD_COUNT

if TYPE_CHECKING:
    from blkdev.shards import Shards, fingerprint_of
else:
    try:
        from blkdev._native import Index as Shards
        from blkdev._native import fingerprint_of
    except ImportError:
        from blkdev.shards import Shards, fingerprint_of

__all__ = ["Image", "Index", "fingerprint_of"]

Image = list[tuple[int, int, BytesLike]]
"""Per shard its homes, used slots, and the slots."""
_SLOT = Struct("<QQ")


class Index(Shards):
    """All shards of one store."""

    __slots__ = ()

    def entries(self) -> Iterator[tuple[int, int]]:
        """All (fingerprint, location), one shard's copy at a time."""
        for number in range(SHARD_COUNT):
            _, used, slots = self.shard(number)
            if used:
                yield from (entry for entry in _SLOT.iter_unpack(slots) if entry[1])

    def image(self) -> Image:
        """A copy for a checkpoint."""
        return [self.shard(number) for number in range(SHARD_COUNT)]

    @classmethod
    def from_image(cls, image: Iterable[tuple[int, int, BytesLike]]) -> Index:
        """The inverse of `image`. Raises ValueError for what cannot be one."""
        index = cls()
        for number, shard in enumerate(image):
            index.load(number, *shard)
        return index
