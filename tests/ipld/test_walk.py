"""Walks: complete, in the promised order, and bounded whatever the DAG."""

import hashlib
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipld import cid as cids
from ipld import dagcbor, dagpb, dirdag, filedag, walk
from ipld.dirdag import Entry
from ipld.errors import (
    InvalidParameter,
    MalformedCbor,
    MalformedDagPb,
    TooDeep,
    UnsupportedCodec,
)
from ipld.profile import UNIXFS_V1_2025
from tests.ipld.memory import MemoryDag, MissingBlockError

PROFILE = UNIXFS_V1_2025


def node(dag: MemoryDag, links: list[bytes], salt: int = 0) -> bytes:
    """A dag-cbor node with these links."""
    data = dagcbor.encode([salt, [dagcbor.Link(cid) for cid in links]])
    return dag.add(data, cids.DAG_CBOR, PROFILE)


def leaf(dag: MemoryDag, data: bytes) -> bytes:
    return dag.add(data, cids.RAW, PROFILE)


def visited(dag: MemoryDag, roots: list[bytes], **options) -> list[bytes]:
    found = list(walk.walk(roots, dag.get, **options))
    assert all(bytes(data) == dag.blocks[cid] for cid, data in found)
    return [cid for cid, _ in found]


# Each node links to some of those before it, so the graphs are acyclic and share a lot.
graphs = st.lists(st.lists(st.integers(0, 30), max_size=5), min_size=1, max_size=25)


def build(graph: list[list[int]]) -> tuple[MemoryDag, list[bytes]]:
    dag = MemoryDag()
    nodes: list[bytes] = []
    for index, links in enumerate(graph):
        children = [nodes[link % index] for link in links] if index else []
        nodes.append(node(dag, children, index))
    return dag, nodes


@given(graphs)
def test_unique_walk_equals_a_recursive_model(graph):
    dag, nodes = build(graph)
    seen: list[bytes] = []

    def model(cid: bytes) -> None:
        if cid not in seen:
            seen.append(cid)
            for child in walk.links_of(cid, dag.blocks[cid]):
                model(child)

    model(nodes[-1])
    assert visited(dag, [nodes[-1]]) == seen
    assert sorted(visited(dag, [nodes[-1]], order="bfs")) == sorted(seen)


@given(graphs)
def test_walk_with_repeats_equals_a_recursive_model(graph):
    dag, nodes = build(graph[:9])

    def model(cid: bytes) -> list[bytes]:
        below = [model(child) for child in walk.links_of(cid, dag.blocks[cid])]
        return [cid, *(item for part in below for item in part)]

    assert visited(dag, [nodes[-1]], unique=False) == model(nodes[-1])


@given(graphs)
def test_breadth_first_walk_goes_level_by_level(graph):
    dag, nodes = build(graph[:9])
    waiting, expected = deque([nodes[-1]]), []
    while waiting:
        cid = waiting.popleft()
        expected.append(cid)
        waiting.extend(walk.links_of(cid, dag.blocks[cid]))
    assert visited(dag, [nodes[-1]], unique=False, order="bfs") == expected


def test_links_of_every_codec_we_write():
    dag = MemoryDag()
    raw = leaf(dag, b"raw")
    pb = dag.add(dagpb.encode([(raw, b"b", 1), (raw, b"a", 1)], None), cids.DAG_PB, PROFILE)
    cbor = node(dag, [raw, pb, raw])
    json = dag.add(b'{"/":"%b"}' % cids.to_text(raw).encode(), cids.DAG_JSON, PROFILE)
    links = {cid: walk.links_of(cid, dag.blocks[cid]) for cid in (raw, pb, cbor, json)}
    assert links == {raw: [], pb: [raw, raw], cbor: [raw, pb, raw], json: []}


def test_unknown_codec_is_refused_rather_than_taken_for_a_leaf():
    dag = MemoryDag()
    git = dag.add(b"blob", 0x78, PROFILE)
    with pytest.raises(UnsupportedCodec, match="0x78"):
        visited(dag, [git])


@pytest.mark.parametrize(
    ("codec", "error"), [(cids.DAG_PB, MalformedDagPb), (cids.DAG_CBOR, MalformedCbor)]
)
def test_malformed_block_is_refused(codec, error):
    dag = MemoryDag()
    with pytest.raises(error):
        visited(dag, [dag.add(b"\xff\xff\xff", codec, PROFILE)])


def test_whole_tree_of_files_and_shards_is_walked():
    small = PROFILE.with_options(hamt_threshold_bytes=1, hamt_fanout=8, chunk_size_bytes=4)
    dag = MemoryDag()
    files = [filedag.add_bytes(b"content %d" % index, small, dag.put) for index in range(60)]
    content = [Entry(b"%d" % index, link.cid, link.tsize) for index, link in enumerate(files)]
    root = dirdag.build(content, small, dag.put)
    # The assembler's caller puts the leaves; here the convenience function has done so.
    assert set(visited(dag, [root.cid])) == set(dag.blocks)


def test_chain_longer_than_the_stack_is_walked_and_limited_by_depth():
    dag = MemoryDag()
    cid = leaf(dag, b"end")
    for index in range(5_000):
        cid = node(dag, [cid], index)
    assert len(visited(dag, [cid])) == 5_001
    assert len(visited(dag, [cid], depth_max=5_000)) == 5_001
    for order in ("dfs", "bfs"):
        with pytest.raises(TooDeep, match="deep"):
            visited(dag, [cid], depth_max=4_999, order=order)


def test_bomb_is_small_when_unique_and_stopped_by_the_node_limit_when_not():
    dag = MemoryDag()
    cid = leaf(dag, b"end")
    for index in range(60):
        cid = node(dag, [cid] * 10, index)
    assert len(visited(dag, [cid])) == 61
    for order in ("dfs", "bfs"):
        dag.reset_counts()
        with pytest.raises(TooDeep, match="nodes"):
            visited(dag, [cid], unique=False, node_max=1_000, order=order)
        assert len(dag.gets) <= 1_001


def test_node_limit_allows_exactly_as_many():
    dag = MemoryDag()
    root = node(dag, [leaf(dag, b"a"), leaf(dag, b"b")])
    assert len(visited(dag, [root], node_max=3)) == 3
    with pytest.raises(TooDeep):
        visited(dag, [root], node_max=2)


def test_identity_cids_are_walked_through_without_a_store_and_not_yielded():
    dag = MemoryDag()
    below = leaf(dag, b"stored")
    inner = dagcbor.encode([dagcbor.Link(below)])
    identity = cids.make(1, cids.DAG_CBOR, b"\x00" + bytes([len(inner)]) + inner)
    root = node(dag, [identity])
    assert visited(dag, [root]) == [root, below]
    assert visited(dag, [identity]) == [below]
    assert identity not in dag.gets


def test_identity_cids_count_towards_the_limits():
    dag = MemoryDag()
    empty = dagcbor.encode([])
    identity = cids.make(1, cids.DAG_CBOR, b"\x00" + bytes([len(empty)]) + empty)
    root = node(dag, [identity] * 50)
    with pytest.raises(TooDeep):
        visited(dag, [root], unique=False, node_max=20)
    nested = dagcbor.encode([dagcbor.Link(identity)])
    for _ in range(5):
        outer = cids.make(1, cids.DAG_CBOR, b"\x00" + bytes([len(nested)]) + nested)
        nested = dagcbor.encode([dagcbor.Link(outer)])
    with pytest.raises(TooDeep, match="deep"):
        visited(dag, [outer], depth_max=3)


def test_shared_seen_set_makes_the_second_walk_a_delta():
    dag = MemoryDag()
    common = node(dag, [leaf(dag, b"common")])
    old = node(dag, [common], 1)
    new = node(dag, [common, leaf(dag, b"new")], 2)
    seen: set[bytes] = set()
    assert len(visited(dag, [old], seen=seen)) == 3
    dag.reset_counts()
    delta = visited(dag, [new], seen=seen)
    assert delta == [new, walk.links_of(new, dag.blocks[new])[1]]
    assert dag.gets == delta


def test_several_roots_are_walked_in_their_order():
    dag = MemoryDag()
    a, b = leaf(dag, b"a"), leaf(dag, b"b")
    assert visited(dag, [b, a, b]) == [b, a]
    assert visited(dag, [b, a, b], unique=False) == [b, a, b]
    assert visited(dag, []) == []


def test_walk_fetches_no_further_than_it_is_consumed():
    dag = MemoryDag()
    root = node(dag, [leaf(dag, b"%d" % index) for index in range(100)])
    for order in ("dfs", "bfs"):
        dag.reset_counts()
        walker = walk.walk([root], dag.get, order=order)
        for _ in range(3):
            next(walker)
        assert len(dag.gets) == 3


def test_missing_block_passes_through():
    dag = MemoryDag()
    lost = cids.make(1, cids.RAW, b"\x12\x20" + hashlib.sha256(b"lost").digest())
    root = node(dag, [lost])
    with pytest.raises(MissingBlockError):
        visited(dag, [root])


def test_unknown_order_is_refused():
    with pytest.raises(InvalidParameter, match="order"):
        list(walk.walk([], MemoryDag().get, order="random"))  # type: ignore[arg-type]  # the fault
