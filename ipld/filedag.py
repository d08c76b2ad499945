"""File DAGs: from leaves to one root, and changes to a root that has many leaves.

Invariants of a canonical balanced file of n leaves under a profile with M = max_file_links:
- every leaf but the last holds exactly chunk_size_bytes; an empty file is one empty leaf;
- all leaves lie at one depth, the smallest d with M**d >= n; a single leaf is the root itself;
- node k of level l covers leaves k*M**l up to (k+1)*M**l, so its place alone says what it holds.
The last point is what makes `edit` possible: a node changes only if a leaf below it does or if it
lies on the right edge, hence the same bytes give the same CID whatever the history of writes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ipld import chunk, multihash, unixfs
from ipld import cid as cids
from ipld.block import Block
from ipld.errors import InvalidParameter, IpldError, TooDeep
from ipld.filenode import (
    FileLink,
    children,
    describe,
    file_node,
    leaf_frame,
    leaf_profile,
    make_leaf,
    make_node,
    put_node,
    set_attributes,
    symlink,
)
from ipld.filereader import DEPTH_MAX, FileReader
from ipld.nodes import Get, Put
from ipld.profile import Profile
from ipld.trickle import TrickleTree
from ipld.unixfs import Attributes, Kind
from ipld.varint import BytesLike

__all__ = [
    "Assembler",
    "FileLink",
    "FileReader",
    "add_bytes",
    "describe",
    "edit",
    "is_canonical",
    "leaf_links",
    "leaf_profile",
    "make_leaf",
    "set_attributes",
    "symlink",
]


class Assembler:
    """Leaves in order become one root; memory is bounded by depth * max_file_links links.

    The caller has put the leaves; the assembler puts inner nodes only, each as soon as it is full.
    """

    def __init__(self, profile: Profile, put: Put, attributes: Attributes | None = None) -> None:
        self._profile, self._put, self._attributes = profile, put, attributes
        tree = TrickleTree if profile.layout == "trickle" else _BalancedTree
        self._tree: TrickleTree | _BalancedTree = tree(profile, put)
        self._single_leaf: BytesLike | None = None
        self._leaf_count = 0

    def add(self, leaf: FileLink, data: BytesLike | None = None) -> None:
        """The next leaf. `data`, its content, is needed for the first leaf of a file with
        attributes only: when it stays the only one, it is written again with them."""
        self._single_leaf = data if self._leaf_count == 0 else None
        self._leaf_count += 1
        # An empty trickle file is a root without links.
        if leaf.size or self._profile.layout == "balanced":
            self._tree.add(leaf)

    def finish(self) -> FileLink:
        """The root. Call once, after the last leaf; without any leaf, raises InvalidParameter."""
        if self._leaf_count == 0:
            raise InvalidParameter("a file needs at least one leaf (an empty one if it is empty)")
        single = self._leaf_count == 1 and self._profile.layout == "balanced"
        if single and self._attributes:
            if self._single_leaf is None:
                raise InvalidParameter("the only leaf of a file with attributes needs its data")
            record = unixfs.file(bytes(self._single_leaf), attributes=self._attributes)
            return put_node([], record, self._profile, self._put)
        return self._tree.finish(self._attributes)


class _BalancedTree:
    """Level l holds the finished nodes of that level that have no parent yet, at most M of them.

    A full level is closed only when one more node arrives: until then it may be the root's.
    """

    def __init__(self, profile: Profile, put: Put) -> None:
        self._profile, self._put = profile, put
        self._levels: list[list[FileLink]] = [[]]

    def add(self, leaf: FileLink) -> None:
        self._append(0, leaf)

    def _append(self, level: int, link: FileLink) -> None:
        if level == len(self._levels):
            self._levels.append([])
        if len(self._levels[level]) == self._profile.max_file_links:
            self._close(level)
        self._levels[level].append(link)

    def _close(self, level: int) -> None:
        node = make_node(self._levels[level], self._profile, self._put)
        self._levels[level] = []
        self._append(level + 1, node)

    def finish(self, attributes: Attributes | None) -> FileLink:
        level = 0
        while level < len(self._levels) - 1:
            self._close(level)
            level += 1
        top = self._levels[level]
        if level == 0 and len(top) == 1:
            return top[0]
        return make_node(top, self._profile, self._put, attributes)


def add_bytes(
    data: BytesLike, profile: Profile, put: Put, attributes: Attributes | None = None
) -> FileLink:
    """The file with this whole content."""
    profile = leaf_profile(profile, attributes)
    assembler = Assembler(profile, put, attributes)
    # A single leaf that will be written again with attributes is needed without them by nobody.
    rewritten = bool(attributes) and len(data) <= profile.chunk_size_bytes
    for piece in chunk.split(data, profile.chunk_size_bytes):
        block, link = make_leaf(piece, profile)
        if (not rewritten) if profile.layout == "balanced" else piece.nbytes:
            put(block)
        assembler.add(link, piece)
    return assembler.finish()


def _depth(leaf_count: int, links_max: int) -> int:
    depth, capacity = 0, 1
    while capacity < leaf_count:
        depth, capacity = depth + 1, capacity * links_max
    return depth


def edit(
    root: FileLink,
    replaced: Mapping[int, FileLink],
    leaf_count: int,
    profile: Profile,
    get: Get,
    put: Put,
    attributes: Attributes | None = None,
) -> FileLink:
    """A canonical balanced file with some leaves replaced and a new number of leaves.

    Leaf i of the result is replaced[i] or the old leaf i. Every leaf past the old end must be in
    `replaced`, and so must the old last leaf when it is short and the file grows. The root carries
    `attributes` and no others. Reads and writes nodes on changed paths only, and gives the CID that
    building the file anew gives. Raises InvalidParameter for leaves that do not fit each other.
    """
    return _Edit(root, replaced, leaf_count, profile, get, put, attributes or None).run()


@dataclass
class _Edit:
    """One call of `edit`: the old tree, the new leaves, and the recursion over (level, index)."""

    old_root: FileLink
    replaced: Mapping[int, FileLink]
    new_count: int
    profile: Profile
    get: Get
    put: Put
    attributes: Attributes | None

    def __post_init__(self) -> None:
        self._old_count = chunk.leaf_count(self.old_root.size, self.profile.chunk_size_bytes)
        self._changed = sorted(index for index in self.replaced if index < self.new_count)
        self._check_leaves()
        self._old_depth = _depth(self._old_count, self.profile.max_file_links)
        self._new_depth = _depth(self.new_count, self.profile.max_file_links)
        # The old root may become an inner node, where its attributes have no place.
        self._old_attributes: Attributes | None = None
        self._root_children: list[FileLink] = []
        kept = self._old_depth or 0 not in self.replaced
        if kept and cids.codec_of(self.old_root.cid) != cids.RAW:
            links, record = file_node(self.old_root.cid, self.get)
            self._old_attributes = record.attributes
            self._root_children = children(links, record) if self._old_depth else []

    def _check_leaves(self) -> None:
        chunk_size, last = self.profile.chunk_size_bytes, self.new_count - 1
        if self.profile.layout != "balanced" or last < 0:
            raise InvalidParameter("only a balanced file with at least one leaf can be edited")
        for index in self._changed:
            size = self.replaced[index].size
            if size > chunk_size or (size < chunk_size and index != last) or (not size and last):
                raise InvalidParameter(f"leaf {index} of {self.new_count} has {size} bytes")
        for index in range(self._old_count, self.new_count):
            if index not in self.replaced:
                raise InvalidParameter(f"leaf {index} is new and has no content")
        old_last = self._old_count - 1
        short = self.old_root.size < self._old_count * chunk_size
        if short and old_last < last and old_last not in self.replaced:
            raise InvalidParameter(f"leaf {old_last} is short and no longer the last")

    def run(self) -> FileLink:
        old: FileLink | None = None
        if self._new_depth <= self._old_depth:
            old = self.old_root
            for _ in range(self._old_depth - self._new_depth):
                old = self._children(old)[0]
        return self._node(self._new_depth, 0, old)

    def _node(self, level: int, index: int, old: FileLink | None) -> FileLink:
        """The new node at this place; `old` is the one at the same place of the old tree."""
        links_max = self.profile.max_file_links
        span = links_max**level
        first = index * span
        new_end = min(first + span, self.new_count)
        position = bisect_left(self._changed, first)
        touched = position < len(self._changed) and self._changed[position] < new_end
        attributes = self.attributes if level == self._new_depth else None
        same_attributes = attributes == (self._old_attributes if old is self.old_root else None)
        same_end = new_end == min(first + span, self._old_count)
        if old is not None and same_end and same_attributes and not touched:
            return old
        if level == 0:
            leaf = self.replaced.get(index, old)
            assert leaf is not None, "checked at the start: every new leaf is given"
            if not attributes and not (leaf is self.old_root and self._old_attributes):
                return leaf
            return set_attributes(leaf, attributes, self.profile, self.get, self.put)
        below: list[FileLink] = []
        if old is not None:
            below = self._children(old)
        elif index == 0 and level == self._old_depth + 1:
            below = [self.old_root]
        child_span = span // links_max
        count = -(-(new_end - first) // child_span)
        built = below[:count]
        for child in self._dirty_children(first, new_end, child_span, len(built), count):
            old_child = built[child] if child < len(built) else None
            new_child = self._node(level - 1, index * links_max + child, old_child)
            built[child : child + 1] = [new_child]
        return make_node(built, self.profile, self.put, attributes)

    def _children(self, old: FileLink) -> list[FileLink]:
        if old is self.old_root and self._root_children:
            return self._root_children
        return children(*file_node(old.cid, self.get))

    def _dirty_children(
        self, first: int, end: int, child_span: int, kept: int, count: int
    ) -> list[int]:
        """Children that may differ from the old ones: changed, new, or at the old right edge."""
        start, stop = bisect_left(self._changed, first), bisect_left(self._changed, end)
        dirty = {(leaf - first) // child_span for leaf in self._changed[start:stop]}
        dirty.update(range(max(kept - 1, 0), count))
        return sorted(dirty)


def leaf_links(
    root: FileLink, first: int, count: int, profile: Profile, get: Get
) -> list[FileLink]:
    """Leaves first .. first+count-1 of a canonical balanced file; reads the nodes above them."""
    total = chunk.leaf_count(root.size, profile.chunk_size_bytes)
    if first < 0 or count < 0 or first + count > total:
        raise InvalidParameter(f"leaves {first} to {first + count} of {total}")
    nodes, node_first = [root], 0
    span = profile.max_file_links ** _depth(total, profile.max_file_links)
    while span > 1:
        span //= profile.max_file_links
        below = [child for node in nodes for child in children(*file_node(node.cid, get))]
        start = (first - node_first) // span
        stop = -(-(first + count - node_first) // span)
        nodes, node_first = below[start:stop], node_first + start * span
    return nodes[first - node_first :][:count]


def is_canonical(root: FileLink, profile: Profile, get: Get) -> bool:
    """Whether building the file's leaves anew under `profile` gives this very root.

    Reads inner nodes, and the first leaf where its kind does not follow from its codec. A file that
    cannot be read is not canonical.
    """
    try:
        return _is_canonical(root, profile, get)
    except IpldError:
        return False


def _is_canonical(root: FileLink, profile: Profile, get: Get) -> bool:
    attributes = None
    if cids.codec_of(root.cid) != cids.RAW:
        links, record = file_node(root.cid, get)
        attributes = record.attributes
        if not links:
            return add_bytes(record.content or b"", profile, _discard, attributes).cid == root.cid
    profile = leaf_profile(profile, attributes)
    assembler = Assembler(profile, _discard, attributes)
    leaf_kind = Kind.RAW if profile.layout == "trickle" else Kind.FILE
    for number, leaf in enumerate(_walk_leaves(root, profile, get)):
        if not _is_leaf(leaf, profile):
            return False
        if number == 0 and not profile.raw_leaves and file_node(leaf.cid, get)[1].kind != leaf_kind:
            return False
        assembler.add(leaf)
    return assembler.finish().cid == root.cid


def _discard(_block: Block) -> None:
    """A `Put` for a root that is only compared."""


def _walk_leaves(root: FileLink, profile: Profile, get: Get) -> Iterator[FileLink]:
    """Everything below `root` that has the sizes of a leaf, in order."""
    stack = [(root, 0)]
    while stack:
        link, depth = stack.pop()
        if depth > DEPTH_MAX:
            raise TooDeep(f"file DAG deeper than {DEPTH_MAX}")
        if cids.codec_of(link.cid) == cids.RAW or link.tsize == _leaf_tsize(link.size, profile):
            yield link
        else:
            stack += [(child, depth + 1) for child in reversed(children(*file_node(link.cid, get)))]


def _leaf_tsize(size: int, profile: Profile) -> int:
    """Encoded size of a leaf with `size` bytes of content; -1 when no leaf is that large."""
    if size > profile.chunk_size_bytes:
        return -1
    if profile.raw_leaves:
        return size
    return size + sum(map(len, leaf_frame(Kind.FILE, size)))


def _is_leaf(leaf: FileLink, profile: Profile) -> bool:
    """Whether sizes, codec and hash function of a link are those of the profile's leaves."""
    codec = cids.RAW if profile.raw_leaves else cids.DAG_PB
    parts = cids.decode(leaf.cid)
    inlined = profile.inline and leaf.tsize <= profile.inline_limit_bytes
    function = multihash.function_of("identity" if inlined else profile.hash_function)
    code, digest = multihash.split(parts.multihash)
    version = 1 if inlined or codec == cids.RAW else profile.cid_version
    return (
        (parts.version, parts.codec, code) == (version, codec, function.code)
        and (inlined or len(digest) == function.size_bytes)
        and leaf.tsize == _leaf_tsize(leaf.size, profile)
    )
