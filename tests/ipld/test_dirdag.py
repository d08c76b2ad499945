"""The editing law of directories: form and CID follow from the content, never from the history."""

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipld import cid as cids
from ipld import dagcbor, dagpb, dirdag, filedag, plaindir, unixfs
from ipld.block import Block
from ipld.dirdag import Entry, SizeMemo
from ipld.errors import InvalidParameter, NotADirectory, RequestError
from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025
from ipld.unixfs import Attributes, Data, Kind
from tests.ipld.memory import MemoryDag, MissingBlockError

DIGEST = hashlib.sha256(b"x").digest()
LEAF = cids.make(1, cids.RAW, b"\x12\x20" + DIGEST)
LEAF_V0 = b"\x12\x20" + DIGEST
TINY = cids.make(1, cids.RAW, b"\x00\x01x")
WIDE = cids.make(1, cids.RAW, b"\x13\x40" + hashlib.sha512(b"x").digest())


def entry(name: bytes, tsize: int = 1, cid: bytes = LEAF) -> Entry:
    return Entry(name, cid, tsize)


def kind_of(dag: MemoryDag, cid: bytes) -> Kind:
    return unixfs.decode(dagpb.decode(dag.blocks[cid]).data).kind


# --------------------------------------------------------------------------- the editing law

profiles = st.builds(
    lambda base, **options: base.with_options(**options),
    st.sampled_from([UNIXFS_V0_2015, UNIXFS_V1_2025]),
    hamt_fanout=st.sampled_from([8, 16, 256]),
    hamt_threshold_bytes=st.sampled_from([0, 60, 150, 600]),
    hamt_size_estimation=st.sampled_from(["links", "block", "disabled"]),
    max_directory_links=st.sampled_from([0, 1, 4, 12]),
    inline=st.booleans(),
)
names = st.one_of(
    st.integers(0, 30).map(lambda number: b"%d" % number),
    st.integers(0, 5).map(lambda number: b"a longer name, with number %d" % number * 4),
    st.binary(min_size=1, max_size=3),
)
targets = st.tuples(
    st.sampled_from([0, 1, 127, 128, 70_000, 1 << 40, (1 << 64) - 1]),
    st.sampled_from([LEAF, LEAF_V0, TINY, WIDE]),
)
histories = st.lists(st.dictionaries(names, st.none() | targets, max_size=12), max_size=12)
attribute_sets = st.none() | st.builds(
    Attributes, st.none() | st.integers(1, 0o7777), st.none() | st.just((1_700_000_000, 7))
)


@given(profiles, histories, attribute_sets)
def test_any_history_of_edits_gives_the_directory_of_one_build(profile, history, attributes):
    dag, memo = MemoryDag(), SizeMemo()
    content: dict[bytes, Entry] = {}
    current = dirdag.build([], profile, dag.put, attributes)
    for step in history:
        changes = {
            name: None if target is None else entry(name, *target) for name, target in step.items()
        }
        for name, change in changes.items():
            content.pop(name, None)
            if change is not None:
                content[name] = change
        current = dirdag.edit(current.cid, changes, profile, dag.get, dag.put, memo=memo)
        assert current == dirdag.build(content.values(), profile, dag.put, attributes)
    assert {found.name: found for found in dirdag.entries(current.cid, dag.get)} == content
    for name in [*content, b"absent"]:
        assert dirdag.lookup(current.cid, name, dag.get) == content.get(name)
    assert dirdag.is_canonical(current.cid, profile, dag.get)


@given(profiles, st.dictionaries(names, targets), st.randoms(use_true_random=False))
def test_bulk_edit_equals_the_same_changes_one_by_one_in_any_order(profile, content, rng):
    dag = MemoryDag()
    changes = {name: entry(name, *target) for name, target in content.items()}
    start = dirdag.empty(profile, dag.put).cid
    bulk = dirdag.edit(start, changes, profile, dag.get, dag.put)
    order = list(changes.items())
    rng.shuffle(order)
    single = dirdag.empty(profile, dag.put)
    for name, change in order:
        single = dirdag.edit(single.cid, {name: change}, profile, dag.get, dag.put)
    assert single == bulk


@given(profiles, profiles, st.dictionaries(names, targets), attribute_sets)
def test_directory_made_under_another_profile_is_adopted_by_its_first_edit(
    old, new, content, attributes
):
    dag = MemoryDag()
    listed = [entry(name, *target) for name, target in content.items()]
    foreign = dirdag.build(listed, old, dag.put, attributes)
    native = dirdag.build(listed, new, dag.put, attributes)
    assert dirdag.is_canonical(foreign.cid, new, dag.get) == (foreign.cid == native.cid)
    added = entry(b"added", 5)
    edited = dirdag.edit(foreign.cid, {b"added": added}, new, dag.get, dag.put)
    assert edited.cid == dirdag.build([*listed, added], new, dag.put, attributes).cid or (
        # One case cannot be seen without reading everything: same shards, other limit.
        kind_of_block(edited.cid, dag) is Kind.HAMT_SHARD
        and (old.hamt_fanout, old.cid_version) == (new.hamt_fanout, new.cid_version)
    )


def kind_of_block(cid: bytes, dag: MemoryDag) -> Kind:
    data = cids.identity_data(cid) if cids.is_identity(cid) else dag.blocks[cid]
    return unixfs.decode(dagpb.decode(data).data).kind


@pytest.mark.parametrize(
    "options", [{"cid_version": 0}, {"hamt_fanout": 16}, {"hash_function": "blake3"}]
)
def test_sharded_directory_of_another_version_fanout_or_hash_is_rewritten_whole(options):
    new = UNIXFS_V1_2025.with_options(hamt_threshold_bytes=1, hamt_fanout=8)
    content = [entry(b"%d" % index) for index in range(100)]
    dag = MemoryDag()
    foreign = dirdag.build(content, new.with_options(**options), dag.put)
    edited = dirdag.edit(foreign.cid, {b"7": None}, new, dag.get, dag.put)
    left = [item for item in content if item.name != b"7"]
    assert edited == dirdag.build(left, new, dag.put)


ordinary_entries = st.dictionaries(
    st.binary(min_size=1, max_size=12) | st.sampled_from([b"n%d" % index for index in range(9)]),
    st.tuples(
        st.sampled_from([0, 1, 127, 128, 16_383, 16_384, 1 << 40]), st.sampled_from([LEAF, LEAF_V0])
    ),
    max_size=30,
)


@given(ordinary_entries, ordinary_entries, st.sets(st.integers(0, 30)))
def test_spliced_block_equals_the_encoded_one(before, added, removed):
    content = {name: entry(name, *target) for name, target in before.items()}
    changes: dict[bytes, Entry | None] = {
        name: entry(name, *target) for name, target in added.items()
    }
    changes |= dict.fromkeys([name for at, name in enumerate(content) if at in removed])
    changes |= {b"never there": None}
    record = Data(Kind.DIRECTORY)
    spliced = plaindir.splice(plaindir.encode(content.values(), record)[0], changes)
    merged = {name: item for name, item in (content | changes).items() if item is not None}
    assert spliced is not None
    assert (spliced.data, spliced.tsize) == plaindir.encode(merged.values(), record)
    assert spliced.entry_count == len(merged)
    assert spliced.label_size_bytes == sum(
        len(item.name) + len(item.cid) for item in merged.values()
    )


# ------------------------------------------------------------------------------- the limit


def build_of_size(profile, dag, size):
    """A directory whose estimate is exactly `size`, and the entries; 36-byte CIDs, tsize 1."""
    per_entry = 36 if profile.hamt_size_estimation == "links" else 44
    content: list[Entry] = []
    left = size if profile.hamt_size_estimation == "links" else size - 4
    while left:
        name_size = 10 if left - per_entry - 10 >= per_entry + 10 else left - per_entry
        content.append(entry(b"%0*d" % (name_size, len(content))))
        left -= per_entry + name_size
    return dirdag.build(content, profile, dag.put), content


@pytest.mark.parametrize("estimation", ["links", "block"])
@pytest.mark.parametrize("threshold", [512, 262_144])
def test_directory_is_plain_at_the_threshold_and_sharded_one_byte_above(estimation, threshold):
    profile = UNIXFS_V1_2025.with_options(
        hamt_size_estimation=estimation, hamt_threshold_bytes=threshold
    )
    dag = MemoryDag()
    at, content = build_of_size(profile, dag, threshold)
    assert kind_of(dag, at.cid) is Kind.DIRECTORY
    if estimation == "block":
        assert len(dag.blocks[at.cid]) == threshold
    last = content[-1]
    longer = entry(last.name + b"x")
    changes = {last.name: None, longer.name: longer}
    above = dirdag.edit(at.cid, changes, profile, dag.get, dag.put)
    assert kind_of(dag, above.cid) is Kind.HAMT_SHARD
    assert above == dirdag.build([*content[:-1], longer], profile, dag.put)
    back = dirdag.edit(above.cid, {longer.name: None, last.name: last}, profile, dag.get, dag.put)
    assert back == at


def test_exact_estimate_counts_mode_and_mtime():
    dag = MemoryDag()
    profile = UNIXFS_V1_2025.with_options(hamt_threshold_bytes=512)
    at, _content = build_of_size(profile, dag, 512)
    stamped = dirdag.edit(at.cid, {}, profile, dag.get, dag.put, Attributes(0o755, (1, 0)))
    assert kind_of(dag, stamped.cid) is Kind.HAMT_SHARD
    assert dirdag.edit(stamped.cid, {}, profile, dag.get, dag.put, Attributes()) == at


def test_replacing_an_entry_by_a_smaller_one_can_bring_the_plain_form_back():
    dag = MemoryDag()
    profile = UNIXFS_V1_2025.with_options(hamt_threshold_bytes=512)
    at, content = build_of_size(profile, dag, 512)
    name = content[0].name
    above = dirdag.edit(at.cid, {name: entry(name, 1 << 20)}, profile, dag.get, dag.put)
    assert kind_of(dag, above.cid) is Kind.HAMT_SHARD
    assert dirdag.edit(above.cid, {name: content[0]}, profile, dag.get, dag.put) == at


def test_number_of_entries_alone_can_shard_a_directory():
    profile = UNIXFS_V1_2025.with_options(
        hamt_size_estimation="disabled", max_directory_links=3, hamt_threshold_bytes=1
    )
    dag = MemoryDag()
    content = [entry(b"%d" % index) for index in range(4)]
    three = dirdag.build(content[:3], profile, dag.put)
    four = dirdag.edit(three.cid, {b"3": content[3]}, profile, dag.get, dag.put)
    assert kind_of(dag, three.cid) is Kind.DIRECTORY
    assert kind_of(dag, four.cid) is Kind.HAMT_SHARD
    assert dirdag.edit(four.cid, {b"3": None}, profile, dag.get, dag.put) == three


def test_threshold_of_zero_never_shards_by_size():
    dag = MemoryDag()
    profile = UNIXFS_V1_2025.with_options(hamt_threshold_bytes=0)
    built = dirdag.build((entry(b"%06d" % index) for index in range(8000)), profile, dag.put)
    assert kind_of(dag, built.cid) is Kind.DIRECTORY


def test_empty_directory_is_plain_under_every_threshold():
    dag = MemoryDag()
    profile = UNIXFS_V1_2025.with_options(hamt_threshold_bytes=1)
    empty = dirdag.empty(profile, dag.put)
    assert cids.to_text(empty.cid) == "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
    one = dirdag.edit(empty.cid, {b"a": entry(b"a")}, profile, dag.get, dag.put)
    assert kind_of(dag, one.cid) is Kind.HAMT_SHARD
    assert dirdag.edit(one.cid, {b"a": None}, profile, dag.get, dag.put) == empty


# ------------------------------------------------------------------- attributes and records


@pytest.mark.parametrize("count", [1, 40])
def test_attributes_survive_edits_in_both_forms_until_they_are_replaced(count):
    profile = UNIXFS_V1_2025.with_options(hamt_threshold_bytes=600)
    dag = MemoryDag()
    first, second = Attributes(0o700, (1, 2)), Attributes(0o1777, None)
    content = {b"%d" % index: entry(b"%d" % index) for index in range(count)}
    built = dirdag.build([], profile, dag.put, first)
    filled = dirdag.edit(built.cid, content, profile, dag.get, dag.put)
    assert filled == dirdag.build(content.values(), profile, dag.put, first)
    changed = dirdag.edit(filled.cid, {}, profile, dag.get, dag.put, second)
    assert changed == dirdag.build(content.values(), profile, dag.put, second)
    emptied = dirdag.edit(changed.cid, dict.fromkeys(content), profile, dag.get, dag.put)
    assert emptied == dirdag.build([], profile, dag.put, second)


def test_upper_bits_of_a_stored_mode_survive_both_changes_of_form():
    profile = UNIXFS_V1_2025.with_options(hamt_threshold_bytes=200, hamt_fanout=8)
    dag = MemoryDag()
    record = unixfs.encode(Data(Kind.DIRECTORY, mode=0o40755))
    root = dag.add(dagpb.encode([], record), cids.DAG_PB, profile)
    content = {b"%d" % index: entry(b"%d" % index) for index in range(20)}
    grown = dirdag.edit(root, content, profile, dag.get, dag.put)
    assert kind_of(dag, grown.cid) is Kind.HAMT_SHARD
    assert unixfs.decode(dagpb.decode(dag.blocks[grown.cid]).data).mode == 0o40755
    assert dirdag.edit(grown.cid, dict.fromkeys(content), profile, dag.get, dag.put).cid == root


# -------------------------------------------------------------------------- foreign blocks


def foreign(dag: MemoryDag, links: list[tuple[bytes, bytes, int]]) -> bytes:
    """A plain directory whose links stay in this order."""
    block = b"".join(dagpb.encode([link], None) for link in links)
    return dag.add(block + b"\x0a\x02\x08\x01", cids.DAG_PB, UNIXFS_V1_2025)


def test_unsorted_links_are_listed_in_their_order_and_sorted_by_the_next_edit():
    dag = MemoryDag()
    root = foreign(dag, [(LEAF, b"b", 1), (LEAF, b"c", 1), (LEAF, b"a", 1)])
    assert [found.name for found in dirdag.entries(root, dag.get)] == [b"b", b"c", b"a"]
    edited = dirdag.edit(root, {b"c": None}, UNIXFS_V1_2025, dag.get, dag.put)
    assert edited == dirdag.build([entry(b"a"), entry(b"b")], UNIXFS_V1_2025, dag.put)


def test_first_of_a_repeated_name_counts_everywhere():
    dag = MemoryDag()
    root = foreign(dag, [(LEAF, b"a", 1), (WIDE, b"a", 2), (TINY, b"b", 3)])
    expected = [entry(b"a"), entry(b"b", 3, TINY)]
    assert list(dirdag.entries(root, dag.get)) == expected
    assert dirdag.lookup(root, b"a", dag.get) == expected[0]
    added = entry(b"c")
    edited = dirdag.edit(root, {b"c": added}, UNIXFS_V1_2025, dag.get, dag.put)
    assert edited == dirdag.build([*expected, added], UNIXFS_V1_2025, dag.put)
    removed = dirdag.edit(root, {b"a": None}, UNIXFS_V1_2025, dag.get, dag.put)
    assert removed == dirdag.build(expected[1:], UNIXFS_V1_2025, dag.put)


def test_absurd_tsizes_of_others_do_not_overflow_the_field():
    dag = MemoryDag()
    huge = (1 << 64) - 1
    for profile in (UNIXFS_V1_2025, UNIXFS_V1_2025.with_options(hamt_threshold_bytes=1)):
        built = dirdag.build([entry(b"a", huge), entry(b"b", huge)], profile, dag.put)
        assert built.tsize == huge
        edited = dirdag.edit(built.cid, {b"c": entry(b"c")}, profile, dag.get, dag.put)
        assert edited.tsize == huge
        assert dirdag.lookup(edited.cid, b"a", dag.get) == entry(b"a", huge)


def test_data_before_links_is_read_and_rewritten():
    dag = MemoryDag()
    block = b"\x0a\x02\x08\x01" + dagpb.encode([(LEAF, b"a", 1)], None)
    root = dag.add(block, cids.DAG_PB, UNIXFS_V1_2025)
    assert list(dirdag.entries(root, dag.get)) == [entry(b"a")]
    edited = dirdag.edit(root, {b"b": entry(b"b")}, UNIXFS_V1_2025, dag.get, dag.put)
    assert edited == dirdag.build([entry(b"a"), entry(b"b")], UNIXFS_V1_2025, dag.put)


# -------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("content", [[entry(b"")], [entry(b"a"), entry(b"a", 2)]])
def test_build_refuses_names_that_are_empty_or_repeated(content):
    dag = MemoryDag()
    with pytest.raises(InvalidParameter, match="unique"):
        dirdag.build(content, UNIXFS_V1_2025, dag.put)
    assert not dag.blocks


@pytest.mark.parametrize("changes", [{b"": entry(b"")}, {b"a": entry(b"b")}, {b"": None}])
def test_edit_refuses_changes_under_a_wrong_name(changes):
    dag = MemoryDag()
    root = dirdag.empty(UNIXFS_V1_2025, dag.put).cid
    with pytest.raises(InvalidParameter, match="keyed"):
        dirdag.edit(root, changes, UNIXFS_V1_2025, dag.get, dag.put)


def test_what_is_no_directory_is_refused_as_one():
    dag = MemoryDag()
    others = [
        filedag.add_bytes(b"raw", UNIXFS_V1_2025, dag.put).cid,
        filedag.add_bytes(b"dag-pb", UNIXFS_V0_2015, dag.put).cid,
        filedag.symlink(b"target", UNIXFS_V1_2025, dag.put).cid,
        dag.add(dagcbor.encode({"a": 1}), cids.DAG_CBOR, UNIXFS_V1_2025),
    ]
    for cid in others:
        for read in (
            lambda cid=cid: list(dirdag.entries(cid, dag.get)),
            lambda cid=cid: dirdag.lookup(cid, b"a", dag.get),
            lambda cid=cid: dirdag.edit(cid, {}, UNIXFS_V1_2025, dag.get, dag.put),
        ):
            with pytest.raises(NotADirectory):
                read()


def test_kinds_and_targets_of_nodes():
    dag = MemoryDag()
    link = filedag.symlink(b"target", UNIXFS_V1_2025, dag.put).cid
    sharded = UNIXFS_V1_2025.with_options(hamt_threshold_bytes=1)
    kinds = {
        filedag.add_bytes(b"raw", UNIXFS_V1_2025, dag.put).cid: "file",
        filedag.add_bytes(b"dag-pb", UNIXFS_V0_2015, dag.put).cid: "file",
        link: "symlink",
        dirdag.empty(UNIXFS_V1_2025, dag.put).cid: "directory",
        dirdag.build([entry(b"a")], sharded, dag.put).cid: "directory",
        dag.add(dagcbor.encode({"a": 1}), cids.DAG_CBOR, UNIXFS_V1_2025): "other",
    }
    assert {cid: dirdag.node_kind(cid, dag.get) for cid in kinds} == kinds
    assert dirdag.symlink_target(link, dag.get) == b"target"
    for cid in kinds.keys() - {link}:
        with pytest.raises(RequestError, match="not a symlink"):
            dirdag.symlink_target(cid, dag.get)


def test_missing_shard_passes_through_and_an_edit_leaves_nothing_behind():
    profile = UNIXFS_V1_2025.with_options(hamt_threshold_bytes=1, hamt_fanout=8)
    dag = MemoryDag()
    content = [entry(b"%d" % index) for index in range(200)]
    built = dirdag.build(content, profile, dag.put)
    lost = random.Random(3).choice([cid for cid in dag.blocks if cid != built.cid])
    del dag.blocks[lost]
    dag.reset_counts()
    with pytest.raises(MissingBlockError):
        list(dirdag.entries(built.cid, dag.get))
    changes = {item.name: entry(item.name, 2) for item in content}
    with pytest.raises(MissingBlockError):
        dirdag.edit(built.cid, changes, profile, dag.get, dag.put)
    assert not dag.puts


def test_blocks_are_put_children_first():
    profile = UNIXFS_V1_2025.with_options(hamt_threshold_bytes=1, hamt_fanout=8)
    seen: set[bytes] = {LEAF}

    def put(block: Block) -> None:
        assert all(link.cid in seen for link in dagpb.decode(block.data).links)
        seen.add(block.cid)

    dirdag.build([entry(b"%d" % index) for index in range(300)], profile, put)
    assert len(seen) > 30
