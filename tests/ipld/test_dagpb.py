"""dag-pb: canonical out, strict in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipld import cid as cids
from ipld import dagpb
from ipld.dagpb import Link
from ipld.errors import MalformedDagPb
from tests.ipld.fuzzing import fuzz

RAW_CID = bytes.fromhex("01551220") + bytes(range(32))
V0_CID = bytes.fromhex("1220") + bytes(range(32))
INLINE_CID = bytes.fromhex("0155000568656c6c6f")

some_cids = st.one_of(
    st.sampled_from((RAW_CID, V0_CID, INLINE_CID)),
    st.binary(min_size=32, max_size=32).map(lambda digest: b"\x01\x70\x12\x20" + digest),
)
some_links = st.builds(
    Link,
    some_cids,
    st.one_of(st.just(b""), st.binary(max_size=6), st.binary(min_size=60, max_size=200)),
    st.one_of(st.integers(0, 300), st.integers(0, 2**63)),
)
file_links = st.lists(
    st.builds(Link, st.just(RAW_CID), st.just(b""), st.sampled_from((262158, 262158, 9))),
    max_size=9,
)


def field(tag: int, content: bytes) -> bytes:
    return bytes((tag, len(content))) + content


def link(*fields: bytes) -> bytes:
    return field(0x12, b"".join(fields))


HASH, NAME, TSIZE = field(0x0A, RAW_CID), field(0x12, b"name"), b"\x18\x07"


@given(st.one_of(st.lists(some_links, max_size=9), file_links), st.none() | st.binary(max_size=300))
def test_a_decoded_node_is_what_was_encoded_with_its_links_sorted(links, data):
    expected = sorted(links, key=lambda entry: entry.name)
    assert dagpb.decode(dagpb.encode(links, data)) == (expected, data)


@given(st.lists(some_links, max_size=9), st.none() | st.binary(max_size=30))
def test_links_are_encoded_one_by_one(links, data):
    """The fast paths for runs of equal links against the definition."""

    def varint(value: int) -> bytes:
        out = b""
        while value > 127:
            out, value = out + bytes((value & 127 | 128,)), value >> 7
        return out + bytes((value,))

    expected = b""
    for cid, name, tsize in sorted(links, key=lambda entry: entry.name):
        body = b"\x0a" + varint(len(cid)) + cid + b"\x12" + varint(len(name)) + name
        body += b"\x18" + varint(tsize)
        expected += b"\x12" + varint(len(body)) + body
    if data is not None:
        expected += b"\x0a" + varint(len(data)) + data
    assert dagpb.encode(links, data) == expected


@given(st.lists(some_links, max_size=9))
def test_links_with_equal_names_keep_their_order(links):
    named = [entry._replace(name=b"same") for entry in links]
    assert dagpb.decode(dagpb.encode(named, None)).links == named


def test_unsorted_links_are_read_as_they_stand():
    block = link(HASH, field(0x12, b"z"), TSIZE) + link(HASH, field(0x12, b"a"), TSIZE)
    assert [entry.name for entry in dagpb.decode(block).links] == [b"z", b"a"]


def test_an_absent_field_is_not_an_empty_one():
    assert dagpb.decode(b"") == ([], None)
    assert dagpb.decode(b"\x0a\x00") == ([], b"")
    assert dagpb.encode((), None) == b""
    assert dagpb.encode((), b"") == b"\x0a\x00"


def test_name_and_tsize_may_be_absent_when_read():
    assert dagpb.decode(link(HASH)).links == [Link(RAW_CID, b"", 0)]
    assert dagpb.decode(link(HASH, TSIZE)).links == [Link(RAW_CID, b"", 7)]
    assert dagpb.decode(link(HASH, NAME)).links == [Link(RAW_CID, b"name", 0)]


def test_an_empty_name_is_always_written():
    assert dagpb.encode([(RAW_CID, b"", 7)], None) == link(HASH, b"\x12\x00", TSIZE)


def test_data_before_links_is_read_because_such_blocks_exist():
    block = field(0x0A, b"data") + link(HASH, NAME, TSIZE)
    assert dagpb.decode(block) == ([Link(RAW_CID, b"name", 7)], b"data")
    assert dagpb.only_data(block) is None


@pytest.mark.parametrize("count", [1, 2, 3, 174])
def test_a_long_file_node_is_read_like_a_short_one(count):
    links = [Link(b"\x12\x20" + bytes([n]) * 32, b"", 262158 + n // 100) for n in range(count)]
    links[-1] = links[-1]._replace(tsize=3)
    assert dagpb.decode(dagpb.encode(links, b"data")).links == links


@pytest.mark.parametrize(
    ("what", "block"),
    [
        ("link without fields", "1200"),
        ("data, and a link without a CID", "12000a050001020304"),
        ("link with an empty CID", "12020a00"),
        ("link with an empty name only", "12021200"),
        ("link with a name only", "120b1209736f6d65206e616d65"),
        ("link with a size only", "120318f207"),
        ("unknown field", "1a00"),
        ("data as a number", "0801"),
        ("link as a number", "1001"),
        ("cut length", "0a"),
        ("cut data", "0a05aabb"),
        ("length of ten bytes and more", "0affffffffffffffffffff01"),
        ("data twice", "0a01aa0a01bb"),
        ("a group", "0b0c"),
    ],
)
def test_malformed_nodes_are_refused(what, block):
    with pytest.raises(MalformedDagPb):
        dagpb.decode(bytes.fromhex(block))


@pytest.mark.parametrize(
    "fields",
    [
        (NAME, HASH, TSIZE),
        (HASH, TSIZE, NAME),
        (TSIZE, HASH),
        (HASH, HASH),
        (HASH, NAME, NAME),
        (HASH, TSIZE, TSIZE),
        (HASH, NAME, TSIZE, b"\x20\x01"),
        (HASH, b"\x10\x01"),
        (field(0x0A, RAW_CID[:-1]),),
        (field(0x0A, RAW_CID + b"\0"),),
        (field(0x0A, b"\x01\x55\x11\x20" + bytes(32)),),
        (field(0x0A, b"\x01\x55\x00\x81\x01" + bytes(129)),),
    ],
    ids=range(12),
)
def test_links_with_fields_out_of_place_are_refused(fields):
    with pytest.raises(MalformedDagPb):
        dagpb.decode(link(*fields))
    with pytest.raises(MalformedDagPb):
        dagpb.decode(link(HASH, NAME, TSIZE) + link(*fields))


def test_links_on_both_sides_of_the_data_are_refused():
    one = link(HASH, b"\x12\x00", TSIZE)
    for block in (one + field(0x0A, b"") + one, one + one + field(0x0A, b"d") + one):
        with pytest.raises(MalformedDagPb):
            dagpb.decode(block)


def test_every_cut_of_a_node_is_refused_or_shorter():
    block = dagpb.encode([(RAW_CID, b"", 300)] * 4, b"data")
    whole = dagpb.decode(block)
    for size in range(len(block)):
        try:
            node = dagpb.decode(block[:size])
        except MalformedDagPb:
            continue
        assert node.data is None
        assert node.links == whole.links[: len(node.links)]


@given(st.binary(max_size=40))
def test_the_data_of_a_leaf_is_found_without_a_copy(data):
    block = dagpb.encode((), data)
    span = dagpb.only_data(block)
    assert span is not None
    assert block[slice(*span)] == data


def test_a_block_with_more_than_data_is_no_leaf():
    for block in (b"", b"\x0a", b"\x0a\x02a", b"\x0a\x01ab", link(HASH), b"\x0a" + b"\xff" * 11):
        assert dagpb.only_data(block) is None


def test_fuzzed_nodes_raise_typed_errors_only():
    corpus = [
        dagpb.encode([(RAW_CID, b"", 262158)] * 5 + [(RAW_CID, b"", 4)], b"\x08\x02\x18\x05"),
        dagpb.encode([(V0_CID, b"", 262158)] * 3, b"\x08\x02"),
        dagpb.encode([(INLINE_CID, b"a", 5), (RAW_CID, b"b" * 130, 2**40)], None),
    ]

    def parse(data: bytes) -> None:
        node = dagpb.decode(data)
        again = dagpb.decode(dagpb.encode(node.links, node.data))
        assert again.data == node.data
        assert sorted(again.links) == sorted(node.links)
        for entry in node.links:
            assert cids.decode(entry.cid)

    assert fuzz(parse, corpus) > 50
