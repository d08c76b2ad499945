"""The bytes of rows, heads and journal records: what comes back, and what hostile bytes do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipld import dagcbor
from ipld.errors import IpldError
from ipld.filedag import FileLink
from ipld.profile import UNIXFS_V0_2015
from mfs import heads, journal, records
from mfs.errors import DataError, JournalDamaged, NewerFormat, SidecarDamaged
from mfs.heads import Head
from mfs.node import InodeRecord
from mfs.state import Totals
from repo.refs import Ref
from tests.mfs.worlds import TINY, model_cid

CID = model_cid({}, TINY)
u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
i64 = st.integers(-(2**63), 2**63 - 1)
small = st.binary(max_size=20)
inodes = st.builds(
    InodeRecord,
    mode=u32,
    uid=u32,
    gid=u32,
    nlink=u32,
    rdev=u64,
    size=u64,
    atime_ns=i64,
    mtime_ns=i64,
    ctime_ns=i64,
    parent=u64,
    name=small,
    target=small,
    xattrs=st.lists(st.tuples(small, small), max_size=3).map(tuple),
    link=st.none() | st.builds(FileLink, st.just(CID), u64, i64),
    flags=st.integers(0, 255),
)


@given(inodes)
def test_an_inode_record_comes_back(record):
    assert records.decode_inode(records.encode_inode(record)) == record


@given(st.binary(max_size=200))
def test_any_bytes_are_an_inode_record_or_a_typed_error(data):
    try:
        records.decode_inode(data)
    except DataError:
        return


@given(inodes, st.data())
def test_a_flipped_byte_in_an_inode_record_gives_a_record_or_a_typed_error(record, data):
    encoded = bytearray(records.encode_inode(record))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert isinstance(records.decode_inode(bytes(encoded)), InodeRecord)
    except DataError:
        return


@pytest.mark.parametrize(
    "fields",
    [
        [],
        ["1"],
        [1],
        [1, b"", b"", b"", b"", []],
        [1, bytes(97), b"", b"", b"", [b"odd"]],
        [1, bytes(97), b"", b"", b"", [b"a", 1]],
        {"no": "list"},
    ],
)
def test_other_values_are_no_inode_record(fields):
    with pytest.raises(SidecarDamaged):
        records.decode_inode(dagcbor.encode(fields))


def test_a_record_of_a_later_version_says_so():
    with pytest.raises(NewerFormat):
        records.decode_inode(dagcbor.encode([2, "whatever"]))
    with pytest.raises(NewerFormat):
        list(journal.decode_batches(iter([dagcbor.encode([2, "whatever"])])))


@given(u64, st.integers(0, 15))
def test_an_entry_comes_back(ino, kind):
    assert records.decode_entry(records.encode_entry(ino, kind)) == (ino, kind)


def test_an_entry_of_another_length_is_damaged():
    with pytest.raises(SidecarDamaged):
        records.decode_entry(b"12345678")


def test_rows_of_a_directory_are_together_and_in_order_of_name():
    names = [b"", b"\0", b"a", b"a\0", b"b", b"\xff" * 255]
    keys = [records.ENTRIES + records.number(7) + name for name in names]
    assert keys == sorted(keys)
    assert keys[-1] < records.ENTRIES + records.number(8)


# ---------------------------------------------------------------------------------- head


head_values = st.builds(
    Head,
    root_id=st.integers(1, 65535),
    origin=st.binary(min_size=16, max_size=16),
    generation=st.integers(0, 1000),
    profile=st.sampled_from([TINY, UNIXFS_V0_2015]),
    cid=st.just(CID),
    dag_size_bytes=u64,
    table=st.none() | st.just(CID),
    totals=st.builds(Totals, u64, u64, u64),
    journal_seq=u64,
    created_ns=i64,
    changed_ns=i64,
    quota_bytes=st.none() | u64,
    history=st.lists(st.tuples(i64, st.just(CID)), max_size=64).map(tuple),
)


@given(head_values)
def test_a_head_comes_back_and_fits_into_a_ref(head):
    record = head.to_ref().encode()
    assert heads.from_ref("x", Ref.decode("x", record)) == head
    assert len(record) < 8000


@given(head_values, st.data())
def test_a_head_without_a_field_or_with_another_type_is_damaged(head, data):
    ref = head.to_ref()
    field = data.draw(st.sampled_from(sorted(ref.data.keys())))
    without = {name: value for name, value in ref.data.items() if name != field}
    for fields in (without, {**without, field: b"other"}, {**without, field: ["x"]}):
        if field == "origin" and fields.get(field) == b"other":
            continue
        with pytest.raises(DataError):
            heads.from_ref("x", Ref(ref.links, fields))
    with pytest.raises(DataError):
        heads.from_ref("x", Ref((), ref.data))


# ------------------------------------------------------------------------------- journal

items = st.one_of(
    st.tuples(st.just(journal.TOTALS), u64, u64, u64),
    st.tuples(st.just(journal.ROW), small, st.none() | small),
    st.tuples(st.just(journal.CUT), u64, u64),
    st.tuples(st.just(journal.LEAF), u64, u64, st.just(dagcbor.Link(CID)), u64, u64, u64),
    st.tuples(st.just(journal.BYTES), u64, u64, st.binary(max_size=2000)),
).map(list)
batches = st.lists(items, max_size=12)


@given(st.lists(batches, max_size=4), st.integers(50, 1000))
def test_batches_come_back_in_order(contents, size):
    full, journal.RECORD_SIZE_BYTES = journal.RECORD_SIZE_BYTES, size
    try:
        stored = [
            record
            for seq, batch in enumerate(contents)
            for record in journal.encode_batch(seq, batch)
        ]
    finally:
        journal.RECORD_SIZE_BYTES = full
    assert list(journal.decode_batches(iter(stored))) == list(enumerate(contents))


@given(st.lists(batches, min_size=1, max_size=3), st.data())
def test_a_batch_without_its_end_is_passed_over(contents, data):
    full, journal.RECORD_SIZE_BYTES = journal.RECORD_SIZE_BYTES, 100
    try:
        parts = [list(journal.encode_batch(seq, batch)) for seq, batch in enumerate(contents)]
    finally:
        journal.RECORD_SIZE_BYTES = full
    cut = data.draw(st.integers(0, len(parts) - 1))
    whole = [(seq, batch) for seq, batch in enumerate(contents) if seq != cut]
    keep = data.draw(st.integers(0, len(parts[cut]) - 1))
    parts[cut] = parts[cut][:keep]
    stored = [record for part in parts for record in part]
    assert list(journal.decode_batches(iter(stored))) == whole


@given(st.lists(st.binary(max_size=60), max_size=3))
def test_any_bytes_are_journal_records_or_a_typed_error(stored):
    try:
        list(journal.decode_batches(iter(stored)))
    except (DataError, IpldError) as error:
        assert isinstance(error, DataError)


@pytest.mark.parametrize(
    "item",
    [
        [],
        ["row"],
        [9, 1, 1, 1],
        [journal.ROW, b"key"],
        [journal.ROW, "key", None],
        [journal.CUT, 1, b"2"],
        [journal.CUT, 1, 2, 3],
        [journal.BYTES, 1, 2, 3],
        {"no": "list"},
    ],
)
def test_other_items_are_damage(item):
    record = dagcbor.encode([1, 5, 0, True, [item]])
    with pytest.raises(JournalDamaged):
        list(journal.decode_batches(iter([record])))


@given(inodes)
def test_an_inode_record_is_strict_dag_cbor(record):
    encoded = records.encode_inode(record)
    assert dagcbor.encode(dagcbor.decode(encoded)) == encoded


@pytest.mark.parametrize("size", [0, 23, 24, 255])
def test_names_of_all_lengths_are_strict_dag_cbor(size):
    record = InodeRecord(0, 0, 0, 1, 0, 0, 0, 0, 0, 1, b"n" * size, b"t" * (size * 16), (), None, 0)
    encoded = records.encode_inode(record)
    assert dagcbor.encode(dagcbor.decode(encoded)) == encoded
    assert records.decode_inode(encoded) == record
