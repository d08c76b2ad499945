"""Multihashes: the allow-list, its lengths, and the functions against other implementations."""

import hashlib

import blake3
import multiformats
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipld import multihash
from ipld.errors import IdentityTooLong, InvalidCid, InvalidParameter, UnsupportedHash

HASHING = [function for function in multihash.FUNCTIONS if function.name != "identity"]
KECCAK = {
    ("keccak-256", b""): "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470",
    ("keccak-256", b"abc"): "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45",
    ("keccak-224", b""): "f71837502ba8e10837bdd8d365adb85591895602fc552b48b7390abd",
    ("keccak-512", b""): (
        "0eab42de4c3ceb9235fc91acffe746b29c29a8c366b7c60e4e67c466f36a4304"
        "c00fa9caf9d87976ba469bcbe06713b435f091ef2769fb160cdab33d3670680e"
    ),
}


@pytest.mark.parametrize("function", HASHING, ids=lambda function: function.name)
@settings(max_examples=8)  # of each of 72 functions
@given(data=st.binary(max_size=300), cut=st.integers(0, 40))
def test_what_was_hashed_is_verified_and_nothing_else(function, data, cut):
    size = max(function.size_bytes - cut, multihash.DIGEST_SIZE_MIN_BYTES)
    hashed = multihash.digest_multihash(function.name, data, size)
    code, digest = multihash.split(hashed)
    assert (code, len(digest)) == (function.code, size)
    assert multihash.verify(hashed, data)
    assert multihash.verify(hashed, memoryview(bytearray(data)))
    assert not multihash.verify(hashed, data + b"\0")


@pytest.mark.parametrize("function", HASHING, ids=lambda function: function.name)
def test_codes_and_names_are_those_of_the_multicodec_table(function):
    other = multiformats.multihash.get(code=function.code)
    assert other.name == function.name


@pytest.mark.parametrize(
    "name", ["sha1", "sha2-256", "sha2-512", "sha3-224", "sha3-256", "sha3-384", "sha3-512"]
)
def test_digests_equal_those_of_the_second_implementation(name):
    expected = multiformats.multihash.get(name).digest(b"some content")
    assert multihash.digest_multihash(name, b"some content") == expected


@pytest.mark.parametrize(("case", "expected"), KECCAK.items(), ids=str)
def test_keccak_gives_its_published_digests(case, expected):
    name, data = case
    assert multihash.digest_multihash(name, data)[2:].hex() == expected


@pytest.mark.parametrize("size", [135, 136, 137, 271, 272, 273])
def test_keccak_absorbs_whole_blocks_of_input(size):
    """Around its rate; SHA-3 shares the permutation, so equal digests would be a coincidence."""
    digests = {multihash.digest_multihash("keccak-256", bytes(n)) for n in (size - 1, size)}
    assert len(digests) == 2
    assert hashlib.sha3_256(bytes(size)).digest() not in {digest[2:] for digest in digests}


def test_extendable_functions_stretch_to_the_length_asked_for():
    data = b"extend"
    assert multihash.digest_multihash("blake3", data, 64)[2:] == blake3.blake3(data).digest(64)
    assert multihash.digest_multihash("blake3", data, 128)[3:] == blake3.blake3(data).digest(128)
    assert multihash.digest_multihash("shake-256", data)[2:] == hashlib.shake_256(data).digest(64)


def test_a_blake2_digest_is_no_prefix_of_a_longer_one():
    short = multihash.digest_multihash("blake2b-160", b"x")[-20:]
    assert not multihash.digest_multihash("blake2b-256", b"x")[-32:].startswith(short)


@pytest.mark.parametrize(
    "name",
    ["md5", "sha2-384", "murmur3-x64-64", "shake-128", "blake2b-152", "blake2s-8", "x", "SHA2-256"],
)
def test_functions_outside_the_list_are_refused(name):
    with pytest.raises(UnsupportedHash):
        multihash.digest_multihash(name, b"")


@pytest.mark.parametrize(("name", "size"), [("sha2-256", 19), ("sha2-256", 33), ("blake3", 129)])
def test_lengths_outside_the_limits_are_refused(name, size):
    with pytest.raises(UnsupportedHash):
        multihash.digest_multihash(name, b"", size)
    code = multihash.function_of(name).code
    with pytest.raises(UnsupportedHash):
        multihash.split(multihash.prefix(code, size) + bytes(size))


def test_identity_has_its_own_limit():
    assert multihash.verify(multihash.digest_multihash("identity", b"B" * 128), b"B" * 128)
    with pytest.raises(IdentityTooLong):
        multihash.digest_multihash("identity", b"B" * 129)
    with pytest.raises(IdentityTooLong):
        multihash.split(multihash.prefix(multihash.IDENTITY, 129) + bytes(129))
    with pytest.raises(InvalidParameter):
        multihash.digest_multihash("identity", b"whole", 3)


@pytest.mark.parametrize("tail", [b"", b"\0" * 31, b"\0" * 33])
def test_a_digest_of_another_length_than_announced_is_refused(tail):
    with pytest.raises(InvalidCid):
        multihash.split(b"\x12\x20" + tail)
