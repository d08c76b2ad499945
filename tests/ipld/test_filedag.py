"""File DAGs: one CID for one content, whatever way it was assembled or edited."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipld import chunk, dagpb, filedag, unixfs
from ipld import cid as cids
from ipld.block import Block
from ipld.errors import InvalidParameter, MalformedUnixfs, NotAFile
from ipld.filedag import Assembler, FileLink
from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025, Profile
from ipld.unixfs import Attributes, Kind
from tests.ipld.memory import MemoryDag, MissingBlockError

BASES = (UNIXFS_V0_2015, UNIXFS_V1_2025)
attributes_or_none = st.none() | st.builds(
    Attributes,
    st.none() | st.integers(0, 0o7777),
    st.none() | st.tuples(st.integers(-9, 9), st.integers(0, 9)),
)
# Few different bytes: equal leaves and nodes are the cases that an edit could mix up.
contents = st.lists(st.sampled_from(b"\0ab"), max_size=70).map(bytes)


@st.composite
def small_profiles(draw, layout: str = "balanced") -> Profile:
    """Chunks and nodes so small that a few dozen bytes make several levels."""
    return draw(st.sampled_from(BASES)).with_options(
        chunk_size_bytes=draw(st.sampled_from((1, 2, 3, 7))),
        max_file_links=draw(st.sampled_from((2, 3, 4))),
        inline=draw(st.sampled_from((False, False, True))),
        layout=layout,
    )


def changed_leaves(old: bytes, new: bytes, profile: Profile, dag: MemoryDag) -> dict[int, FileLink]:
    """The leaves of `new` that `old` has not got at the same place, put into the store."""
    before = [bytes(piece) for piece in chunk.split(old, profile.chunk_size_bytes)]
    leaves = {}
    for index, piece in enumerate(chunk.split(new, profile.chunk_size_bytes)):
        if index >= len(before) or before[index] != piece:
            block, leaves[index] = filedag.make_leaf(piece, profile)
            dag.put(block)
    return leaves


def edited(root, old: bytes, new: bytes, profile, dag: MemoryDag, attributes=None) -> FileLink:
    return filedag.edit(
        root,
        changed_leaves(old, new, profile, dag),
        chunk.leaf_count(len(new), profile.chunk_size_bytes),
        profile,
        dag.get,
        dag.put,
        attributes,
    )


# ------------------------------------------------------------------------------ building


@given(small_profiles(), contents, attributes_or_none)
def test_all_that_is_known_of_a_root_can_be_read_from_its_blocks(profile, content, attributes):
    dag = MemoryDag()
    root = filedag.add_bytes(content, profile, dag.put, attributes)
    assert root.size == len(content)
    assert root == filedag.describe(root.cid, dag.get)
    assert filedag.FileReader(root.cid, dag.get).read(0, 100) == content
    assert filedag.is_canonical(root, profile, dag.get)


@given(small_profiles(), contents)
def test_every_leaf_lies_at_the_same_depth(profile, content):
    dag = MemoryDag()
    root = filedag.add_bytes(content, profile, dag.put)
    count, depth = chunk.leaf_count(len(content), profile.chunk_size_bytes), 0
    level = [root.cid]
    while len(level) < count:
        nodes = [dagpb.decode(dag.get(cid)) for cid in level]
        assert all(len(node.links) == profile.max_file_links for node in nodes[:-1])
        level = [link.cid for node in nodes for link in node.links]
        depth += 1
    assert profile.max_file_links ** max(depth - 1, 0) < count or count == 1


def test_nodes_are_put_as_soon_as_they_are_full():
    """Memory: an assembler that waited for the end would hold every leaf of a huge file."""
    dag = MemoryDag()
    profile = UNIXFS_V1_2025.with_options(chunk_size_bytes=1, max_file_links=4)
    assembler = Assembler(profile, dag.put)
    for number in range(4 * 4 * 4 + 1):
        assembler.add(filedag.make_leaf(bytes([number]), profile)[1])
    assert len(dag.puts) == 16 + 3
    assembler.finish()
    assert len(dag.puts) == 17 + 5 + 2 + 1


def test_a_file_without_leaves_is_a_mistake():
    for layout in ("balanced", "trickle"):
        profile = UNIXFS_V1_2025.with_options(layout=layout)
        with pytest.raises(InvalidParameter):
            Assembler(profile, MemoryDag().put).finish()


def test_metadata_leaves_no_raw_leaf_in_the_file():
    dag = MemoryDag()
    profile = UNIXFS_V1_2025.with_options(chunk_size_bytes=2)
    filedag.add_bytes(b"abcde", profile, dag.put, Attributes(0o644))
    assert {cids.codec_of(cid) for cid in dag.blocks} == {cids.DAG_PB}


def test_the_only_leaf_of_a_file_with_metadata_needs_its_data():
    dag = MemoryDag()
    profile = filedag.leaf_profile(UNIXFS_V1_2025, Attributes(0o644))
    block, link = filedag.make_leaf(b"abc", profile)
    dag.put(block)
    with_data = Assembler(profile, dag.put, Attributes(0o644))
    with_data.add(link, b"abc")
    root = with_data.finish()
    assert root == filedag.add_bytes(b"abc", UNIXFS_V1_2025, dag.put, Attributes(0o644))
    assert unixfs.decode(dagpb.decode(dag.get(root.cid)).data).mode == 0o644
    without = Assembler(profile, dag.put, Attributes(0o644))
    without.add(link)
    with pytest.raises(InvalidParameter):
        without.finish()


def test_leaves_without_a_copy():
    view = memoryview(bytearray(b"raw"))
    assert filedag.make_leaf(view, UNIXFS_V1_2025)[0].data is view


# ------------------------------------------------------------------------------- editing


@given(small_profiles(), contents, contents, attributes_or_none, attributes_or_none)
def test_an_edit_gives_the_cid_of_a_rebuild(profile, old, new, before, after):
    """Any content to any other: growing, shrinking, through every depth, with metadata or not."""
    if before or after:
        profile = profile.with_options(raw_leaves=False)
    dag = MemoryDag()
    root = filedag.add_bytes(old, profile, dag.put, before)
    changed = edited(root, old, new, profile, dag, after)
    assert changed == filedag.add_bytes(new, profile, MemoryDag().put, after)
    assert filedag.FileReader(changed.cid, dag.get).read(0, 100) == new


@given(small_profiles(), st.lists(st.tuples(st.integers(0, 80), contents), max_size=6))
def test_a_history_of_writes_and_truncations_leaves_no_trace(profile, history):
    dag, content = MemoryDag(), b""
    root = filedag.add_bytes(content, profile, dag.put)
    for offset, piece in history:
        new = content[:offset].ljust(offset, b"\0") + piece + content[offset + len(piece) :]
        new = new[: len(new) // 2] if len(piece) == 3 else new
        root = edited(root, content, new, profile, dag)
        content = new
        assert root == filedag.add_bytes(content, profile, MemoryDag().put)


@pytest.mark.parametrize("base", BASES, ids=lambda profile: profile.name)
def test_one_changed_leaf_touches_the_nodes_above_it_only(base):
    profile = base.with_options(chunk_size_bytes=4, max_file_links=8)
    dag, content = MemoryDag(), random.Random(1).randbytes(4 * 4000)
    root = filedag.add_bytes(content, profile, dag.put)
    new = content[:8000] + b"here" + content[8004:]
    leaves = changed_leaves(content, new, profile, dag)
    dag.reset_counts()
    changed = filedag.edit(root, leaves, 4000, profile, dag.get, dag.put)
    # 4000 leaves under nodes of 8 make 4 levels; the root is looked at for metadata, too.
    assert len(dag.puts) == 4
    assert len(dag.gets) <= 5
    assert changed == filedag.add_bytes(new, profile, MemoryDag().put)


def test_growing_and_shrinking_touch_the_right_edge_only():
    profile = UNIXFS_V1_2025.with_options(chunk_size_bytes=4, max_file_links=8)
    dag, content = MemoryDag(), random.Random(2).randbytes(4 * 512)
    root = filedag.add_bytes(content, profile, dag.put)
    for new in (content + b"tail", content[: 4 * 100 + 1]):
        leaves = changed_leaves(content, new, profile, dag)
        dag.reset_counts()
        changed = edited(root, content, new, profile, dag)
        assert changed == filedag.add_bytes(new, profile, MemoryDag().put)
        assert len(dag.puts) <= 5 + len(leaves)
        assert len(dag.gets) <= 5


def test_nothing_changed_reads_the_root_at_most():
    dag, profile = MemoryDag(), UNIXFS_V0_2015.with_options(chunk_size_bytes=4)
    root = filedag.add_bytes(b"0123456789", profile, dag.put)
    dag.reset_counts()
    assert filedag.edit(root, {}, 3, profile, dag.get, dag.put) == root
    assert (dag.gets, dag.puts) == ([root.cid], [])


def test_leaves_that_do_not_fit_each_other_are_refused():
    dag, profile = MemoryDag(), UNIXFS_V1_2025.with_options(chunk_size_bytes=4)
    root = filedag.add_bytes(b"01234567ab", profile, dag.put)
    leaf = {size: filedag.make_leaf(bytes(size), profile)[1] for size in (0, 2, 4)}
    oversized = FileLink(leaf[4].cid, 5, 5)
    for replaced, count in (
        ({}, 0),
        ({}, -1),
        ({}, 4),
        ({3: leaf[4]}, 4),
        ({2: leaf[4], 4: leaf[2]}, 5),
        ({0: leaf[2]}, 3),
        ({2: leaf[0]}, 3),
        ({1: oversized}, 3),
    ):
        with pytest.raises(InvalidParameter):
            filedag.edit(root, replaced, count, profile, dag.get, dag.put)
    trickle = profile.with_options(layout="trickle")
    with pytest.raises(InvalidParameter):
        filedag.edit(root, {}, 3, trickle, dag.get, dag.put)


def test_a_missing_node_ends_an_edit_with_the_stores_own_error():
    dag, profile = MemoryDag(), UNIXFS_V1_2025.with_options(chunk_size_bytes=1, max_file_links=2)
    root = filedag.add_bytes(b"01234567", profile, dag.put)
    inner = dagpb.decode(dag.get(root.cid)).links[0].cid
    del dag.blocks[inner]
    with pytest.raises(MissingBlockError):
        edited(root, b"01234567", b"x1234567", profile, dag)


# ---------------------------------------------------------------------------- attributes


@given(small_profiles(), contents, attributes_or_none, attributes_or_none)
def test_attributes_change_the_root_only(profile, content, before, after):
    profile = profile.with_options(raw_leaves=False)
    dag = MemoryDag()
    root = filedag.add_bytes(content, profile, dag.put, before)
    dag.reset_counts()
    changed = filedag.set_attributes(root, after, profile, dag.get, dag.put)
    assert len(dag.puts) <= 1
    assert changed == filedag.add_bytes(content, profile, MemoryDag().put, after)


def test_a_raw_file_with_attributes_becomes_dag_pb():
    dag = MemoryDag()
    root = filedag.add_bytes(b"raw", UNIXFS_V1_2025, dag.put)
    with_mode = filedag.set_attributes(root, Attributes(0o600), UNIXFS_V1_2025, dag.get, dag.put)
    assert cids.codec_of(with_mode.cid) == cids.DAG_PB
    assert filedag.FileReader(with_mode.cid, dag.get).read(0, 9) == b"raw"
    assert filedag.set_attributes(root, None, UNIXFS_V1_2025, dag.get, dag.put) == root


# ----------------------------------------------------------------------- leaves and form


@given(small_profiles(), contents, st.data())
def test_leaves_are_found_by_number(profile, content, data):
    dag = MemoryDag()
    root = filedag.add_bytes(content, profile, dag.put)
    count = chunk.leaf_count(len(content), profile.chunk_size_bytes)
    first = data.draw(st.integers(0, count))
    wanted = data.draw(st.integers(0, count - first))
    found = filedag.leaf_links(root, first, wanted, profile, dag.get)
    pieces = list(chunk.split(content, profile.chunk_size_bytes))[first : first + wanted]
    assert found == [filedag.make_leaf(piece, profile)[1] for piece in pieces]


def test_one_leaf_costs_one_node_per_level():
    dag, profile = MemoryDag(), UNIXFS_V1_2025.with_options(chunk_size_bytes=1, max_file_links=2)
    root = filedag.add_bytes(random.Random(3).randbytes(64), profile, dag.put)
    dag.reset_counts()
    filedag.leaf_links(root, 33, 1, profile, dag.get)
    assert len(dag.gets) == 6


def test_leaves_outside_the_file_are_refused():
    dag, profile = MemoryDag(), UNIXFS_V1_2025.with_options(chunk_size_bytes=1)
    root = filedag.add_bytes(b"abc", profile, dag.put)
    for first, count in ((-1, 1), (0, 4), (3, 1), (0, -1)):
        with pytest.raises(InvalidParameter):
            filedag.leaf_links(root, first, count, profile, dag.get)


class TestCanonicalForm:
    profile = UNIXFS_V0_2015.with_options(chunk_size_bytes=4, max_file_links=3)
    content = bytes(range(50))

    @pytest.mark.parametrize(
        "options",
        [
            {"chunk_size_bytes": 5},
            {"max_file_links": 4},
            {"raw_leaves": True},
            {"layout": "trickle"},
            {"cid_version": 1},
            {"cid_version": 1, "hash_function": "blake3"},
            {"inline": True},
        ],
        ids=str,
    )
    def test_a_file_of_another_profile_is_not(self, options):
        dag, other = MemoryDag(), self.profile.with_options(**options)
        root = filedag.add_bytes(self.content, other, dag.put)
        assert filedag.is_canonical(root, other, dag.get)
        assert not filedag.is_canonical(root, self.profile, dag.get)

    def test_profiles_that_differ_in_other_things_are_the_same_to_it(self):
        dag = MemoryDag()
        root = filedag.add_bytes(self.content, self.profile, dag.put)
        other = self.profile.with_options(hamt_fanout=8, max_directory_links=3)
        assert filedag.is_canonical(root, other, dag.get)

    def test_leaves_of_the_old_type_are_not_although_they_have_the_same_sizes(self):
        dag = MemoryDag()
        trickle = self.profile.with_options(layout="trickle")
        root = filedag.add_bytes(self.content[:8], trickle, dag.put)
        assert not filedag.is_canonical(root, self.profile, dag.get)

    def test_a_node_with_metadata_below_the_root_is_not(self):
        dag = MemoryDag()
        first = filedag.add_bytes(self.content[:12], self.profile, dag.put, Attributes(0o644))
        second = filedag.add_bytes(self.content[12:16], self.profile, dag.put)
        record = unixfs.file(b"", [first.size, second.size])
        links = [(link.cid, b"", link.tsize) for link in (first, second)]
        data = dagpb.encode(links, unixfs.encode(record))
        root = filedag.describe(dag.add(data, cids.DAG_PB, self.profile), dag.get)
        assert filedag.FileReader(root.cid, dag.get).read(0, 99) == self.content[:16]
        assert not filedag.is_canonical(root, self.profile, dag.get)

    def test_an_encoding_of_its_own_is_not(self):
        """A link without its empty name: valid, but not what Kubo writes."""
        dag = MemoryDag()
        root = filedag.add_bytes(self.content[:8], self.profile, dag.put)
        node = dagpb.decode(dag.get(root.cid))
        hashes = [b"\x0a" + bytes((len(link.cid),)) + link.cid for link in node.links]
        links = [b"\x12" + bytes((len(field) + 2,)) + field + b"\x18\x0c" for field in hashes]
        cid = dag.add(b"".join(links) + dagpb.encode((), node.data), cids.DAG_PB, self.profile)
        assert filedag.FileReader(cid, dag.get).read(0, 99) == self.content[:8]
        assert not filedag.is_canonical(FileLink(cid, root.tsize, 8), self.profile, dag.get)

    def test_what_is_no_file_is_not(self):
        dag = MemoryDag()
        data = dagpb.encode((), unixfs.encode(unixfs.Data(Kind.DIRECTORY)))
        cid = dag.add(data, cids.DAG_PB, self.profile)
        assert not filedag.is_canonical(FileLink(cid, len(data), 0), self.profile, dag.get)

    def test_a_missing_block_is_not_taken_for_an_answer(self):
        dag = MemoryDag()
        root = filedag.add_bytes(self.content, self.profile, dag.put)
        del dag.blocks[root.cid]
        with pytest.raises(MissingBlockError):
            filedag.is_canonical(root, self.profile, dag.get)


# ------------------------------------------------------------------- other kinds of nodes


def test_a_symlink_is_described_by_its_target():
    dag = MemoryDag()
    link = filedag.symlink(b"../target", UNIXFS_V1_2025, dag.put, Attributes(0o777, (7, 0)))
    record = unixfs.decode(dagpb.decode(dag.get(link.cid)).data)
    assert (record.kind, record.content, record.mode) == (Kind.SYMLINK, b"../target", None)
    assert record.mtime == (7, 0)
    assert filedag.describe(link.cid, dag.get) == link
    assert link.size == len(b"../target")


def test_blocks_without_content_are_described_by_their_size():
    dag = MemoryDag()
    data = dagpb.encode((), unixfs.encode(unixfs.Data(Kind.DIRECTORY)))
    directory = dag.add(data, cids.DAG_PB, UNIXFS_V1_2025)
    assert filedag.describe(directory, dag.get) == FileLink(directory, len(data), 0)
    cbor = dag.add(b"\xa0", cids.DAG_CBOR, UNIXFS_V1_2025)
    assert filedag.describe(cbor, dag.get) == FileLink(cbor, 1, 0)
    raw = dag.add(b"raw", cids.RAW, UNIXFS_V1_2025)
    assert filedag.describe(raw, dag.get) == FileLink(raw, 3, 3)


def test_an_edit_of_something_else_is_refused():
    dag, profile = MemoryDag(), UNIXFS_V0_2015.with_options(chunk_size_bytes=4)
    data = dagpb.encode((), unixfs.encode(unixfs.Data(Kind.DIRECTORY)))
    directory = FileLink(dag.add(data, cids.DAG_PB, profile), len(data), 8)
    leaf = filedag.make_leaf(b"abcd", profile)[1]
    with pytest.raises(NotAFile):
        filedag.edit(directory, {0: leaf}, 2, profile, dag.get, dag.put)
    block = Block.build(dagpb.encode((), unixfs.encode(unixfs.file(b"x"))), cids.DAG_PB, profile)
    dag.put(block)
    with pytest.raises(MalformedUnixfs):
        filedag.leaf_links(FileLink(block.cid, 9, 8), 0, 1, profile, dag.get)
