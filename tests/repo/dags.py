"""Small DAGs for the tests of gc and pins."""

from collections.abc import Iterable

from ipld import cid as cids
from ipld import dagcbor, dagpb
from ipld.block import Block
from ipld.profile import UNIXFS_V1_2025
from repo.service import Repo

PROFILE = UNIXFS_V1_2025


def leaf(text: str) -> Block:
    return Block.build(text.encode(), cids.RAW, PROFILE)


def cbor(text: str, children: Iterable[Block] = ()) -> Block:
    value = {"name": text, "children": [dagcbor.Link(child.cid) for child in children]}
    return Block.build(dagcbor.encode(value), cids.DAG_CBOR, PROFILE)


def pb(text: str, children: Iterable[Block] = ()) -> Block:
    links = [dagpb.Link(child.cid, b"", len(child.data)) for child in children]
    return Block.build(dagpb.encode(links, text.encode()), cids.DAG_PB, PROFILE)


def tree(prefix: str, depth: int = 3, width: int = 3) -> tuple[Block, list[Block]]:
    """A root and all blocks of its tree, children first; levels alternate in codec."""
    if depth == 0:
        block = leaf(prefix)
        return block, [block]
    every: list[Block] = []
    children = []
    for at in range(width):
        child, below = tree(f"{prefix}.{at}", depth - 1, width)
        children.append(child)
        every.extend(below)
    block = (pb if depth % 2 else cbor)(prefix, children)
    return block, [*every, block]


def present(repo: Repo, blocks: Iterable[Block]) -> list[bool]:
    return [repo.blocks.has(block.cid) for block in blocks]
