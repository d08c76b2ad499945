"""Reading files: every layout and every odd file that exists, and no byte of a DAG that lies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipld import cid as cids
from ipld import dagpb, filedag, unixfs
from ipld.errors import IpldError, MalformedUnixfs, NotAFile, TooDeep
from ipld.filereader import DEPTH_MAX, FileReader
from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025
from ipld.unixfs import Data, Kind
from tests.ipld.fuzzing import fuzz
from tests.ipld.memory import MemoryDag
from tests.ipld.test_filedag import contents, small_profiles

V1 = UNIXFS_V1_2025
windows = st.tuples(st.integers(0, 90), st.integers(0, 90))


def node(links, record: Data, dag: MemoryDag, profile=V1) -> bytes:
    return dag.add(dagpb.encode(links, unixfs.encode(record)), cids.DAG_PB, profile)


def link(content: bytes, dag: MemoryDag, size: int | None = None) -> tuple[bytes, bytes, int]:
    return dag.add(content, cids.RAW, V1), b"", len(content)


@given(
    st.one_of(small_profiles("balanced"), small_profiles("trickle")),
    contents,
    st.lists(windows, max_size=5),
)
def test_every_window_of_every_layout(profile, content, reads):
    dag = MemoryDag()
    root = filedag.add_bytes(content, profile, dag.put)
    reader = FileReader(root.cid, dag.get)
    assert reader.size == len(content)
    for offset, length in reads:
        assert reader.read(offset, length) == content[offset : offset + length]


@given(small_profiles(), contents, windows)
def test_slices_are_the_same_content_as_places_in_blocks(profile, content, window):
    dag = MemoryDag()
    root = filedag.add_bytes(content, profile, dag.put)

    def block(cid: bytes) -> bytes:
        return cids.identity_data(cid) if cids.is_identity(cid) else dag.get(cid)

    slices = list(FileReader(root.cid, dag.get).slices(*window))
    joined = b"".join(block(cid)[start : start + size] for cid, start, size in slices)
    assert joined == content[window[0] : sum(window)]
    assert all(size > 0 for _, _, size in slices)


def test_raw_leaves_are_not_fetched_to_be_located():
    dag = MemoryDag()
    profile = V1.with_options(chunk_size_bytes=4)
    root = filedag.add_bytes(b"0123456789ab", profile, dag.put)
    dag.reset_counts()
    reader = FileReader(root.cid, dag.get)
    assert [size for _, _, size in reader.slices(2, 9)] == [2, 4, 3]
    assert dag.gets == [root.cid]


def test_nodes_are_decoded_once():
    dag = MemoryDag()
    profile = UNIXFS_V0_2015.with_options(chunk_size_bytes=4)
    root = filedag.add_bytes(b"0123456789ab", profile, dag.put)
    reader = FileReader(root.cid, dag.get)
    list(reader.slices(0, 12))
    dag.reset_counts()
    list(reader.slices(0, 12))
    assert dag.gets == []


def test_a_file_with_more_nodes_than_are_kept_is_read_whole():
    dag = MemoryDag()
    profile = V1.with_options(chunk_size_bytes=1, max_file_links=2)
    content = bytes(range(200))
    reader = FileReader(filedag.add_bytes(content, profile, dag.put).cid, dag.get)
    assert b"".join(reader.read(at, 3) for at in range(0, 200, 3)) == content


def test_content_beside_links_comes_first():
    dag = MemoryDag()
    record = unixfs.file(b"own ", [5, 4])
    root = node([link(b"first", dag), link(b"last", dag)], record, dag)
    reader = FileReader(root, dag.get)
    assert reader.read(0, 99) == b"own firstlast"
    for offset in range(14):
        for length in range(14):
            assert reader.read(offset, length) == b"own firstlast"[offset : offset + length]


def test_content_is_found_in_old_blocks_with_data_before_links():
    """The content also occurs in the links, so that a search for it would find the wrong place."""
    dag = MemoryDag()
    content, below = b"\x12", b"x"
    record = unixfs.encode(unixfs.file(content, [1]))
    links = dagpb.encode([link(below, dag)], None)
    old = dag.add(b"\x0a" + bytes((len(record),)) + record + links, cids.DAG_PB, V1)
    new = dag.add(dagpb.encode([link(below, dag)], record), cids.DAG_PB, V1)
    for root in (old, new):
        reader = FileReader(root, dag.get)
        assert reader.read(0, 9) == content + below
        cid, start, size = next(reader.slices(0, 9))
        assert dag.get(cid)[start : start + size] == content


def test_leaves_and_roots_of_the_old_raw_type():
    dag = MemoryDag()
    leaf_data = dagpb.encode((), unixfs.encode(Data(Kind.RAW, b"old", 3)))
    leaf = dag.add(leaf_data, cids.DAG_PB, UNIXFS_V0_2015)
    root = node([(leaf, b"", len(leaf_data))], Data(Kind.RAW, None, 3, (3,)), dag)
    assert FileReader(root, dag.get).read(0, 9) == b"old"
    assert FileReader(leaf, dag.get).read(1, 9) == b"ld"


def test_empty_leaves_between_others_are_stepped_over():
    dag = MemoryDag()
    pieces = (b"", b"ab", b"", b"", b"c", b"")
    record = unixfs.file(b"", [len(piece) for piece in pieces])
    root = node([link(piece, dag) for piece in pieces], record, dag)
    reader = FileReader(root, dag.get)
    assert reader.read(0, 9) == b"abc"
    assert [reader.read(at, 1) for at in range(4)] == [b"a", b"b", b"c", b""]


def test_a_wrong_or_missing_tsize_is_no_error():
    dag = MemoryDag()
    cid, _, _ = link(b"abc", dag)
    root = node([(cid, b"", 10**15)], unixfs.file(b"", [3]), dag)
    assert FileReader(root, dag.get).read(0, 9) == b"abc"


@pytest.mark.parametrize("claimed", [2, 4])
def test_a_parent_that_lies_about_a_dag_pb_child_is_refused(claimed):
    dag = MemoryDag()
    child = node((), unixfs.file(b"abc"), dag)
    root = node([(child, b"", 9)], unixfs.file(b"", [claimed]), dag)
    with pytest.raises(MalformedUnixfs):
        FileReader(root, dag.get).read(0, 9)


def test_a_raw_child_that_is_too_short_is_refused():
    dag = MemoryDag()
    root = node([link(b"abc", dag)], unixfs.file(b"", [4]), dag)
    reader = FileReader(root, dag.get)
    assert reader.read(0, 3) == b"abc"
    with pytest.raises(MalformedUnixfs):
        reader.read(0, 4)


@pytest.mark.parametrize(
    "record", [Data(Kind.DIRECTORY), Data(Kind.SYMLINK, b"x"), Data(Kind.METADATA, b"x")], ids=str
)
def test_nodes_without_content_are_no_files(record):
    dag = MemoryDag()
    with pytest.raises(NotAFile):
        FileReader(node((), record, dag), dag.get)
    inner = node([(node((), record, dag), b"", 9)], unixfs.file(b"", [1]), dag)
    with pytest.raises(NotAFile):
        FileReader(inner, dag.get).read(0, 1)


def test_other_codecs_are_no_files():
    dag = MemoryDag()
    with pytest.raises(NotAFile):
        FileReader(dag.add(b"\xa0", cids.DAG_CBOR, V1), dag.get)


def test_a_chain_of_nodes_is_followed_to_the_limit_and_no_further():
    dag = MemoryDag()
    cid, readable = dag.add(b"deep", cids.RAW, V1), b""
    for depth in range(1, DEPTH_MAX + 2):
        cid = node([(cid, b"", 9)], unixfs.file(b"", [4]), dag)
        if depth == DEPTH_MAX:
            readable = cid
    assert FileReader(readable, dag.get).read(0, 9) == b"deep"
    with pytest.raises(TooDeep):
        FileReader(cid, dag.get).read(0, 9)


def test_inlined_files_are_read_without_a_store():
    profile = UNIXFS_V0_2015.with_options(inline=True, chunk_size_bytes=8)
    dag = MemoryDag()
    root = filedag.add_bytes(b"hello, world!", profile, dag.put)
    small = filedag.add_bytes(b"hello", profile, dag.put)
    kept = {cid: data for cid, data in dag.blocks.items() if not cids.is_identity(cid)}
    assert cids.is_identity(small.cid)
    assert FileReader(small.cid, kept.__getitem__).read(0, 9) == b"hello"
    assert FileReader(root.cid, kept.__getitem__).read(0, 99) == b"hello, world!"


def test_fuzzed_blocks_raise_typed_errors_only():
    """Whatever stands in a block: typed errors, or at most as many bytes as were asked for."""
    corpora = []
    for profile in (UNIXFS_V0_2015, V1, V1.with_options(layout="trickle")):
        dag = MemoryDag()
        small = profile.with_options(chunk_size_bytes=4, max_file_links=3)
        root = filedag.add_bytes(bytes(range(60)), small, dag.put)
        inner = dagpb.decode(dag.get(root.cid)).links[0].cid
        corpora.append((dag.blocks, root.cid, inner))

    for blocks, root_cid, inner in corpora:
        for damaged in (root_cid, inner):

            def parse(data: bytes, blocks=blocks, root_cid=root_cid, damaged=damaged) -> None:
                def get(cid: bytes) -> bytes:
                    if cid == damaged:
                        return data
                    if cid not in blocks:
                        raise MissingForTest
                    return blocks[cid]

                reader = FileReader(root_cid, get)
                assert len(reader.read(0, 50)) <= 50
                assert len(reader.read(30, 10)) <= 10

            accepted = fuzz(parse, [blocks[damaged]], rounds=2000)
            assert accepted > 0


class MissingForTest(IpldError):
    """A damaged link leads nowhere: as good as any other typed error."""
