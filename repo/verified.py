"""Which blocks were found intact recently: hashing 1 MiB for each 4 KiB read would cost 600 us.

Invariant: a multihash is in the set only after bytes read from the store hashed to it. A write
does not put it there: what the device gives back is what counts. Deleting takes it out.

What the set cannot see is damage to a page that leaves memory and comes back from the device
changed while the multihash is still in the set. The set is bounded, so this window is too;
`check` and `scrub` read everything without it.
"""

from __future__ import annotations

from ipld.block import Block, BytesLike
from repo.errors import BlockDamaged
from repo.recent import Recent

VERIFIED_COUNT_MAX = 1 << 16
"""About 10 MiB of memory; 64 GiB of 1 MiB leaves."""


class Verified:
    """Thread-safe."""

    __slots__ = ("_recent",)

    def __init__(self, count_max: int = VERIFIED_COUNT_MAX) -> None:
        self._recent: Recent[bytes, bool] = Recent(count_max)

    def is_known(self, multihash: bytes) -> bool:
        """Whether a read may skip the hash."""
        return self._recent.get(multihash) is not None

    def check(self, cid: bytes, multihash: bytes, data: BytesLike) -> None:
        """Hash what was read and remember the result. Raises BlockDamaged."""
        if not Block.matches(multihash, data):
            raise BlockDamaged(cid)
        self._recent.put(multihash, True)

    def forget(self, multihash: bytes) -> None:
        """The block is deleted, or its bytes are in doubt."""
        self._recent.discard(multihash)

    def clear(self) -> None:
        """Trust nothing that was read before."""
        self._recent.clear()
