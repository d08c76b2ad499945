"""How large the content of a HAMT is, without reading more of it than the answer needs.

A directory goes back to its plain form when its entries would fit again, so whoever removes from a
HAMT has to know whether they do. The count stops at the limit, and what was counted once is
remembered by shard: the next removal then reads the shards on its own path only.
"""

from __future__ import annotations

from collections.abc import Callable

from ipld.hamt import Shard, load_child
from ipld.nodes import Get


class SizeMemo:
    """Sizes of sub-shards that were measured once: facts about content, so they never grow stale.

    Bounded to `capacity` shards of about 200 bytes each. Safe to share between threads: every
    operation is one step of the interpreter on a dict.
    """

    def __init__(self, capacity: int = 1 << 16) -> None:
        self._capacity = capacity
        self._sizes: dict[tuple[object, bytes], tuple[int, int]] = {}

    def get(self, measure: object, cid: bytes) -> tuple[int, int] | None:
        return self._sizes.get((measure, cid))

    def add(self, measure: object, cid: bytes, size: tuple[int, int]) -> None:
        if len(self._sizes) >= self._capacity:
            self._sizes.clear()
        self._sizes[measure, cid] = size


class Scale:
    """Measures how many entries a tree has and how large they are, up to a limit."""

    def __init__(
        self,
        size_of: Callable[[bytes, bytes, int], int],
        exceeds: Callable[[int, int], bool],
        memo: SizeMemo,
    ) -> None:
        self._size_of = size_of
        self._exceeds = exceeds
        self._memo = memo

    def is_exceeded(self, root: Shard, get: Get) -> bool:
        """Reads sub-shards until the limit is passed; those in the memo are not read."""
        return self._exceeds(*self._measure(root, 0, (0, 0), get))

    def _measure(
        self, shard: Shard, level: int, before: tuple[int, int], get: Get
    ) -> tuple[int, int]:
        """Entries and bytes up to the end of a shard, where `before` precede it; less when the
        limit is passed on the way."""
        width = shard.shape.width
        count, size = before
        for link in shard.children.values():
            if len(link.name) > width:
                below = 1, self._size_of(link.name[width:], link.cid, link.tsize)
            else:
                known = self._memo.get(self._size_of, link.cid)
                if known is None:
                    child = load_child(link, shard.shape, level + 1, get)
                    end = self._measure(child, level + 1, (count, size), get)
                    if self._exceeds(*end):
                        return end
                    known = end[0] - count, end[1] - size
                    self._memo.add(self._size_of, link.cid, known)
                below = known
            count, size = count + below[0], size + below[1]
            if self._exceeds(count, size):
                break
        return count, size
