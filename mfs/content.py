"""What a file holds: its DAG as of the last flush, and layers of changes above it.

    active layer     writes and truncations since the last flush began
    frozen layer     the same of a flush that is running; nothing changes it any more
    base             the file's DAG

Each layer replaces bytes of what is below it: by `Leaf`s, and by its `limit`, from which on
nothing below is visible (what was cut off stays cut off when the file grows again). Bytes that no
layer and no base has are zeros: holes cost nothing.

A leaf that was written completely becomes a block at once (`Leaf.under`), so large writes neither
stay in memory nor are written twice. Hashing happens outside the tree's lock: the bytes are set
aside under the lock, and the link takes their place later if the leaf still holds them.

The tree's lock guards layers. `plan` is called with it and `fetch` without it: a read from the
store may take long. Offsets and sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from ipld import cid as cids
from ipld.errors import MalformedUnixfs
from ipld.filedag import FileLink, FileReader
from ipld.varint import BytesLike
from mfs.extents import Extents, Intervals
from repo.service import Repo

LEAF_OVERHEAD_BYTES = 600
"""Memory of a leaf beside its bytes."""
_LEAF_READERS_MAX = 64


class Reader:
    """Bytes of one immutable DAG or leaf. Thread-safe; decodes nodes once."""

    __slots__ = ("_file", "_link", "_repo")

    def __init__(self, link: FileLink, repo: Repo) -> None:
        self._link = link
        self._repo = repo
        self._file: FileReader | None = None

    def read(self, start: int, length: int) -> bytes:
        """Exactly these bytes. Raises BlockUnavailable, BlockDamaged, MalformedUnixfs."""
        cid = self._link.cid
        # A codec without a file format is shown as the bytes of its block.
        if cids.codec_of(cid) != cids.DAG_PB:
            return self._slice(cid, start, length)
        if self._file is None:
            self._file = FileReader(cid, self._repo.get)
        pieces = [
            self._slice(block, at, take) for block, at, take in self._file.slices(start, length)
        ]
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if len(data) != length:
            raise MalformedUnixfs(f"{cids.to_text(cid)} is shorter than its directory says")
        return data

    def _slice(self, cid: bytes, start: int, length: int) -> bytes:
        data = self._repo.get_part(cid, start, length)
        if len(data) != length:
            raise MalformedUnixfs(f"{cids.to_text(cid)} is shorter than its parent says")
        return data


class Span(NamedTuple):
    """Bytes that are still to be read from the store."""

    reader: Reader
    start: int
    length: int


Plan: TypeAlias = list[BytesLike | Span]


def fetch(plan: Plan) -> BytesLike:
    """The bytes of a plan. Needs no lock."""
    parts = [
        part.reader.read(part.start, part.length) if isinstance(part, Span) else part
        for part in plan
    ]
    return parts[0] if len(parts) == 1 else b"".join(parts)


class Leaf:
    """Changes of one chunk. Offsets are relative to its start.

    With `under`, nothing below the layer is visible through this leaf: where `extents` has nothing,
    the first `under_limit` bytes of `under` are, and behind them zeros.
    """

    __slots__ = ("extents", "fresh", "under", "under_fresh", "under_limit")

    def __init__(self) -> None:
        self.extents = Extents()
        self.under: FileLink | bytearray | None = None
        self.under_limit = 0
        self.fresh = Intervals()
        """Bytes that no journal batch has."""
        self.under_fresh = False
        """Whether no journal batch has the link in `under`."""

    @property
    def memory_bytes(self) -> int:
        held = len(self.under) if isinstance(self.under, bytearray) else 0
        return self.extents.memory_bytes + held + LEAF_OVERHEAD_BYTES

    def truncate(self, end: int) -> None:
        self.extents.truncate(end)
        self.fresh.truncate(end)
        self.under_limit = min(self.under_limit, end)

    def set_under(self, under: FileLink | bytearray, limit: int) -> None:
        """All of the leaf is what `under` says."""
        self.extents = Extents()
        self.under = under
        self.under_limit = limit

    def set_link(self, link: FileLink, limit: int) -> None:
        """All of the leaf is in a block now; the journal needs the link instead of the bytes."""
        self.set_under(link, limit)
        self.fresh.clear()
        self.under_fresh = True

    def mark_all_fresh(self) -> None:
        """No journal batch has anything of it."""
        self.fresh.clear()
        self.under_fresh = isinstance(self.under, FileLink)
        if isinstance(self.under, bytearray):
            self.fresh.add(0, self.under_limit)
        for start, end in self.extents.ranges():
            self.fresh.add(start, end)

    def fresh_pieces(self) -> list[tuple[int, bytes]]:
        """Offsets and copies of the bytes that no journal batch has."""
        pieces: list[tuple[int, bytes]] = []
        for start, end in self.fresh:
            if isinstance(self.under, bytearray):
                stop = min(end, self.under_limit)
                if start < stop:
                    pieces.append((start, bytes(memoryview(self.under)[start:stop])))
            for at, view in self.extents.slices(start, end):
                pieces.append((at, bytes(view)))
                view.release()
        return pieces


class Layer:
    """Changes of one file since some moment."""

    __slots__ = ("chunk_size", "cut", "fresh", "leaves", "limit", "memory_bytes")

    def __init__(self, limit: int, chunk_size: int) -> None:
        self.limit = limit
        self.chunk_size = chunk_size
        self.leaves: dict[int, Leaf] = {}
        self.fresh: set[int] = set()
        """Leaves with anything that no journal batch has."""
        self.memory_bytes = 0
        self.cut: int | None = None
        """The smallest size that the file had since the last journal batch, if it was truncated."""

    def write(self, offset: int, data: memoryview, made: Mapping[int, FileLink]) -> list[int]:
        """Put bytes over the file; `made` has blocks of whole leaves that are in `data`.

        Returns the leaves that became complete by these bytes and are not blocks yet.
        """
        chunk_size = self.chunk_size
        complete = []
        at, end = offset, offset + len(data)
        while at < end:
            index, start = divmod(at, chunk_size)
            stop = min(chunk_size, start + end - at)
            leaf = self._leaf(index)
            self.fresh.add(index)
            before = leaf.memory_bytes
            link = made.get(index)
            if link is not None:
                leaf.set_link(link, chunk_size)
            else:
                leaf.extents.write(start, data[at - offset : at - offset + stop - start])
                leaf.fresh.add(start, stop)
                whole = leaf.extents.take_whole(chunk_size)
                if whole is not None:
                    leaf.set_under(whole, chunk_size)
                    complete.append(index)
            self.memory_bytes += leaf.memory_bytes - before
            at += stop - start
        return complete

    def put_link(self, index: int, link: FileLink, limit: int) -> None:
        """All of a leaf is in a block, of which the first `limit` bytes are visible."""
        leaf = self._leaf(index)
        before = leaf.memory_bytes
        leaf.set_link(link, limit)
        self.fresh.add(index)
        self.memory_bytes += leaf.memory_bytes - before

    def seal(self, index: int, data: bytearray, link: FileLink) -> None:
        """These bytes of a leaf are a block now; nothing happens if they are no longer its own."""
        leaf = self.leaves.get(index)
        if leaf is None or leaf.under is not data:
            return
        leaf.under = link
        self.memory_bytes -= len(data)
        self.fresh.add(index)
        leaf.under_fresh = True
        # What was written over the block meanwhile stays fresh; nothing else can be told apart.
        if not leaf.extents:
            leaf.fresh.clear()

    def truncate(self, size: int) -> None:
        """Cut off what lies at `size` and behind it, here and in all below."""
        self.limit = min(self.limit, size)
        self.cut = size if self.cut is None else min(self.cut, size)
        boundary, rest = divmod(size, self.chunk_size)
        if boundary in self.leaves and rest:
            leaf = self.leaves[boundary]
            before = leaf.memory_bytes
            leaf.truncate(rest)
            self.memory_bytes += leaf.memory_bytes - before
            boundary += 1
        for index in [index for index in self.leaves if index >= boundary]:
            self._drop(index)

    def absorb(self, newer: Layer) -> None:
        """Take over the changes of the layer above, so that one layer is left."""
        self.truncate(newer.limit)
        for index, leaf in newer.leaves.items():
            if leaf.under is not None and index in self.leaves:
                self._drop(index)
            mine = self._leaf(index)
            before = mine.memory_bytes
            if leaf.under is not None:
                mine.under, mine.under_limit = leaf.under, leaf.under_limit
            for at, view in leaf.extents.slices(0, self.chunk_size):
                mine.extents.write(at, view)
                view.release()
            self.memory_bytes += mine.memory_bytes - before

    def mark_all_fresh(self) -> None:
        """All of the layer belongs into the next batch, which may follow any others.

        A cut at the limit takes away what they wrote behind it. What they wrote before it was never
        cut off, so it is here as well.
        """
        self.cut = self.limit
        self.fresh = set(self.leaves)
        for leaf in self.leaves.values():
            leaf.mark_all_fresh()

    def _leaf(self, index: int) -> Leaf:
        leaf = self.leaves.get(index)
        if leaf is None:
            leaf = self.leaves[index] = Leaf()
            self.memory_bytes += leaf.memory_bytes
        return leaf

    def _drop(self, index: int) -> None:
        self.memory_bytes -= self.leaves.pop(index).memory_bytes
        self.fresh.discard(index)


class Content:
    """The content of one file while it is open or changed."""

    __slots__ = ("_leaf_readers", "_reader", "_repo", "active", "base", "frozen")

    def __init__(self, base: FileLink | None, active: Layer, repo: Repo) -> None:
        self._repo = repo
        self.base = base
        self.active = active
        self.frozen: Layer | None = None
        self._reader: Reader | None = None
        self._leaf_readers: dict[bytes, Reader] | None = None

    @classmethod
    def of(cls, base: FileLink | None, chunk_size: int, repo: Repo) -> Content:
        """The content of a file that is not changed."""
        return cls(base, Layer(base.size if base else 0, chunk_size), repo)

    @property
    def memory_bytes(self) -> int:
        """Memory that only a flush gives back."""
        return self.active.memory_bytes + (self.frozen.memory_bytes if self.frozen else 0)

    @property
    def is_changed(self) -> bool:
        """Whether the active layer says anything that its base does not."""
        below = self.base.size if self.base else 0
        return bool(self.active.leaves) or self.active.cut is not None or self.active.limit < below

    # --------------------------------------------------------------------------- flushing

    def freeze(self, size: int) -> Layer:
        """Begin a flush: the changes so far stay as they are, later ones go to a new layer."""
        assert self.frozen is None, "one flush of a root runs at a time"
        self.frozen = self.active
        self.active = Layer(size, self.active.chunk_size)
        return self.frozen

    def settle(self, base: FileLink) -> None:
        """The flush went well: what was frozen is in the DAG."""
        self.base = base
        self._reader = None
        self._leaf_readers = None
        self.frozen = None

    def thaw(self) -> None:
        """The flush failed: everything is unflushed again, in one layer."""
        if self.frozen is not None:
            self.frozen.absorb(self.active)
            self.active, self.frozen = self.frozen, None

    def frozen_view(self) -> Content:
        """The content as of `freeze`, for the flush to read without the lock."""
        assert self.frozen is not None, "asked for during a flush only"
        return Content(self.base, self.frozen, self._repo)

    # ---------------------------------------------------------------------------- reading

    def plan(self, start: int, end: int) -> Plan:
        """How to get the bytes start … end, which must lie inside the file. Needs the lock."""
        layers = [self.active] if self.frozen is None else [self.active, self.frozen]
        plan: Plan = []
        self._plan_layer(layers, 0, start, end, plan)
        return plan

    def _plan_layer(
        self, layers: list[Layer], depth: int, start: int, end: int, plan: Plan
    ) -> None:
        if depth == len(layers):
            plan.append(Span(self._base_reader(), start, end - start))
            return
        layer = layers[depth]
        if not layer.leaves:
            self._plan_below(layers, depth, start, end, plan)
            return
        chunk_size = layer.chunk_size
        while start < end:
            index = start // chunk_size
            stop = min(end, (index + 1) * chunk_size)
            leaf = layer.leaves.get(index)
            if leaf is None:
                self._plan_below(layers, depth, start, stop, plan)
            else:
                at = start
                for offset, view in leaf.extents.slices(
                    start - index * chunk_size, stop - index * chunk_size
                ):
                    offset += index * chunk_size
                    self._plan_under(layers, depth, leaf, at, offset, plan)
                    plan.append(bytes(view))
                    at = offset + len(view)
                    view.release()
                self._plan_under(layers, depth, leaf, at, stop, plan)
            start = stop

    def _plan_under(
        self, layers: list[Layer], depth: int, leaf: Leaf, start: int, end: int, plan: Plan
    ) -> None:
        """A part of a leaf that was not written piece by piece."""
        if start >= end:
            return
        under = leaf.under
        if under is None:
            self._plan_below(layers, depth, start, end, plan)
            return
        first = start - start % layers[depth].chunk_size
        stop = min(end, first + leaf.under_limit)
        if start < stop:
            if isinstance(under, bytearray):
                plan.append(bytes(memoryview(under)[start - first : stop - first]))
            else:
                plan.append(Span(self._leaf_reader(under), start - first, stop - start))
        if stop < end:
            plan.append(bytes(end - max(start, stop)))

    def _plan_below(
        self, layers: list[Layer], depth: int, start: int, end: int, plan: Plan
    ) -> None:
        """A part that a layer has no leaf for: what is below it, up to its limit."""
        stop = min(end, layers[depth].limit)
        if start < stop:
            self._plan_layer(layers, depth + 1, start, stop, plan)
        if stop < end:
            plan.append(bytes(end - max(start, stop)))

    def _base_reader(self) -> Reader:
        if self._reader is None:
            assert self.base is not None, "a limit above 0 has a base below it"
            self._reader = Reader(self.base, self._repo)
        return self._reader

    def _leaf_reader(self, link: FileLink) -> Reader:
        if self._leaf_readers is None or len(self._leaf_readers) >= _LEAF_READERS_MAX:
            self._leaf_readers = {}
        reader = self._leaf_readers.get(link.cid)
        if reader is None:
            reader = self._leaf_readers[link.cid] = Reader(link, self._repo)
        return reader
