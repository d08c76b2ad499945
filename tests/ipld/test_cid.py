"""CIDs: text and bytes in both directions, against a second implementation, and nothing else."""

import hashlib

import multiformats
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ipld import cid as cids
from ipld import multihash
from ipld.errors import IdentityTooLong, InvalidCid, InvalidParameter, IpldError, UnsupportedHash
from tests.ipld.fuzzing import fuzz

SHA2 = multihash.digest_multihash("sha2-256", b"hello world")
V0 = "QmaozNR7DZHQK1ZcU9p7QdrshMvXqWK6gpu5rmrkPdT3L4"
V1 = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
V1_BYTES = bytes.fromhex("01551220") + hashlib.sha256(b"hello world").digest()
BASES = [
    "base2", "base10", "base16", "base16upper", "base32", "base32upper", "base32hex", "base32z",
    "base36", "base58btc", "base58flickr", "base64", "base64url", "base64urlpad",
]  # fmt: skip

multihashes = st.builds(
    multihash.digest_multihash,
    st.sampled_from(("sha2-256", "sha2-512", "blake3", "blake2b-160", "identity", "sha1")),
    st.binary(max_size=100),
)
valid_cids = st.one_of(
    st.builds(cids.make, st.just(1), st.sampled_from((0x55, 0x70, 0x71, 0x72, 0x129)), multihashes),
    st.builds(lambda data: multihash.digest_multihash("sha2-256", data), st.binary(max_size=9)),
)


@given(valid_cids)
def test_text_and_bytes_are_each_others_inverse(cid):
    assert cids.parse(cids.to_text(cid)) == cid


@given(valid_cids)
def test_parts_make_the_same_cid(cid):
    parts = cids.decode(cid)
    assert cids.make(*parts) == cid
    assert (parts.codec, parts.multihash) == (cids.codec_of(cid), cids.multihash_of(cid))


@given(valid_cids)
def test_a_second_implementation_writes_the_same_text(cid):
    other = multiformats.CID.decode(cid)
    written = str(other) if other.version == 0 else other.encode("base32")
    assert written == cids.to_text(cid)
    assert (other.version, other.codec.code) == cids.decode(cid)[:2]


@pytest.mark.parametrize("base", BASES)
def test_every_base_that_the_other_implementation_writes_is_read(base):
    text = multiformats.CID.decode(V1_BYTES).set(base=base).encode()
    assert cids.parse(text) == V1_BYTES


def test_known_texts():
    assert cids.to_text(cids.parse(V0)) == V0
    assert cids.to_text(V1_BYTES) == V1
    name = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8"
    assert cids.codec_of(cids.parse(name)) == cids.LIBP2P_KEY


@given(valid_cids, st.binary(max_size=5), st.binary(max_size=5))
def test_a_prefix_is_read_out_of_a_larger_buffer(cid, before, after):
    buffer = before + cid + after
    for view in (buffer, memoryview(buffer)):
        assert cids.read_prefix(view, len(before)) == (cid, len(before) + len(cid))


@given(valid_cids, st.data())
def test_a_cut_cid_is_refused(cid, data):
    with pytest.raises((InvalidCid, UnsupportedHash)):
        cids.decode(cid[: data.draw(st.integers(0, len(cid) - 1))])


@given(valid_cids)
def test_bytes_after_a_cid_are_refused(cid):
    with pytest.raises(InvalidCid):
        cids.decode(cid + b"\0")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "z",
        "Qm",
        V0[:-1],
        V0 + "1",
        "z" + V0,
        "Q" + V0[1:-1] + "0",
        V1[:-1],
        V1 + "a",
        " " + V1,
        V1 + "\n",
        "!" + V1[1:],
        "bafkrei" + "é" * 52,
        "b" * 5000,
        "İ",
    ],
)
def test_text_that_is_no_cid_is_refused(text):
    with pytest.raises(IpldError):
        cids.parse(text)


@pytest.mark.parametrize(
    ("hex_bytes", "error"),
    [
        ("", InvalidCid),
        ("01", InvalidCid),
        ("0155", InvalidCid),
        ("015512", InvalidCid),
        ("00551220" + "00" * 32, InvalidCid),
        ("02551220" + "00" * 32, InvalidCid),
        ("81005512 20" + "00" * 32, InvalidCid),
        ("01d500 1220" + "00" * 32, InvalidCid),
        ("0155ffffffffffffffffff7f20" + "00" * 32, InvalidCid),
        ("01551120" + "00" * 32, UnsupportedHash),
        ("01551210" + "00" * 16, UnsupportedHash),
        ("0155d50110" + "00" * 16, UnsupportedHash),
        ("01550081 01" + "00" * 129, IdentityTooLong),
        ("1220" + "00" * 31, InvalidCid),
        ("1221" + "00" * 33, InvalidCid),
    ],
)
def test_bytes_that_are_no_cid_are_refused(hex_bytes, error):
    with pytest.raises(error):
        cids.decode(bytes.fromhex(hex_bytes))


def test_version_0_is_for_dag_pb_and_sha2_256_only():
    for codec, digest in ((cids.RAW, SHA2), (cids.DAG_PB, SHA2[:-1]), (cids.DAG_PB, b"\0\0")):
        with pytest.raises(InvalidParameter):
            cids.make(0, codec, digest)
    with pytest.raises(InvalidParameter):
        cids.make(2, cids.RAW, SHA2)


def test_version_0_becomes_dag_pb_in_version_1():
    assert cids.to_v1(cids.parse(V0)) == b"\x01\x70" + cids.parse(V0)
    assert cids.to_v1(V1_BYTES) == V1_BYTES


@given(st.binary(max_size=128))
@example(b"")
def test_identity_cids_carry_their_content(content):
    cid = cids.make(1, cids.RAW, multihash.digest_multihash("identity", content))
    assert cids.is_identity(cid)
    assert cids.identity_data(cid) == content


def test_other_cids_carry_none():
    assert not cids.is_identity(V1_BYTES)
    assert not cids.is_identity(cids.parse(V0))
    with pytest.raises(InvalidParameter):
        cids.identity_data(V1_BYTES)


def test_fuzzed_bytes_raise_typed_errors_only():
    corpus = [V1_BYTES, cids.parse(V0), bytes.fromhex("0155000568656c6c6f")]

    def parse(data: bytes) -> None:
        cid, end = cids.read_prefix(data, 0)
        assert cids.make(*cids.decode(cid)) == cid == data[:end]

    fuzz(parse, corpus)


def test_fuzzed_text_raises_typed_errors_only():
    def parse(data: bytes) -> None:
        cid = cids.parse(data.decode("latin-1"))
        assert cids.parse(cids.to_text(cid)) == cid

    fuzz(parse, [V0.encode(), V1.encode(), b"zdj7WWeQ43G6JJvLWQWZpyHuAMq6uYWRjkBXFad11vE2LHhQ7"])
