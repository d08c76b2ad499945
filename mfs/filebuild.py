"""From the frozen changes of one file to its DAG: the file's half of a flush.

The CID law holds because the result depends on the bytes and the profile only: an edit of a
canonical balanced file gives what building it anew gives, and everything else is built anew.

Runs without locks on frozen layers. Work and memory are bounded by what changed: a terabyte of
holes is built in steps, from one and the same block of zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from ipld import cid as cids
from ipld import filedag
from ipld.block import Block
from ipld.chunk import leaf_count
from ipld.filedag import FileLink
from ipld.filenode import file_node
from ipld.profile import Profile
from mfs.content import Content, fetch

Get = Callable[[bytes], bytes]
Put = Callable[[Block], None]

_LEAVES_PER_STEP = 16_384
"""Leaves that one edit replaces; bounds the links held at a time."""


def is_editable(link: FileLink, profile: Profile, get: Get) -> bool:
    """Whether `filedag.edit` may change this DAG: it is what the profile makes of its bytes.

    A file with mode and mtime of its own in the DAG is not: heads keep these beside the tree.
    """
    if profile.layout != "balanced":
        return False
    if cids.codec_of(link.cid) == cids.DAG_PB and file_node(link.cid, get)[1].attributes:
        return False
    return filedag.is_canonical(link, profile, get)


class FileBuilder:
    """Builds files of one root; keeps the leaves of zeros that it has made."""

    def __init__(self, profile: Profile, get: Get, put: Put) -> None:
        self._profile = profile
        self._get = get
        self._put = put
        self._chunk_size = profile.chunk_size_bytes
        self._zeros: dict[int, FileLink] = {}

    def build(self, frozen: Content, size: int, *, editable: bool) -> FileLink:
        """The DAG of `size` bytes of a frozen view. `editable` is about its base."""
        if frozen.base is None or not editable:
            return self._assemble(frozen, size)
        return self._edit(frozen, frozen.base, size)

    def _assemble(self, frozen: Content, size: int) -> FileLink:
        count = leaf_count(size, self._chunk_size)
        if count == 1 and self._profile.layout == "balanced":
            return self._leaf(frozen, 0, size)
        assembler = filedag.Assembler(self._profile, self._put)
        for index in range(count):
            assembler.add(self._leaf(frozen, index, size))
        return assembler.finish()

    def _edit(self, frozen: Content, base: FileLink, size: int) -> FileLink:
        """Shrinks the base to what is still visible of it, then replaces leaves and grows."""
        count = leaf_count(size, self._chunk_size)
        kept_count = leaf_count(min(frozen.active.limit, size), self._chunk_size)
        root = base
        replaced: dict[int, FileLink] = {}
        for index in chain(
            self._changed_leaves(frozen, base, size, kept_count), range(kept_count, count)
        ):
            replaced[index] = self._leaf(frozen, index, size)
            if len(replaced) >= _LEAVES_PER_STEP and index + 1 >= kept_count:
                root = self._step(root, replaced, index + 1)
                replaced = {}
        if replaced or count != leaf_count(root.size, self._chunk_size):
            root = self._step(root, replaced, count)
        return root

    def _step(self, root: FileLink, replaced: dict[int, FileLink], count: int) -> FileLink:
        return filedag.edit(root, replaced, count, self._profile, self._get, self._put)

    def _changed_leaves(
        self, frozen: Content, base: FileLink, size: int, kept_count: int
    ) -> Iterator[int]:
        """Leaves below `kept_count` that are not those of the base, ascending."""
        limit = min(frozen.active.limit, size)
        last = kept_count - 1
        end = kept_count * self._chunk_size
        old_end, new_end = min(end, base.size), min(end, size)
        is_last_changed = old_end != new_end or old_end > limit
        changed = {index for index in frozen.active.leaves if index < kept_count}
        if is_last_changed:
            changed.add(last)
        yield from sorted(changed)

    def _leaf(self, frozen: Content, index: int, size: int) -> FileLink:
        """The block of leaf `index` of the new content, written unless it is one already."""
        start = index * self._chunk_size
        length = min(self._chunk_size, size - start)
        leaf = frozen.active.leaves.get(index)
        if leaf is None:
            if start >= frozen.active.limit:
                return self._zero_leaf(length)
        elif not leaf.extents:
            under = leaf.under
            if isinstance(under, FileLink) and leaf.under_limit == under.size == length:
                return under
        elif (whole := leaf.extents.take_whole(length)) is not None:
            # Frozen, so that it can be handed on as it is.
            return self._write_leaf(whole)
        return self._write_leaf(fetch(frozen.plan(start, start + length)) if length else b"")

    def _zero_leaf(self, length: int) -> FileLink:
        link = self._zeros.get(length)
        if link is None:
            link = self._zeros[length] = self._write_leaf(bytes(length))
        return link

    def _write_leaf(self, data: bytes | bytearray | memoryview) -> FileLink:
        block, link = filedag.make_leaf(data, self._profile)
        # An empty trickle file is a root without leaves, so its leaf would be garbage.
        if link.size or self._profile.layout == "balanced":
            self._put(block)
        return link
