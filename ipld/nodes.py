"""Reading UnixFS nodes by CID, and the small values that directories are made of.

Identity CIDs carry their block themselves: `load` answers them without asking `get`, so no caller
has to know. Errors of `get` pass through untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

from ipld import cid as cids
from ipld import dagpb, unixfs
from ipld.block import Block
from ipld.errors import NotADirectory, RequestError
from ipld.unixfs import Kind
from ipld.varint import BytesLike

Get: TypeAlias = Callable[[bytes], BytesLike]
"""The block of a CID, verified by the store; raises the store's own error when it is missing."""
Put: TypeAlias = Callable[[Block], object]

NodeKind: TypeAlias = Literal["file", "directory", "symlink", "other"]

TSIZE_MAX = (1 << 64) - 1


class Entry(NamedTuple):
    """One name in a directory. `tsize` counts the encoded bytes of everything below `cid`."""

    name: bytes
    cid: bytes
    tsize: int


class DirLink(NamedTuple):
    """A directory as its parent links to it; `tsize` includes its own blocks."""

    cid: bytes
    tsize: int


def load(cid: bytes, get: Get) -> BytesLike:
    """The block of a CID."""
    return cids.identity_data(cid) if cids.is_identity(cid) else get(cid)


def load_unixfs(cid: bytes, get: Get) -> tuple[list[dagpb.Link], unixfs.Data]:
    """Links and record of a dag-pb node. Raises MalformedDagPb, MalformedUnixfs."""
    node = dagpb.decode(load(cid, get))
    return node.links, unixfs.decode(node.data)


def load_dag_pb(cid: bytes, get: Get) -> bytes:
    """The block of what should be a directory. Raises NotADirectory for other codecs."""
    if cids.codec_of(cid) != cids.DAG_PB:
        raise NotADirectory(f"{cids.to_text(cid)} is not a directory")
    return bytes(load(cid, get))


def load_directory(cid: bytes, get: Get) -> tuple[list[dagpb.Link], unixfs.Data]:
    """Links and record of a directory of either form. Raises NotADirectory for all else."""
    return parse_directory(cid, load_dag_pb(cid, get))


def parse_directory(cid: bytes, block: BytesLike) -> tuple[list[dagpb.Link], unixfs.Data]:
    """The same for a block that `load_dag_pb` gave."""
    node = dagpb.decode(block)
    record = unixfs.decode(node.data)
    if record.kind not in (Kind.DIRECTORY, Kind.HAMT_SHARD):
        raise NotADirectory(f"{cids.to_text(cid)} is not a directory")
    return node.links, record


def node_kind(cid: bytes, get: Get) -> NodeKind:
    """What a CID is to a file system; "other" for codecs that are neither raw nor dag-pb.

    Raises MalformedDagPb and MalformedUnixfs for a dag-pb node that is none of these.
    """
    codec = cids.codec_of(cid)
    if codec == cids.RAW:
        return "file"
    if codec != cids.DAG_PB:
        return "other"
    return _NODE_KINDS.get(load_unixfs(cid, get)[1].kind, "other")


_NODE_KINDS: dict[Kind, NodeKind] = {
    Kind.RAW: "file",
    Kind.FILE: "file",
    Kind.DIRECTORY: "directory",
    Kind.HAMT_SHARD: "directory",
    Kind.SYMLINK: "symlink",
}


def symlink_target(cid: bytes, get: Get) -> bytes:
    """Where a symlink points. Raises RequestError for any other node."""
    if cids.codec_of(cid) == cids.DAG_PB:
        record = load_unixfs(cid, get)[1]
        if record.kind is Kind.SYMLINK:
            return record.content or b""
    raise RequestError(f"{cids.to_text(cid)} is not a symlink")


def add_tsizes(own_size_bytes: int, links: list[dagpb.Link]) -> int:
    """Tsize of a node. Foreign links may claim anything, so the sum stops where the field ends."""
    return min(own_size_bytes + sum([link.tsize for link in links]), TSIZE_MAX)
