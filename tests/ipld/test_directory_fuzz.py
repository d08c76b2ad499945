"""Directories and shards of strangers: mutated blocks raise typed errors only, and what is accepted
is consistent: everything listed can be looked up, and an edit gives what its own listing gives."""

import hashlib

from ipld import cid as cids
from ipld import dirdag
from ipld.block import Block
from ipld.dirdag import Entry
from ipld.profile import UNIXFS_V1_2025
from ipld.unixfs import Attributes
from tests.ipld.fuzzing import fuzz
from tests.ipld.memory import MemoryDag

LEAF = cids.make(1, cids.RAW, b"\x12\x20" + hashlib.sha256(b"x").digest())
SHARDED = UNIXFS_V1_2025.with_options(hamt_threshold_bytes=1, hamt_fanout=16)


def exercise(dag: MemoryDag, data: bytes, profile) -> None:
    """Read, look up and edit the block as the root of a directory."""
    cid = Block.build(data, cids.DAG_PB, profile).cid
    blocks = {**dag.blocks, cid: data}
    listed = list(dirdag.entries(cid, blocks.__getitem__))
    assert len({found.name for found in listed}) == len(listed)
    for found in listed:
        assert dirdag.lookup(cid, found.name, blocks.__getitem__) == found
    added = Entry(b"added", LEAF, 1)
    edited = dirdag.edit(
        cid,
        {b"added": added},
        profile,
        blocks.__getitem__,
        lambda block: blocks.update({block.cid: bytes(block.data)}),
    )
    after = {found.name: found for found in dirdag.entries(edited.cid, blocks.__getitem__)}
    assert after == {found.name: found for found in listed} | {b"added": added}


def corpus(dag: MemoryDag, profile, counts: list[int]) -> list[bytes]:
    roots = [
        dirdag.build(
            [Entry(b"name%d" % index, LEAF, index * 50) for index in range(count)],
            profile,
            dag.put,
            attributes,
        )
        for count in counts
        for attributes in (None, Attributes(0o755, (1_700_000_000, 1)))
    ]
    return [dag.blocks[root.cid] for root in roots]


def test_mutated_plain_directories_raise_typed_errors_only():
    dag = MemoryDag()
    blocks = corpus(dag, UNIXFS_V1_2025, [0, 1, 5])
    assert fuzz(lambda data: exercise(dag, data, UNIXFS_V1_2025), blocks) > 100


def test_mutated_shards_raise_typed_errors_only():
    dag = MemoryDag()
    blocks = corpus(dag, SHARDED, [1, 3, 25])

    def parse(data: bytes) -> None:
        try:
            exercise(dag, data, SHARDED)
        except KeyError as missing:
            # A mutated CID of a sub-shard names a block that is nowhere.
            assert missing.args[0] not in dag.blocks

    assert fuzz(parse, blocks) > 100


def test_mutated_sub_shards_raise_typed_errors_only():
    """The same one level down, where fan-out and position are dictated from above."""
    dag = MemoryDag()
    names = [b"name%d" % index for index in range(40)]
    root = dirdag.build([Entry(name, LEAF, 1) for name in names], SHARDED, dag.put)
    child = next(cid for cid in dag.blocks if cid != root.cid)

    def parse(data: bytes) -> None:
        blocks = {**dag.blocks, child: data}
        try:
            listed = list(dirdag.entries(root.cid, blocks.__getitem__))
        except KeyError as missing:
            assert missing.args[0] not in blocks
            return
        assert len({found.name for found in listed}) == len(listed)

    fuzz(parse, [dag.blocks[child]])
