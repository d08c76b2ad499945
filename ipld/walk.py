"""Walking DAGs: every block below some roots, for gc, export and pinning.

Iterative, so that no DAG exhausts the interpreter's stack. A cycle of real hashes cannot exist;
what can is a chain of any length, and a small DAG that unfolds to a huge tree when blocks are
visited as often as they are linked: `depth_max` and `node_max` bound both. Identity CIDs carry
their block themselves: they are walked through and count towards the limits, but are not yielded,
since they are neither stored nor sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, MutableSet
from typing import Literal

from ipld import cid as cids
from ipld import dagcbor, dagpb
from ipld.errors import InvalidParameter, TooDeep, UnsupportedCodec
from ipld.nodes import Get, load
from ipld.varint import BytesLike

# Files have up to 64 levels, paths up to 4096 names with up to 21 shards each.
DEPTH_MAX = 1 << 17
# Codecs whose blocks are opaque here: raw has no links, and links in the others keep nothing alive.
_LEAF_CODECS = frozenset((cids.RAW, cids.LIBP2P_KEY, cids.DAG_JSON))


def links_of(cid: bytes, data: BytesLike) -> list[bytes]:
    """CIDs that a block links to, in its order, duplicates kept.

    dag-json is a leaf: nothing here writes it, and who stores such a block pins what it links to.
    Raises MalformedDagPb, MalformedCbor, TooDeep, UnsupportedCodec.
    """
    codec = cids.codec_of(cid)
    if codec == cids.DAG_PB:
        return [link.cid for link in dagpb.decode(data).links]
    if codec == cids.DAG_CBOR:
        return list(dagcbor.links_of(dagcbor.decode(data)))
    if codec in _LEAF_CODECS:
        return []
    raise UnsupportedCodec(f"links of codec 0x{codec:x} are unknown ({cids.to_text(cid)})")


def walk(
    roots: Iterable[bytes],
    get: Get,
    *,
    order: Literal["dfs", "bfs"] = "dfs",
    unique: bool = True,
    depth_max: int = DEPTH_MAX,
    node_max: int | None = None,
    seen: MutableSet[bytes] | None = None,
) -> Iterator[tuple[bytes, BytesLike]]:
    """Yield CID and block of everything reachable from `roots`.

    "dfs" is pre-order, children in link order, as CAR files are laid out; "bfs" goes level by
    level. With `unique` each CID comes once; `seen` then holds the CIDs to pass by, is extended by
    the walk, and may be shared between walks (what is below another root, for a delta). A block is
    fetched when its turn comes, so whoever stops early fetches no more. Raises TooDeep above
    `depth_max` links from a root or `node_max` visits, and what `get` and `links_of` raise.
    """
    if order not in ("dfs", "bfs"):
        raise InvalidParameter(f"order {order!r} is unknown (use dfs or bfs)")
    passed = (set() if seen is None else seen) if unique else None
    visit_count = 0
    end = -1 if order == "dfs" else 0
    # One iterator per visited parent, so a wide node costs no entry per link.
    waiting: deque[tuple[int, Iterator[bytes]]] = deque([(0, iter(roots))])
    while waiting:
        depth, siblings = waiting[end]
        cid = next(siblings, None)
        if cid is None:
            del waiting[end]
            continue
        if passed is not None:
            if cid in passed:
                continue
            passed.add(cid)
        visit_count += 1
        if depth > depth_max:
            raise TooDeep(f"DAG is more than {depth_max} links deep (raise the depth limit)")
        if node_max is not None and visit_count > node_max:
            raise TooDeep(f"DAG has more than {node_max} nodes (raise the node limit)")
        data = load(cid, get)
        if not cids.is_identity(cid):
            yield cid, data
        links = links_of(cid, data)
        if links:
            waiting.append((depth + 1, iter(links)))
