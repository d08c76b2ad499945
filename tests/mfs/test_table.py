"""The table against a dict, its shape against its invariants, its costs against its promises."""

import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ipld import cid as cids
from ipld import dagcbor
from ipld.block import Block
from ipld.dagcbor import Link
from ipld.profile import UNIXFS_V1_2025
from mfs import table_node
from mfs.errors import MalformedTable
from mfs.table import NodeCache, Table
from mfs.table_node import Node
from tests.suites.documents import hex_examples


class Store:
    """Blocks in a dict that counts what is read and written."""

    def __init__(self):
        self.blocks: dict[bytes, bytes] = {}
        self.gets = 0
        self.puts = 0

    def get(self, cid: bytes) -> bytes:
        self.gets += 1
        return self.blocks[cid]

    def put(self, block: Block) -> None:
        self.puts += 1
        self.blocks[block.cid] = bytes(block.data)

    def decode(self, cid: bytes | None) -> Node:
        assert cid is not None
        return table_node.decode(self.blocks[cid])

    def reset(self) -> None:
        self.gets = self.puts = 0

    def table(self, root: bytes | None = None, cache_size_bytes: int = 8 << 20) -> Table:
        return Table(root, self.get, self.put, NodeCache(cache_size_bytes))


@contextmanager
def small_nodes() -> Iterator[None]:
    """Nodes of a few entries, so that a few dozen entries make a tree of several levels."""
    with mock.patch.multiple(
        table_node, TARGET_SIZE_BYTES=160, SPLIT_SIZE_BYTES=240, JOIN_SIZE_BYTES=60
    ):
        yield


def key_of(number: int) -> bytes:
    return b"i" + number.to_bytes(8, "big")


def filled(store: Store, count: int, value_size: int = 60) -> tuple[Table, dict[bytes, bytes]]:
    entries = {key_of(n): n.to_bytes(4, "big") * (value_size // 4) for n in range(count)}
    table = store.table()
    return table.at(table.apply(entries)), entries


def assert_sound(store: Store, root: bytes | None) -> int:
    """Check every invariant of the tree below `root`; returns its number of nodes."""
    if root is None:
        return 0
    top = store.decode(root)
    pending: list[tuple[Node, bytes, bytes | None]] = [(top, b"", None)]
    nodes = 0
    while pending:
        node, first, last = pending.pop()
        nodes += 1
        assert node.keys, "an empty node"
        assert all(key >= first and (last is None or key < last) for key in node.keys)
        # A cut falls between entries, so a part may be larger by less than one entry.
        assert node.size_bytes - max(node.item_sizes()) < table_node.SPLIT_SIZE_BYTES
        if node.level:
            bounds = [*node.keys[1:], last]
            for key, end, cid in zip(node.keys, bounds, node.items, strict=True):
                child = store.decode(cid)
                assert child.level == node.level - 1
                pending.append((child, key, end))
    assert top.level == 0 or len(top.keys) > 1, "a root that only points on"
    return nodes


# ------------------------------------------------------------------------------- behaviour


def test_empty_table_finds_nothing():
    table = Store().table()
    assert table.lookup(b"a") is None
    assert list(table.range()) == []
    assert table.apply({}) is None
    assert table.apply({b"a": None}) is None


def test_entry_is_found_and_its_neighbours_are_not():
    store = Store()
    table, entries = filled(store, 5000)
    for key, value in entries.items():
        assert table.lookup(key) == value
    assert table.lookup(b"") is None
    assert table.lookup(b"h") is None
    assert table.lookup(key_of(77) + b"\0") is None
    assert table.lookup(b"j") is None


def test_empty_key_and_empty_value_are_entries():
    store = Store()
    root = store.table().apply({b"": b"", b"a": b""})
    table = store.table(root)
    assert table.lookup(b"") == b""
    assert dict(table.range()) == {b"": b"", b"a": b""}


def test_older_version_is_unchanged_by_apply():
    store = Store()
    table, entries = filled(store, 3000)
    table.apply({key_of(n): b"new" for n in range(0, 3000, 7)})
    table.apply(dict.fromkeys(entries, None))
    assert dict(store.table(table.root).range()) == entries


def test_removing_everything_gives_the_empty_table():
    store = Store()
    table, entries = filled(store, 3000)
    assert table.apply(dict.fromkeys(entries, None)) is None


def test_removing_most_lowers_the_tree():
    store = Store()
    table, entries = filled(store, 5000)
    assert store.decode(table.root).level > 0
    root = table.apply(dict.fromkeys(list(entries)[5:-5], None))
    assert store.decode(root).level == 0
    assert dict(store.table(root).range()) == dict([*entries.items()][:5] + [*entries.items()][-5:])


def test_range_is_half_open_and_bounded_by_its_keys():
    table, _ = filled(Store(), 3000)
    found = [key for key, _ in table.range(key_of(100), key_of(2000))]
    assert found == [key_of(n) for n in range(100, 2000)]
    assert list(table.range(key_of(5), key_of(5))) == []
    assert list(table.range(b"j")) == []
    assert list(table.range(b"", b"i")) == []
    assert len(list(table.range(b"a", b"z"))) == 3000


def test_range_reads_nodes_only_as_it_is_consumed():
    store = Store()
    table, _ = filled(store, 20000)
    store.reset()
    entries = store.table(table.root).range()
    assert [next(entries)[0] for _ in range(10)] == [key_of(n) for n in range(10)]
    assert store.gets <= 3


def test_sizes_beyond_the_limits_are_refused_before_anything_is_written():
    store = Store()
    with pytest.raises(ValueError, match="limit 1024"):
        store.table().apply({b"a": b"", b"k" * 1025: b""})
    with pytest.raises(ValueError, match="limit 262144"):
        store.table().apply({b"a": b"", b"b": bytes((256 << 10) + 1)})
    assert store.puts == 0


def test_largest_key_and_value_are_stored():
    store = Store()
    entries = {bytes([n]) * 1024: bytes([n]) * (256 << 10) for n in range(5)}
    entries |= {key_of(n): b"small" for n in range(500)}
    root = store.table().apply(entries)
    assert dict(store.table(root).range()) == entries
    assert all(len(block) < 300 << 10 for block in store.blocks.values())


def test_links_of_a_table_lead_to_all_its_nodes():
    """gc and CAR export follow plain dag-cbor links."""
    store = Store()
    table, _ = filled(store, 20000)
    assert table.root is not None
    pending, seen = [table.root], set()
    while pending:
        cid = pending.pop()
        seen.add(cid)
        pending.extend(dagcbor.links_of(dagcbor.decode(store.blocks[cid])))
    assert seen == set(store.blocks)


def test_value_that_looks_like_a_cid_is_no_link():
    store = Store()
    lookalike = Block.build(b"not here", cids.RAW, UNIXFS_V1_2025).cid
    root = store.table().apply({lookalike: lookalike})
    assert list(dagcbor.links_of(dagcbor.decode(next(iter(store.blocks.values()))))) == []
    assert store.table(root).lookup(lookalike) == lookalike


# ----------------------------------------------------------------------------------- costs


def test_one_change_writes_one_node_per_level():
    store = Store()
    table, _ = filled(store, 50000)
    levels = store.decode(table.root).level + 1
    store.reset()
    store.table(table.root).apply({key_of(25000): b"new"})
    assert (store.gets, store.puts) == (levels, levels)


def test_change_to_the_same_value_writes_nothing():
    store = Store()
    table, entries = filled(store, 5000)
    store.reset()
    same = {key: entries[key] for key in list(entries)[::50]}
    assert table.apply({**same, b"absent": None}) == table.root
    assert store.puts == 0


def test_bulk_change_writes_each_node_once():
    store = Store()
    table, entries = filled(store, 20000)
    node_count = assert_sound(store, table.root)
    store.reset()
    table.apply(dict.fromkeys(entries, b"other" * 12))
    assert store.puts <= node_count * 1.1


def test_sorted_load_in_one_call_writes_no_node_twice():
    store = Store()
    table, _ = filled(store, 50000)
    assert store.puts == len(store.blocks) == assert_sound(store, table.root)


def test_lookups_through_the_cache_read_no_block():
    store = Store()
    table, entries = filled(store, 5000)
    for key in entries:
        table.lookup(key)
    store.reset()
    for key in entries:
        table.lookup(key)
    assert store.gets == 0


def test_cache_is_bounded():
    store = Store()
    table, _ = filled(store, 50000)
    cache = NodeCache(1 << 16)
    small = Table(table.root, store.get, store.put, cache)
    assert len(list(small.range())) == 50000
    assert len(cache) <= (1 << 16) // 4096


def test_diff_does_not_read_what_both_versions_share():
    store = Store()
    table, _ = filled(store, 50000)
    other = table.apply({key_of(100): b"x", key_of(40000): None, key_of(70000): b"y"})
    store.reset()
    changed = list(store.table(table.root).diff(store.table(other)))
    assert changed == [key_of(100), key_of(40000), key_of(70000)]
    assert store.gets <= 12


def test_diff_with_itself_reads_nothing():
    store = Store()
    table, _ = filled(store, 5000)
    store.reset()
    assert list(store.table(table.root).diff(store.table(table.root))) == []
    assert store.gets == 0


def test_deleting_every_other_entry_keeps_nodes_reasonably_full():
    store = Store()
    table, entries = filled(store, 20000)
    before = assert_sound(store, table.root)
    rng = random.Random(4)
    left = list(entries)
    rng.shuffle(left)
    for start in range(0, 19000, 500):
        table = table.at(table.apply(dict.fromkeys(left[start : start + 500], None)))
    assert assert_sound(store, table.root) <= before / 5
    assert dict(table.range()) == {key: entries[key] for key in sorted(left[19000:])}


# ---------------------------------------------------------------------------------- damage


def block_of(value: object) -> bytes:
    return dagcbor.encode(value)


LINK = Link(Block.build(b"child", cids.DAG_CBOR, UNIXFS_V1_2025).cid)


@pytest.mark.parametrize(
    ("fault", "value"),
    [
        ("not a list", {"a": 1}),
        ("too few fields", [1, 0, b"\0\0\0\1\0\0\0\0\0\0"]),
        ("newer version", [2, 0, b"\0\0\0\1\0\0\0\0\0\0", []]),
        ("version is a bool", [True, 0, b"\0\0\0\1\0\0\0\0\0\0", []]),
        ("level is no number", [1, "0", b"\0\0\0\1\0\0\0\0\0\0", []]),
        ("level below 0", [1, -1, b"\0\0\0\1\0\0\0\0\0\0", []]),
        ("level too high", [1, 16, b"\0\0\0\1\0\0", [LINK]]),
        ("no keys", [1, 0, b"\0\0\0\0", []]),
        ("count cut short", [1, 0, b"\0\0", []]),
        ("lengths cut short", [1, 0, b"\0\0\0\2\0\0\0", []]),
        ("count of gigabytes", [1, 0, b"\xff\xff\xff\xff" + bytes(100), []]),
        ("bytes left over", [1, 0, b"\0\0\0\1\0\0\0\0\0\0!", []]),
        ("value beyond the end", [1, 0, b"\0\0\0\1\0\0\0\0\0\x09", []]),
        ("keys not ascending", [1, 0, struct.pack(">I2H2I2s", 2, 1, 1, 0, 0, b"ba"), []]),
        ("equal keys", [1, 0, struct.pack(">I2H2I2s", 2, 1, 1, 0, 0, b"aa"), []]),
        ("leaf with children", [1, 0, b"\0\0\0\1\0\0\0\0\0\0", [LINK]]),
        ("fewer children than keys", [1, 1, struct.pack(">I2H2s", 2, 1, 1, b"ab"), [LINK]]),
        ("child is no link", [1, 1, b"\0\0\0\1\0\0", [LINK.cid]]),
        ("packed is text", [1, 0, "text", []]),
    ],
)
def test_malformed_node_is_refused(fault, value):
    with pytest.raises(MalformedTable):
        table_node.decode(block_of(value))


def test_child_of_the_wrong_level_is_refused():
    store = Store()
    leaf = Node(0, [b"a"], [b"1"]).encode()
    store.put(leaf)
    root = Node(2, [b"a"], [leaf.cid]).encode()
    store.put(root)
    with pytest.raises(MalformedTable, match="level 0 where 1 belongs"):
        store.table(root.cid).lookup(b"a")


def test_error_of_the_store_passes_through():
    store = Store()
    table, _ = filled(store, 20000)
    lost = next(iter(store.blocks))
    del store.blocks[lost]
    with pytest.raises(KeyError):
        list(store.table(table.root).range())


def test_failed_write_leaves_the_version_readable():
    store = Store()
    table, entries = filled(store, 5000)

    def full(block):
        raise OSError("no room")

    broken = Table(table.root, store.get, full)
    with pytest.raises(OSError, match="no room"):
        broken.apply({key_of(1): b"new"})
    assert broken.lookup(key_of(1)) == entries[key_of(1)]


def test_mutated_nodes_raise_nothing_but_the_typed_error():
    rng = random.Random(20240607)
    store = Store()
    table, _ = filled(store, 3000)
    samples = [bytes(store.decode(table.root).encode().data), min(store.blocks.values(), key=len)]
    for _ in range(10_000):
        data = bytearray(rng.choice(samples))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(min(len(data), 400))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        try:
            node = table_node.decode(bytes(data))
        except MalformedTable:
            continue
        assert node.keys == sorted(set(node.keys))
        assert len(node.items) == len(node.keys)


# ------------------------------------------------------------------------------ properties

keys = st.one_of(
    st.integers(0, 300).map(key_of),
    st.binary(max_size=6),
)
values = st.one_of(st.binary(max_size=8), st.integers(0, 255).map(lambda n: bytes([n]) * 100))
changes = st.dictionaries(keys, st.one_of(st.none(), values), max_size=60)


class TableMachine(RuleBasedStateMachine):
    """Random histories; several versions stay alive and are compared with their models."""

    @initialize()
    def start(self):
        self.small = small_nodes()
        self.small.__enter__()
        self.store = Store()
        self.table = self.store.table()
        self.model: dict[bytes, bytes] = {}
        self.versions: list[tuple[bytes | None, dict[bytes, bytes]]] = [(None, {})]

    def teardown(self):
        if hasattr(self, "small"):
            self.small.__exit__(None, None, None)

    @rule(changes=changes)
    def apply(self, changes):
        for key, value in changes.items():
            if value is None:
                self.model.pop(key, None)
            else:
                self.model[key] = value
        self.table = self.table.at(self.table.apply(changes))
        assert_sound(self.store, self.table.root)
        self.versions.append((self.table.root, dict(self.model)))

    @rule(first=keys, last=keys)
    def delete_a_range(self, first, last):
        self.apply({key: None for key, _ in self.table.range(first, last)})

    @rule()
    def reopen(self):
        self.table = self.store.table(self.table.root)

    @rule(key=keys)
    def lookup(self, key):
        assert self.table.lookup(key) == self.model.get(key)

    @rule(first=keys, last=st.one_of(st.none(), keys))
    def range(self, first, last):
        expected = [
            (key, value)
            for key, value in sorted(self.model.items())
            if key >= first and (last is None or key < last)
        ]
        assert list(self.table.range(first, last)) == expected

    @rule(data=st.data())
    def diff(self, data):
        root, model = data.draw(st.sampled_from(self.versions))
        keys = {key for key, _ in set(self.model.items()) ^ set(model.items())}
        assert list(self.table.diff(self.store.table(root))) == sorted(keys)

    @invariant()
    def whole_content_is_the_model(self):
        if hasattr(self, "model"):
            assert dict(self.table.range()) == self.model


TestTableMachine = TableMachine.TestCase
TestTableMachine.settings = settings(max_examples=60, stateful_step_count=25)


@given(
    content=st.dictionaries(st.binary(max_size=12), st.binary(max_size=40), max_size=200),
    edits=st.dictionaries(st.binary(max_size=12), st.none() | st.binary(max_size=40), max_size=40),
)
def test_one_bulk_apply_equals_single_ones(content, edits):
    with small_nodes():
        store = Store()
        root = store.table().apply(content)
        bulk = store.table(store.table(root).apply(edits))
        for key, value in edits.items():
            root = store.table(root).apply({key: value})
        assert list(bulk.range()) == list(store.table(root).range())
        assert list(bulk.diff(store.table(root))) == []


@given(
    st.dictionaries(st.binary(max_size=300), st.binary(max_size=2000), min_size=1, max_size=30),
)
def test_node_survives_a_round_trip(entries):
    keys = sorted(entries)
    node = Node(0, keys, [entries[key] for key in keys])
    block = node.encode()
    again = table_node.decode(block.data)
    assert (again.level, again.keys, again.items) == (0, node.keys, node.items)
    assert Block.verify(block.cid, block.data) == block


# ------------------------------------------------------------------------------ the document

DOCUMENT = Path(__file__).parents[2] / "docs" / "formats" / "table.md"


def test_worked_example_of_the_document_is_what_we_write():
    leaf = Node(0, [b"e1", b"i1"], [b"one", b""]).encode()
    other = Node(0, [b"i2"], [b"two"]).encode()
    inner = Node(1, [b"e1", b"i2"], [leaf.cid, other.cid]).encode()
    examples = hex_examples(DOCUMENT)
    assert examples == [bytes(leaf.data), bytes(inner.data)]
    text = DOCUMENT.read_text()
    assert cids.to_text(leaf.cid) in text
    assert cids.to_text(inner.cid) in text


def test_limits_in_the_document_are_those_of_the_code():
    text = DOCUMENT.read_text()
    assert f"at most {table_node.KEY_SIZE_MAX_BYTES} " in text
    assert f"at most {table_node.VALUE_SIZE_MAX_BYTES} " in text
    assert f"0 … {table_node.LEVEL_MAX} " in text
    assert f"above {table_node.SPLIT_SIZE_BYTES >> 10} KiB" in text
    assert f"about {table_node.TARGET_SIZE_BYTES >> 10} KiB" in text
    assert f"less than {table_node.JOIN_SIZE_BYTES >> 10} KiB" in text
