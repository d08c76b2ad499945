"""The HAMT's bytes and its refusals. That edits equal builds is in test_dirdag."""

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipld import cid as cids
from ipld import dagpb, dirdag, hamt, unixfs
from ipld.dirdag import Entry
from ipld.errors import (
    FanoutTooLarge,
    HashExhausted,
    MalformedDagPb,
    MalformedShard,
    NotADirectory,
    TooDeep,
)
from ipld.murmur import hash64
from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025
from ipld.unixfs import Attributes, Data, Kind
from tests.ipld.collisions import colliding_names
from tests.ipld.memory import MemoryDag

SHARDED = UNIXFS_V1_2025.with_options(hamt_threshold_bytes=1)
LEAF = cids.make(1, cids.RAW, b"\x12\x20" + hashlib.sha256(b"x").digest())


def entry(name: bytes, tsize: int = 1) -> Entry:
    return Entry(name, LEAF, tsize)


def profile_with(fanout: int):
    return SHARDED.with_options(hamt_fanout=fanout)


def make_shard(dag, links, bitmap=None, fanout=16, hash_type=0x22, kind=Kind.HAMT_SHARD, mode=None):
    """A hand-made shard block; `links` are (name with prefix, cid)."""
    if bitmap is None:
        bits = sum(1 << int(name[: len(f"{fanout - 1:X}")], 16) for name, _ in links)
        bitmap = bits.to_bytes((bits.bit_length() + 7) // 8, "big")
    record = Data(kind, bitmap, hash_type=hash_type, fanout=fanout, mode=mode)
    data = dagpb.encode([(cid, name, 1) for name, cid in links], unixfs.encode(record))
    return dag.add(data, cids.DAG_PB, UNIXFS_V1_2025)


def name_for(*slots: int, fanout: int = 16) -> bytes:
    """A name whose hash leads through these slots."""
    bits = fanout.bit_length() - 1
    path = sum(slot << 64 - bits * (level + 1) for level, slot in enumerate(slots))
    mask = ((1 << bits * len(slots)) - 1) << 64 - bits * len(slots)
    return next(
        name
        for name in (b"n%d" % index for index in range(1_000_000))
        if hash64(name) & mask == path
    )


def model(names: list[bytes], fanout: int, level: int = 0) -> tuple[bytes, int]:
    """A second, slow writer of shards, straight from the specification: CID and tsize."""
    bits = fanout.bit_length() - 1
    slots: dict[int, list[bytes]] = {}
    for name in names:
        slots.setdefault(hash64(name) >> 64 - bits * (level + 1) & fanout - 1, []).append(name)
    block, bitmap, tsizes = b"", 0, 0
    for slot in sorted(slots):
        bitmap |= 1 << slot
        label = f"{slot:0{len(f'{fanout - 1:X}')}X}".encode()
        if len(slots[slot]) == 1:
            cid, tsize, label = LEAF, 1, label + slots[slot][0]
        else:
            cid, tsize = model(slots[slot], fanout, level + 1)
        link = b"\x0a" + bytes([len(cid)]) + cid + b"\x12" + bytes([len(label)]) + label
        link += b"\x18" + varint(tsize)
        block += b"\x12" + varint(len(link)) + link
        tsizes += tsize
    bitmap_bytes = bytes.fromhex(f"{bitmap:0{fanout // 4}x}").lstrip(b"\0")
    record = b"\x08\x05\x12" + bytes([len(bitmap_bytes)]) + bitmap_bytes + b"\x28\x22\x30"
    record += varint(fanout)
    block += b"\x0a" + varint(len(record)) + record
    cid = b"\x01\x70\x12\x20" + hashlib.sha256(block).digest()
    return cid, len(block) + tsizes


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


@given(
    st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=200, unique=True),
    st.sampled_from([8, 16, 32, 256, 512, 1024]),
)
def test_trees_equal_those_of_the_slow_model(names, fanout):
    dag = MemoryDag()
    built = dirdag.build(map(entry, names), profile_with(fanout), dag.put)
    assert (built.cid, built.tsize) == model(names, fanout)


@pytest.mark.parametrize(
    ("fanout", "width", "levels"),
    [(8, 1, 21), (16, 1, 16), (32, 2, 12), (256, 2, 8), (512, 3, 7), (1024, 3, 6)],
)
def test_width_of_names_and_depth_follow_from_the_fanout(fanout, width, levels):
    shape = hamt.shape_of(fanout)
    assert (shape.width, shape.level_count) == (width, levels)
    assert shape.prefixes[-1] == f"{fanout - 1:X}".encode()
    assert len(shape.prefixes[0]) == width


def test_bitmap_is_big_endian_without_leading_zero_bytes():
    dag = MemoryDag()
    low, high = name_for(0), name_for(9)
    for names, bitmap in (([low], b"\x01"), ([high], b"\x02\x00"), ([low, high], b"\x02\x01")):
        built = dirdag.build(map(entry, names), profile_with(16), dag.put)
        record = unixfs.decode(dagpb.decode(dag.blocks[built.cid]).data)
        assert record.content == bitmap
        assert record.hash_type == 0x22 and record.fanout == 16 and record.filesize is None


def test_tree_does_not_depend_on_the_order_of_its_entries():
    names = [b"file%d" % index for index in range(500)]
    dag = MemoryDag()
    roots = set()
    for seed in range(5):
        random.Random(seed).shuffle(names)
        roots.add(dirdag.build(map(entry, names), profile_with(8), dag.put))
    assert len(roots) == 1


def test_mode_and_mtime_are_on_the_root_shard_only():
    dag = MemoryDag()
    attributes = Attributes(0o755, (1_700_000_000, 5))
    names = [b"%d" % index for index in range(100)]
    built = dirdag.build(map(entry, names), profile_with(8), dag.put, attributes)
    records = {cid: unixfs.decode(dagpb.decode(data).data) for cid, data in dag.blocks.items()}
    assert records.pop(built.cid).attributes == attributes
    assert records and all(record.attributes is None for record in records.values())


def test_root_shard_under_version_0_has_a_version_0_cid_below_too():
    dag = MemoryDag()
    profile = UNIXFS_V0_2015.with_options(hamt_threshold_bytes=1, hamt_fanout=8)
    dirdag.build(map(entry, [b"%d" % index for index in range(50)]), profile, dag.put)
    assert {len(cid) for cid in dag.blocks} == {34}


@pytest.mark.parametrize("fanout", [8, 256, 1024])
def test_names_that_collide_in_all_bits_are_refused_with_nothing_put(fanout):
    dag = MemoryDag()
    names = colliding_names(3)
    assert len({hash64(name) for name in names}) == 1
    with pytest.raises(HashExhausted, match="collide"):
        dirdag.build(map(entry, names), profile_with(fanout), dag.put)
    assert not dag.blocks
    built = dirdag.build([entry(names[0]), entry(b"a")], profile_with(fanout), dag.put)
    dag.reset_counts()
    with pytest.raises(HashExhausted):
        dirdag.edit(built.cid, {names[1]: entry(names[1])}, profile_with(fanout), dag.get, dag.put)
    assert not dag.puts


def test_colliding_names_are_fine_in_a_plain_directory():
    dag = MemoryDag()
    names = colliding_names(50)
    built = dirdag.build(map(entry, names), UNIXFS_V1_2025, dag.put)
    assert {found.name for found in dirdag.entries(built.cid, dag.get)} == set(names)


def test_names_that_share_nearly_all_bits_nest_to_the_deepest_level():
    """Half a collision: the same first 24 bits put three single-child shards above a pair."""
    names: dict[int, list[bytes]] = {}
    for index in range(200_000):
        name = b"n%d" % index
        names.setdefault(hash64(name) >> 40, []).append(name)
    pair = next(group for group in names.values() if len(group) == 2)
    dag = MemoryDag()
    profile = profile_with(256)
    built = dirdag.build(map(entry, pair), profile, dag.put)
    assert len(dag.blocks) > 3
    assert dirdag.lookup(built.cid, pair[0], dag.get) == entry(pair[0])
    alone = dirdag.edit(built.cid, {pair[1]: None}, profile, dag.get, dag.put)
    assert alone == dirdag.build([entry(pair[0])], profile, dag.put)


class TestHostileShards:
    """Everything that a shard can claim about itself and not keep."""

    def check(self, dag, root, error, match=None):
        for read in (
            lambda: list(dirdag.entries(root, dag.get)),
            lambda: dirdag.lookup(root, b"some name", dag.get),
            lambda: dirdag.edit(
                root, {b"some name": entry(b"some name")}, profile_with(16), dag.get, dag.put
            ),
        ):
            with pytest.raises(error, match=match):
                read()

    def test_fanout_above_the_limit_is_refused(self):
        dag = MemoryDag()
        self.check(dag, make_shard(dag, [], fanout=2048), FanoutTooLarge)
        self.check(dag, make_shard(dag, [], fanout=2**63), FanoutTooLarge)

    @pytest.mark.parametrize("fanout", [0, 1, 2, 4, 7, 24, 1000])
    def test_fanout_that_is_no_power_of_two_is_refused(self, fanout):
        dag = MemoryDag()
        self.check(dag, make_shard(dag, [], b"", fanout), MalformedShard, "power of two")

    @pytest.mark.parametrize("hash_type", [None, 0x12, 0x23])
    def test_other_hash_functions_are_refused(self, hash_type):
        dag = MemoryDag()
        self.check(dag, make_shard(dag, [], hash_type=hash_type), MalformedShard, "murmur3")

    @pytest.mark.parametrize(
        ("names", "bitmap"),
        [
            ([b"1a", b"2b"], b"\x02"),
            ([b"1a"], b"\x06"),
            ([b"1a"], b""),
            ([b"1a"], b"\x04"),
            ([b"1a"], b"\x01\x00\x02"),
            ([b"1a", b"1b"], b"\x02"),
        ],
    )
    def test_bitmap_that_contradicts_the_links_is_refused(self, names, bitmap):
        dag = MemoryDag()
        root = make_shard(dag, [(name, LEAF) for name in names], bitmap)
        self.check(dag, root, MalformedShard, "disagree")

    @pytest.mark.parametrize("name", [b"", b"a", b"x", b"\xff"])
    def test_link_without_its_slot_is_refused(self, name):
        dag = MemoryDag()
        root = make_shard(dag, [(name, LEAF)], b"\x02")
        self.check(dag, root, MalformedShard, "without its slot")

    def test_links_out_of_order_are_refused(self):
        """dag-pb allows it, but then the bitmap would assign them to each other's slots."""
        dag = MemoryDag()
        root = make_shard(dag, [(b"1a", LEAF), (b"2b", LEAF)])
        block = dag.blocks[root]
        size = 2 + block[1]
        swapped = block[size : 2 * size] + block[:size] + block[2 * size :]
        self.check(dag, dag.add(swapped, cids.DAG_PB, UNIXFS_V1_2025), MalformedShard, "disagree")

    def test_sub_shard_of_another_fanout_is_refused(self):
        dag = MemoryDag()
        slot = hash64(b"some name") >> 60
        child = make_shard(dag, [], b"", fanout=32)
        self.check(dag, make_shard(dag, [(b"%X" % slot, child)]), MalformedShard, "fan-out")

    def test_empty_sub_shard_is_refused(self):
        """Otherwise shards that link to each other's empty children multiply without an end."""
        dag = MemoryDag()
        child = make_shard(dag, [], b"")
        for _ in range(8):
            child = make_shard(dag, [(b"%X" % slot, child) for slot in range(16)])
        self.check(dag, child, MalformedShard, "empty")

    def test_shard_linked_from_two_slots_is_refused_at_its_first_wrong_name(self):
        dag = MemoryDag()
        names = [name_for(3, 1), name_for(3, 2)]
        child = make_shard(dag, [(b"1" + names[0], LEAF), (b"2" + names[1], LEAF)])
        root = make_shard(dag, [(b"3", child), (b"4", child)])
        listed = dirdag.entries(root, dag.get)
        assert [next(listed).name, next(listed).name] == names
        with pytest.raises(MalformedShard, match="not its own"):
            next(listed)

    def test_name_in_a_foreign_slot_is_refused_by_an_edit_of_that_slot(self):
        dag = MemoryDag()
        slot = hash64(b"some name") >> 60
        wrong = name_for((slot + 1) % 16)
        root = make_shard(dag, [(b"%X" % slot + wrong, LEAF)])
        with pytest.raises(MalformedShard, match="not its own"):
            dirdag.edit(
                root, {b"some name": entry(b"some name")}, profile_with(16), dag.get, dag.put
            )
        with pytest.raises(MalformedShard, match="not its own"):
            list(dirdag.entries(root, dag.get))

    def test_tree_deeper_than_the_hash_is_refused(self):
        dag = MemoryDag()
        hashed = hash64(b"some name")
        child = make_shard(dag, [(b"0x", LEAF)])
        for level in reversed(range(17)):
            slot = hashed >> max(0, 60 - 4 * level) & 15
            child = make_shard(dag, [(b"%X" % slot, child)])
        with pytest.raises(TooDeep):
            list(dirdag.entries(child, dag.get))
        with pytest.raises(TooDeep):
            dirdag.edit(
                child, {b"some name": entry(b"some name")}, profile_with(16), dag.get, dag.put
            )

    def test_sub_shard_that_is_no_shard_is_refused(self):
        dag = MemoryDag()
        slot = b"%X" % (hash64(b"some name") >> 60)
        self.check(dag, make_shard(dag, [(slot, LEAF)]), MalformedShard, "linked as")
        plain = dirdag.empty(UNIXFS_V1_2025, dag.put).cid
        self.check(dag, make_shard(dag, [(slot, plain)]), MalformedShard, "not a murmur3")
        garbage = dag.add(b"\xff\xff", cids.DAG_PB, UNIXFS_V1_2025)
        self.check(dag, make_shard(dag, [(slot, garbage)]), MalformedDagPb)

    def test_root_of_another_kind_is_not_a_directory(self):
        dag = MemoryDag()
        self.check(dag, make_shard(dag, [], kind=Kind.FILE), NotADirectory)
        self.check(dag, LEAF, NotADirectory)

    def test_sub_shard_with_one_entry_is_read_and_normalised_where_it_is_edited(self):
        """Other writers left such shards behind; they hold no ambiguity."""
        dag = MemoryDag()
        name, other = name_for(3, 1), name_for(3, 2)
        child = make_shard(dag, [(b"1" + name, LEAF)])
        root = make_shard(dag, [(b"3", child)])
        assert [found.name for found in dirdag.entries(root, dag.get)] == [name]
        edited = dirdag.edit(root, {other: entry(other)}, profile_with(16), dag.get, dag.put)
        assert edited == dirdag.build([entry(name), entry(other)], profile_with(16), dag.put)

    def test_identity_shards_are_read_without_a_store(self):
        inline = UNIXFS_V1_2025.with_options(
            inline=True, inline_limit_bytes=128, hamt_threshold_bytes=1, hamt_fanout=8
        )
        dag = MemoryDag()
        tiny = cids.make(1, cids.RAW, b"\x00\x01x")
        names = [b"%d" % index for index in range(9)]
        built = dirdag.build([Entry(name, tiny, 1) for name in names], inline, dag.put)
        stored = {cid: data for cid, data in dag.blocks.items() if not cids.is_identity(cid)}
        assert len(stored) < len(dag.blocks)
        listed = dirdag.entries(built.cid, stored.__getitem__)
        assert {found.name for found in listed} == set(names)
