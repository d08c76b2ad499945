"""The trickle layout against its recursive definition, and as a stream."""

from hypothesis import given
from hypothesis import strategies as st

from ipld import cid as cids
from ipld import dagpb, filedag, unixfs
from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025
from ipld.unixfs import Attributes, Kind
from tests.ipld.memory import MemoryDag

SUBTREES_PER_DEPTH = 4


def shape(leaves: list[int], links_max: int, depth: int | None = None) -> list:
    """The definition: leaves, then four subtrees of each depth; takes its leaves off the list."""
    node: list = [leaves.pop(0) for _ in range(min(links_max, len(leaves)))]
    below = 1
    while leaves and (depth is None or below < depth):
        node += [shape(leaves, links_max, below) for _ in range(SUBTREES_PER_DEPTH) if leaves]
        below += 1
    return node


def shape_of(cid: bytes, dag: MemoryDag) -> list | int:
    """What was built: nodes as lists, leaves as the number in their one byte of content."""
    if cids.codec_of(cid) == cids.RAW:
        return dag.get(cid)[0]
    node = dagpb.decode(dag.get(cid))
    record = unixfs.decode_file(node.data, len(node.links))
    if record.content:
        assert record.kind is Kind.RAW
        return record.content[0]
    assert record.kind is Kind.FILE
    return [shape_of(link.cid, dag) for link in node.links]


@given(
    st.integers(1, 150),
    st.integers(2, 4),
    st.sampled_from((UNIXFS_V0_2015, UNIXFS_V1_2025)),
    st.sampled_from((None, Attributes(0o644))),
)
def test_the_tree_is_the_one_of_the_definition(count, links_max, base, attributes):
    profile = base.with_options(layout="trickle", chunk_size_bytes=1, max_file_links=links_max)
    dag = MemoryDag()
    root = filedag.add_bytes(bytes(range(count)), profile, dag.put, attributes)
    assert shape_of(root.cid, dag) == shape(list(range(count)), links_max)
    assert root == filedag.describe(root.cid, dag.get)
    assert filedag.is_canonical(root, profile, dag.get)
    assert unixfs.decode(dagpb.decode(dag.get(root.cid)).data).attributes == attributes


def test_a_single_chunk_has_a_root_above_it():
    dag = MemoryDag()
    profile = UNIXFS_V0_2015.with_options(layout="trickle")
    root = filedag.add_bytes(b"one", profile, dag.put)
    assert len(dagpb.decode(dag.get(root.cid)).links) == 1


def test_an_empty_file_is_a_root_without_links():
    for base in (UNIXFS_V0_2015, UNIXFS_V1_2025):
        dag = MemoryDag()
        root = filedag.add_bytes(b"", base.with_options(layout="trickle"), dag.put)
        assert dag.blocks == {root.cid: bytes.fromhex("0a0408021800")}


def test_subtrees_are_put_as_soon_as_they_are_full():
    dag = MemoryDag()
    profile = UNIXFS_V1_2025.with_options(layout="trickle", chunk_size_bytes=1, max_file_links=2)
    assembler = filedag.Assembler(profile, dag.put)
    for number in range(2 + 4 * 2 + 1):
        assembler.add(filedag.make_leaf(bytes([number]), profile)[1])
    # Two leaves of the root, four subtrees of depth 1, and the first leaf of depth 2.
    assert len(dag.puts) == 4
