"""What an edit reads and writes: the blocks on the paths of its changes, and no others."""

import hashlib
import time

import pytest

from ipld import cid as cids
from ipld import dirdag, walk
from ipld.dirdag import Entry, SizeMemo
from ipld.profile import UNIXFS_V1_2025
from tests.ipld.memory import MemoryDag

LEAF = cids.make(1, cids.RAW, b"\x12\x20" + hashlib.sha256(b"x").digest())
COUNT = 20_000
# 20,000 entries at fan-out 256: the root, one shard below it, at most two more where names meet.
DEPTH = 4


def entry(name: bytes, tsize: int = 1) -> Entry:
    return Entry(name, LEAF, tsize)


@pytest.fixture(scope="module")
def large():
    dag = MemoryDag()
    content = [entry(b"file%06d" % index) for index in range(COUNT)]
    root = dirdag.build(content, UNIXFS_V1_2025, dag.put)
    return dag, root.cid, content


@pytest.fixture
def dag(large):
    large[0].reset_counts()
    return large[0]


def test_one_insert_touches_only_the_shards_on_its_path(large, dag):
    for index in range(50):
        dag.reset_counts()
        name = b"new%d" % index
        dirdag.edit(large[1], {name: entry(name)}, UNIXFS_V1_2025, dag.get, dag.put)
        assert len(dag.gets) <= DEPTH
        assert len(dag.puts) <= DEPTH


def test_one_replacement_of_equal_size_touches_only_its_path(large, dag):
    change = {b"file000123": entry(b"file000123", 2)}
    dirdag.edit(large[1], change, UNIXFS_V1_2025, dag.get, dag.put)
    assert len(dag.gets) <= DEPTH and len(dag.puts) <= DEPTH


def test_lookup_reads_one_path(large, dag):
    assert dirdag.lookup(large[1], b"file000123", dag.get) == large[2][123]
    assert len(dag.gets) <= DEPTH


def test_listing_is_lazy(large, dag):
    listed = dirdag.entries(large[1], dag.get)
    next(listed)
    assert len(dag.gets) <= DEPTH
    assert sum(1 for _ in listed) == COUNT - 1


def test_bulk_edit_reads_and_writes_each_shard_once(large, dag):
    shards = {cid for cid, _ in walk.walk([large[1]], lambda cid: dag.blocks.get(cid, b""))}
    changes = {b"new%d" % index: entry(b"new%d" % index) for index in range(2_000)}
    dirdag.edit(large[1], changes, UNIXFS_V1_2025, dag.get, dag.put)
    assert len(dag.gets) == len(set(dag.gets)) <= len(shards)
    assert len(dag.puts) == len(set(dag.puts)) <= len(shards) + len(changes)


def test_removal_measures_no_further_than_the_limit_and_only_once_with_a_memo(large, dag):
    """Below 262,144 bytes a directory is plain again: some 5,000 of the 20,000 entries tell."""
    shards = 1 + COUNT // 10  # a lower bound that the walk below stays well under
    memo = SizeMemo()
    dirdag.edit(large[1], {b"file000001": None}, UNIXFS_V1_2025, dag.get, dag.put, memo=memo)
    first = len(dag.gets)
    assert DEPTH < first < shards / 2
    dag.reset_counts()
    edited = dirdag.edit(
        large[1], {b"file000002": None}, UNIXFS_V1_2025, dag.get, dag.put, memo=memo
    )
    assert len(dag.gets) <= 2 * DEPTH
    expected = [item for item in large[2] if item.name != b"file000002"]
    assert edited == dirdag.build(expected, UNIXFS_V1_2025, dag.put)


def test_memo_is_bounded_and_keeps_measures_apart():
    memo = SizeMemo(capacity=10)
    for index in range(25):
        memo.add("links", b"%d" % index, (1, index))
        assert memo.get("links", b"%d" % index) == (1, index)
        assert memo.get("block", b"%d" % index) is None
    assert sum(memo.get("links", b"%d" % index) is not None for index in range(25)) <= 10


def test_memo_of_one_profile_does_not_mislead_another():
    """Same shards, two ways to measure them: each must come back to the plain form by its own."""
    links = UNIXFS_V1_2025.with_options(
        hamt_size_estimation="links", hamt_threshold_bytes=2000, hamt_fanout=8
    )
    block = links.with_options(hamt_size_estimation="block")
    dag, memo = MemoryDag(), SizeMemo()
    content = [entry(b"%03d" % index) for index in range(52)]
    for profile in (links, block):
        current = dirdag.build(content, profile, dag.put)
        for index in range(30):
            changes = {content[index].name: None}
            current = dirdag.edit(current.cid, changes, profile, dag.get, dag.put, memo=memo)
            assert current == dirdag.build(content[index + 1 :], profile, dag.put)


def test_plain_edit_of_four_thousand_entries_takes_milliseconds():
    """Measured at 5 ms on a slow core; ten times that is a quadratic scan come back."""
    dag = MemoryDag()
    built = dirdag.build((entry(b"%06d" % index) for index in range(4000)), UNIXFS_V1_2025, dag.put)
    changes = {b"002222": entry(b"002222", 2)}
    timings = []
    for _ in range(5):
        start = time.process_time()
        dirdag.edit(built.cid, changes, UNIXFS_V1_2025, dag.get, dag.put)
        timings.append(time.process_time() - start)
    assert len(set(dag.puts)) == 2
    assert min(timings) < 0.05
