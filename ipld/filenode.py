"""The nodes of a file DAG: how one leaf, one inner node and one symlink become blocks and links.

What layouts have in common; the layouts themselves are in filedag and trickle.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from ipld import cid as cids
from ipld import dagpb, unixfs, varint
from ipld.block import Block
from ipld.errors import MalformedUnixfs, NotAFile
from ipld.nodes import Get, Put, load, load_unixfs
from ipld.profile import Profile
from ipld.unixfs import Attributes, Kind
from ipld.varint import BytesLike

_new_tuple = tuple.__new__  # three times as fast as FileLink(…), which counts at 1024 links


class FileLink(NamedTuple):
    """A file, or a part of one, as its parent sees it."""

    cid: bytes
    tsize: int
    """Encoded bytes of all blocks below, duplicates counted."""
    size: int
    """Content bytes below."""


def leaf_profile(profile: Profile, attributes: Attributes | None) -> Profile:
    """The profile for the leaves of a file: one with attributes has no raw leaves at all.

    A raw block has no place for a mode or mtime, and Kubo then drops raw leaves for the whole file.
    """
    if not attributes or not profile.raw_leaves:
        return profile
    return profile.with_options(raw_leaves=False)


def make_leaf(data: BytesLike, profile: Profile) -> tuple[Block, FileLink]:
    """The block of one chunk. Raw leaves keep `data` as it is; hashing releases the GIL."""
    size = len(data)
    if profile.raw_leaves:
        block = Block.build(data, cids.RAW, profile)
    else:
        before, after = leaf_frame(Kind.RAW if profile.layout == "trickle" else Kind.FILE, size)
        block = Block.build(b"".join((before, data, after)), cids.DAG_PB, profile)
    return block, FileLink(block.cid, len(block.data), size)


@lru_cache(maxsize=64)
def leaf_frame(kind: Kind, size: int) -> tuple[bytes, bytes]:
    """What stands in a dag-pb leaf before and after its `size` bytes of content.

    So that content is copied once on its way into a block and not once for each of two codecs.
    """
    framed = unixfs.encode(unixfs.Data(kind, b"", size))
    before, after = framed[:2], framed[4:]
    if size:
        before += b"\x12" + varint.encode(size)
    return b"\x0a" + varint.encode(len(before) + size + len(after)) + before, after


def make_node(
    children: Sequence[FileLink], profile: Profile, put: Put, attributes: Attributes | None = None
) -> FileLink:
    """Write the inner node over these children."""
    record = unixfs.file(b"", [child.size for child in children], attributes)
    links = [(child.cid, b"", child.tsize) for child in children]
    return put_node(links, record, profile, put)


def put_node(
    links: Sequence[tuple[bytes, bytes, int]], record: unixfs.Data, profile: Profile, put: Put
) -> FileLink:
    """Write a dag-pb node of any kind."""
    data = dagpb.encode(links, unixfs.encode(record))
    block = Block.build(data, cids.DAG_PB, profile)
    put(block)
    return FileLink(block.cid, len(data) + sum(link[2] for link in links), record.filesize or 0)


def symlink(
    target: bytes, profile: Profile, put: Put, attributes: Attributes | None = None
) -> FileLink:
    """A symbolic link; of the attributes it keeps mtime only."""
    record = unixfs.Data(Kind.SYMLINK, target).with_attributes(attributes)
    link = put_node([], record, profile, put)
    return link._replace(size=len(target))


def set_attributes(
    root: FileLink, attributes: Attributes | None, profile: Profile, get: Get, put: Put
) -> FileLink:
    """The same file with these attributes on its root and no others; only the root is rewritten.

    A raw root becomes a dag-pb one. That a file with attributes has no raw leaves anywhere is up to
    the caller (`leaf_profile`).
    """
    if cids.codec_of(root.cid) == cids.RAW:
        if not attributes:
            return root
        record = unixfs.file(bytes(load(root.cid, get)), attributes=attributes)
        return put_node([], record, profile, put)
    links, record = load_unixfs(root.cid, get)
    old = unixfs.check_file(record, len(links))
    new = old.with_attributes(attributes)
    if new == old:
        return root
    return put_node(links, new, profile, put)._replace(size=root.size)


def file_node(cid: bytes, get: Get) -> tuple[list[dagpb.Link], unixfs.Data]:
    """A dag-pb node that has content, decoded and checked. Raises NotAFile, MalformedNode."""
    if cids.codec_of(cid) != cids.DAG_PB:
        raise NotAFile(f"{cids.to_text(cid)} is not a UnixFS file")
    links, record = load_unixfs(cid, get)
    if not record.is_file:
        raise NotAFile(f"{cids.to_text(cid)} is a {record.kind.name.lower()}")
    return links, unixfs.check_file(record, len(links))


def children(links: Sequence[dagpb.Link], record: unixfs.Data) -> list[FileLink]:
    """Links of an inner node of a canonical file. Raises MalformedUnixfs for a leaf."""
    if record.content or not links:
        raise MalformedUnixfs("an inner node of a canonical file has links and no content")
    sizes = zip(links, record.blocksizes, strict=True)
    return [_new_tuple(FileLink, (link[0], link[2], size)) for link, size in sizes]


def describe(cid: bytes, get: Get) -> FileLink:
    """Sizes of any block: files and symlinks have content, directories and others have none."""
    data = load(cid, get)
    if cids.codec_of(cid) != cids.DAG_PB:
        return FileLink(cid, len(data), len(data) if cids.codec_of(cid) == cids.RAW else 0)
    node = dagpb.decode(data)
    record = unixfs.decode_file(node.data, len(node.links))
    size = len(record.content or b"") if record.kind is Kind.SYMLINK else 0
    tsize = len(data) + sum(link.tsize for link in node.links)
    return FileLink(cid, tsize, (record.filesize or 0) if record.is_file else size)
