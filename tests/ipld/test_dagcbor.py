"""dag-cbor: one encoding per value, links never confused with bytes, nothing lax accepted."""

import hashlib
import math

import libipld
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipld import dagcbor
from ipld.dagcbor import DEPTH_MAX, Link
from ipld.errors import InvalidCid, InvalidParameter, IpldError, MalformedCbor, TooDeep
from tests.ipld.fuzzing import fuzz

DIGEST = hashlib.sha256(b"x").digest()
CID = b"\x01\x71\x12\x20" + DIGEST
CID_V0 = b"\x12\x20" + DIGEST

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**64), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
)
links = st.builds(
    lambda prefix, digest: Link(prefix + digest),
    st.sampled_from([b"\x01\x55\x12\x20", b"\x01\x70\x12\x20", b"\x01\x71\x1b\x20", b"\x12\x20"]),
    st.binary(min_size=32, max_size=32),
)


def nested(leaves):
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(), inner, max_size=6),
        max_leaves=25,
    )


@given(nested(scalars | st.binary(max_size=300) | links))
def test_every_value_survives_a_round_trip(value):
    data = dagcbor.encode(value)
    assert dagcbor.decode(data) == value
    assert dagcbor.encode(dagcbor.decode(data)) == data


@given(nested(scalars.filter(lambda value: value != 0 or type(value) is not float)))
def test_values_without_bytes_are_written_as_libipld_writes_them(value):
    assert dagcbor.encode(value) == libipld.encode_dag_cbor(value)


@given(nested(links))
def test_links_are_read_as_libipld_reads_them(value):
    def plain(item):
        if isinstance(item, Link):
            return item.cid
        if isinstance(item, list):
            return [plain(child) for child in item]
        return {key: plain(child) for key, child in item.items()}

    assert libipld.decode_dag_cbor(dagcbor.encode(value)) == plain(value)


@given(st.binary(max_size=40))
def test_what_is_accepted_is_canonical(data):
    try:
        value = dagcbor.decode(data)
    except IpldError:
        return
    assert dagcbor.encode(value) == data


@pytest.mark.parametrize("data", [CID, CID_V0, b"\x01\x55\x00\x00"])
def test_bytes_that_look_like_a_cid_stay_bytes(data):
    """A user's bytes must neither keep a block alive nor make gc look for one."""
    encoded = dagcbor.encode({"value": data, "list": [data]})
    assert dagcbor.decode(encoded) == {"value": data, "list": [data]}
    assert list(dagcbor.links_of(dagcbor.decode(encoded))) == []


def test_links_come_in_the_order_of_the_encoding():
    cids = [CID[:-1] + bytes([index]) for index in range(4)]
    value = {"zz": Link(cids[2]), "b": [Link(cids[0]), {"x": Link(cids[1])}], "aaa": Link(cids[3])}
    decoded = dagcbor.decode(dagcbor.encode(value))
    assert list(dagcbor.links_of(decoded)) == cids
    assert list(dagcbor.links_of([Link(CID), CID, Link(CID)])) == [CID, CID]


def test_a_link_has_the_bytes_of_the_specification():
    assert dagcbor.encode(Link(CID)) == b"\xd8\x2a\x58\x25\x00" + CID


def test_tuples_and_views_are_written_as_lists_and_bytes():
    assert dagcbor.encode((1, bytearray(b"a"), memoryview(b"b"))) == dagcbor.encode([1, b"a", b"b"])


def test_negative_zero_keeps_its_sign():
    assert math.copysign(1, dagcbor.decode(dagcbor.encode(-0.0))) == -1


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "cut short"),
        ("18", "cut short"),
        ("1817", "shortest"),
        ("190001", "shortest"),
        ("1900ff", "shortest"),
        ("1a0000ffff", "shortest"),
        ("1b00000000ffffffff", "shortest"),
        ("5801", "shortest"),
        ("815801", "shortest"),
        ("8158", "cut short"),
        ("81581e", "cut short"),
        ("8143", "cut short"),
        ("f7", "simple"),
        ("f818", "simple"),
        ("f93e00", "simple"),
        ("fa3fc00000", "simple"),
        ("fb7ff8000000000000", "finite"),
        ("fb7ff0000000000000", "finite"),
        ("fb3ff8", "cut short"),
        ("5f4101ff", "indefinite"),
        ("9f00ff", "indefinite"),
        ("bfff", "indefinite"),
        ("ff", "simple"),
        ("1c", "reserved"),
        ("a2616201616102", "sorted"),
        ("a2616101616102", "unique"),
        ("a262616101616202", "sorted"),
        ("a10101", "strings"),
        ("a1", "longer"),
        ("9a7fffffff", "longer"),
        ("bb7fffffffffffffff", "longer"),
        ("5b7fffffffffffffff", "cut short"),
        ("6180", "UTF-8"),
        ("0000", "after"),
        ("c000", "tag"),
        ("d9002a00", "shortest"),
        ("d82a00", "tag"),
        ("d82a40", "zero"),
        ("d82a5825" + "01" + CID.hex(), "zero"),
    ],
)
def test_lax_encodings_are_refused(data, why):
    with pytest.raises(MalformedCbor, match=why):
        dagcbor.decode(bytes.fromhex(data))


@pytest.mark.parametrize("prefix", ["", "81"])
def test_a_link_to_something_that_is_no_cid_is_refused(prefix):
    with pytest.raises(InvalidCid):
        dagcbor.decode(bytes.fromhex(prefix + "d82a4400010203"))


@pytest.mark.parametrize(
    "value",
    [2**64, -(2**64) - 1, math.nan, math.inf, {1: 2}, "\ud800", {"\ud800": 1}, {1, 2}, object()],
)
def test_values_without_an_encoding_are_refused(value):
    with pytest.raises(InvalidParameter):
        dagcbor.encode(value)


def test_nesting_is_allowed_up_to_the_limit_and_refused_above_it():
    data = b"\x81" * DEPTH_MAX + b"\x00"
    assert dagcbor.encode(dagcbor.decode(data)) == data
    for bomb in (b"\x81" + data, b"\x81" * 1_000_000, b"\xa1\x61a" * 100_000):
        with pytest.raises(TooDeep):
            dagcbor.decode(bomb)
    value: list = []
    for _ in range(DEPTH_MAX):
        value = [value]
    with pytest.raises(InvalidParameter, match="deeper"):
        dagcbor.encode(value)


def test_mutated_blocks_raise_typed_errors_only():
    corpus = [
        dagcbor.encode({"list": [Link(CID), Link(CID_V0), CID], "n": -1, "f": 1.5, "s": "é" * 30}),
        dagcbor.encode(
            [[bytes(range(40))] * 3, [Link(CID)] * 3, {"a": {"b": [None, True, 2**40]}}]
        ),
    ]

    def parse(data: bytes) -> None:
        value = dagcbor.decode(data)
        assert dagcbor.encode(value) == data
        list(dagcbor.links_of(value))

    assert fuzz(parse, corpus) > 100
