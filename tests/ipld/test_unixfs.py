"""UnixFS records: field by field, strict, and with the metadata of version 1.5."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipld import unixfs
from ipld.errors import InvalidParameter, MalformedUnixfs
from ipld.unixfs import Attributes, Data, Kind
from tests.ipld.fuzzing import fuzz

numbers = st.integers(0, 2**63)
mtimes = st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(0, 999_999_999))
records = st.builds(
    Data,
    st.sampled_from(Kind),
    st.none() | st.binary(max_size=40),
    st.none() | numbers,
    st.lists(st.sampled_from((262144, 262144, 0, 7, 2**40)), max_size=12).map(tuple),
    st.none() | numbers,
    st.none() | numbers,
    st.none() | st.integers(0, 2**32 - 1),
    st.none() | mtimes,
)


@given(records)
def test_a_decoded_record_is_what_was_encoded(record):
    assert unixfs.decode(unixfs.encode(record)) == record


@given(records, st.binary(max_size=5))
def test_a_record_inside_a_block_is_found_with_its_content(record, around):
    encoded = unixfs.encode(record)
    block = around + encoded + around
    found, start = unixfs.decode_span(block, len(around), len(around) + len(encoded))
    assert found == record
    if record.content:
        assert block[start : start + len(record.content)] == record.content


@pytest.mark.parametrize(
    ("record", "encoded"),
    [
        (unixfs.file(b""), "08021800"),
        (unixfs.file(b"hi"), "080212026869 1802"),
        (unixfs.file(b"", [3, 3, 1]), "08021807200320032001"),
        (Data(Kind.DIRECTORY), "0801"),
        (Data(Kind.SYMLINK, b"to"), "080412 02746f"),
        (Data(Kind.HAMT_SHARD, b"\x80", hash_type=0x22, fanout=256), "0805120180 2822 308002"),
        (Data(Kind.DIRECTORY, mode=0o755, mtime=(1, 0)), "0801 38ed03 42020801"),
        (Data(Kind.DIRECTORY, mtime=(-1, 5)), "0801 4210 08ffffffffffffffffff01 1505000000"),
        (Data(Kind.DIRECTORY, mtime=(0, 999_999_999)), "0801 4207 0800 15ffc99a3b"),
    ],
    ids=str,
)
def test_known_bytes(record, encoded):
    assert unixfs.encode(record) == bytes.fromhex(encoded)


@pytest.mark.parametrize(
    ("what", "encoded"),
    [
        ("no type", ""),
        ("no type", "1800"),
        ("unknown type", "0806"),
        ("type twice", "08020802"),
        ("filesize before type", "18000802"),
        ("blocksizes before filesize", "080220051805"),
        ("mode before fanout", "0805 3801 3008"),
        ("unknown field", "0802 4801"),
        ("blocksizes packed", "0802 1805 220105"),
        ("data as a number", "0802 1000"),
        ("filesize as bytes", "0802 1a0100"),
        ("cut number", "080218"),
        ("cut content", "08021205aa"),
        ("filesize twice", "080218001800"),
        ("mode of 33 bits", "0801 38 8080808010"),
        ("mtime without seconds", "0801 4200"),
        ("mtime with a fraction only", "0801 4205 1505000000"),
        ("mtime with a fraction of 0", "0801 4207 0801 1500000000"),
        ("mtime with a fraction of a second and more", "0801 4207 0801 1500ca9a3b"),
        ("mtime with a cut fraction", "0801 4206 0801 15000000"),
        ("mtime with something after it", "0801 4208 0801 1505000000 00"),
        ("mtime beyond the record", "0801 4209 0801"),
        ("number of more than 64 bits", "0802 18ffffffffffffffffff03"),
    ],
)
def test_malformed_records_are_refused(what, encoded):
    with pytest.raises(MalformedUnixfs):
        unixfs.decode(bytes.fromhex(encoded))


def test_a_node_without_data_has_no_record():
    with pytest.raises(MalformedUnixfs):
        unixfs.decode(None)


@pytest.mark.parametrize(
    ("record", "link_count"),
    [
        (Data(Kind.FILE, None, 6, (3, 3)), 1),
        (Data(Kind.FILE, None, 6, (3, 3)), 3),
        (Data(Kind.FILE, None, 6), 2),
        (Data(Kind.FILE, None, 7, (3, 3)), 2),
        (Data(Kind.RAW, b"abc", 4), 0),
        (Data(Kind.FILE, b"abc", 6, (3, 3)), 2),
    ],
    ids=str,
)
def test_file_sizes_that_disagree_are_refused(record, link_count):
    with pytest.raises(MalformedUnixfs):
        unixfs.decode_file(unixfs.encode(record), link_count)


def test_an_absent_filesize_is_filled_in():
    record = unixfs.decode_file(unixfs.encode(Data(Kind.FILE, b"abc", None, (3, 4))), 2)
    assert record.filesize == 10
    directory = Data(Kind.DIRECTORY)
    assert unixfs.decode_file(unixfs.encode(directory), 5) == directory


class TestAttributes:
    def test_the_upper_bits_of_a_mode_survive_a_rewrite(self):
        record = Data(Kind.FILE, filesize=0, mode=0x81234000 | 0o644)
        changed = record.with_attributes(Attributes(0o600))
        assert changed.mode == 0x81234000 | 0o600
        assert changed.attributes == Attributes(0o600, None)

    def test_a_mode_of_zero_is_not_written(self):
        assert unixfs.encode(unixfs.file(b"", attributes=Attributes(0))) == unixfs.encode(
            unixfs.file(b"")
        )

    def test_a_symlink_keeps_its_mtime_only(self):
        link = Data(Kind.SYMLINK, b"x").with_attributes(Attributes(0o777, (5, 0)))
        assert link.attributes == Attributes(None, (5, 0))

    def test_none_removes_them(self):
        record = Data(Kind.DIRECTORY, mode=0o755, mtime=(1, 1))
        assert record.with_attributes(None) == Data(Kind.DIRECTORY)
        assert Data(Kind.DIRECTORY).attributes is None

    @pytest.mark.parametrize(
        "attributes",
        [
            Attributes(0o10000),
            Attributes(-1),
            Attributes(None, (0, 10**9)),
            Attributes(None, (0, -1)),
            Attributes(None, (2**63, 0)),
        ],
        ids=str,
    )
    def test_values_outside_their_limits_are_refused(self, attributes):
        with pytest.raises(InvalidParameter):
            Data(Kind.FILE).with_attributes(attributes)


def test_fuzzed_records_raise_typed_errors_only():
    corpus = [
        unixfs.encode(unixfs.file(b"", [262144] * 9 + [5], Attributes(0o644, (10**9, 7)))),
        unixfs.encode(unixfs.file(b"some content")),
        unixfs.encode(Data(Kind.HAMT_SHARD, b"\x01\x80", hash_type=0x22, fanout=256)),
        unixfs.encode(Data(Kind.SYMLINK, b"target", mtime=(-5, 1))),
    ]

    def parse(data: bytes) -> None:
        record = unixfs.decode(data)
        assert unixfs.decode(unixfs.encode(record)) == record

    assert fuzz(parse, corpus) > 50
