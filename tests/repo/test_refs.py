"""Refs: names for DAGs, set together, and never read wrong."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipld import cid as cids
from ipld import dagcbor
from ipld.dagcbor import Link
from repo.errors import InvalidRefName, RefDamaged, RefNotFound, RefTooLarge
from repo.refs import NAME_SIZE_MAX_BYTES, RECORD_SIZE_MAX_BYTES, Ref
from repo.service import Repo
from tests.suites.blocks_suite import blocks_of
from tests.suites.documents import hex_examples

CIDS = tuple(block.cid for block in blocks_of(4))


@pytest.fixture
def refs():
    return Repo.in_memory().refs


def test_ref_comes_back_as_it_was_set(refs):
    ref = Ref(links=CIDS[:2], direct=CIDS[2:], data={"created": 5, "profile": {"a": [1, None]}})
    refs.update({"root/main": ref})
    assert refs.get("root/main") == ref
    assert refs.require("root/main") == ref


def test_missing_ref_is_none_or_an_error_that_names_it(refs):
    assert refs.get("root/none") is None
    with pytest.raises(RefNotFound, match="root/none"):
        refs.require("root/none")


def test_update_sets_replaces_and_removes_together(refs):
    refs.update({"a": Ref(data={"n": 1}), "b": Ref()})
    refs.update({"a": Ref(data={"n": 2}), "b": None, "c": Ref()})
    assert [name for name, _ in refs.list()] == ["a", "c"]
    assert refs.require("a").data == {"n": 2}


def test_list_is_by_prefix_and_sorted(refs):
    refs.update({name: Ref() for name in ("root/b", "snapshot/b/1", "root/a", "rootless")})
    assert [name for name, _ in refs.list("root/")] == ["root/a", "root/b"]
    assert len(refs.list()) == 4


def test_bytes_in_the_data_that_look_like_a_cid_are_no_link(refs):
    refs.update({"a": Ref(data={"raw": CIDS[0]})})
    ref = refs.require("a")
    assert ref.links == ()
    assert ref.data == {"raw": CIDS[0]}


def test_names_may_hold_any_text(refs):
    for name in ("root/Ünï 🙂", "x" * NAME_SIZE_MAX_BYTES, " ", "a\nb"):
        refs.update({name: Ref(data={"name": name})})
        assert refs.require(name).data["name"] == name


@pytest.mark.parametrize("name", ["", "a\0b", "x" * (NAME_SIZE_MAX_BYTES + 1), "\ud800"])
def test_impossible_name_is_refused_and_nothing_is_set(refs, name):
    with pytest.raises(InvalidRefName):
        refs.update({"good": Ref(), name: Ref()})
    with pytest.raises(InvalidRefName):
        refs.get(name)
    assert refs.list() == []


def test_record_beyond_the_limit_is_refused_and_nothing_is_set(refs):
    with pytest.raises(RefTooLarge, match="limit"):
        refs.update({"good": Ref(), "large": Ref(data={"x": bytes(RECORD_SIZE_MAX_BYTES)})})
    assert refs.list() == []


FIELDS = {"version": 1, "links": [Link(CIDS[0])], "direct": [], "data": {}}


@pytest.mark.parametrize(
    ("fault", "record", "message"),
    [
        ("no dag-cbor", b"\xff\xff", "ref a"),
        ("empty", b"", "ref a"),
        ("a list", dagcbor.encode([1]), "not a ref record"),
        ("no version", dagcbor.encode({"links": []}), "not a ref record"),
        ("newer version", dagcbor.encode({**FIELDS, "version": 2}), "newer"),
        ("a field too many", dagcbor.encode({**FIELDS, "more": 1}), "fields"),
        ("a field missing", dagcbor.encode({"version": 1, "links": []}), "fields"),
        ("links are bytes", dagcbor.encode({**FIELDS, "links": [CIDS[0]]}), "no links"),
        ("links are a map", dagcbor.encode({**FIELDS, "links": {}}), "no links"),
        ("data is a list", dagcbor.encode({**FIELDS, "data": []}), "no map"),
    ],
)
def test_damaged_record_is_refused(fault, record, message):
    with pytest.raises(RefDamaged, match=message):
        Ref.decode("a", record)


def test_damaged_ref_is_reported_by_name_in_a_list():
    repo = Repo.in_memory()
    repo.refs.update({"root/good": Ref()})
    repo._backend.names.set_names({b"root/bad": b"\xff"})
    with pytest.raises(RefDamaged, match="root/bad"):
        repo.refs.list()
    assert repo.refs.get("root/good") == Ref()


def test_mutated_records_raise_nothing_but_the_typed_error():
    rng = random.Random(7)
    sample = Ref(links=CIDS, direct=CIDS[:1], data={"a": [1, {"b": b"c"}]}).encode()
    for _ in range(10_000):
        record = bytearray(sample)
        for _ in range(rng.randint(1, 4)):
            record[rng.randrange(len(record))] = rng.randrange(256)
        if rng.random() < 0.2:
            del record[rng.randrange(len(record)) :]
        try:
            ref = Ref.decode("x", bytes(record))
        except RefDamaged:
            continue
        assert all(isinstance(cid, bytes) for cid in ref.links + ref.direct)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.binary() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(
    links=st.lists(st.sampled_from(CIDS)),
    direct=st.lists(st.sampled_from(CIDS)),
    data=st.dictionaries(st.text(), json_like, max_size=5),
)
def test_any_ref_survives_a_round_trip(links, direct, data):
    ref = Ref(tuple(links), data, tuple(direct))
    assert Ref.decode("x", ref.encode()) == ref


def test_worked_example_of_the_document_is_what_we_write():
    document = Path(__file__).parents[2] / "docs" / "formats" / "refs.md"
    (example,) = hex_examples(document)
    cid = cids.parse("bafyreidffez3zq5bmfuuzcaulqjevazt5yw25avrdfhixxstghfbzwf4qi")
    assert Ref(links=(cid,), data={"name": "x"}).encode() == example
    assert str(NAME_SIZE_MAX_BYTES) in document.read_text()
    assert str(RECORD_SIZE_MAX_BYTES) in document.read_text()
