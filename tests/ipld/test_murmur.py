"""The HAMT's hash against a second implementation, written from the algorithm's description."""

from hypothesis import given
from hypothesis import strategies as st

from ipld.murmur import hash64

MASK = (1 << 64) - 1
C1, C2 = 0x87C37B91114253D5, 0x4CF5AD432745937F


def rotate(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & MASK


def finish(value: int) -> int:
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD & MASK
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 & MASK
    return value ^ value >> 33


def reference(data: bytes) -> int:
    h1 = h2 = 0
    whole = len(data) // 16 * 16
    for at in range(0, whole, 16):
        k1 = int.from_bytes(data[at : at + 8], "little")
        k2 = int.from_bytes(data[at + 8 : at + 16], "little")
        h1 ^= rotate(k1 * C1 & MASK, 31) * C2 & MASK
        h1 = ((rotate(h1, 27) + h2) * 5 + 0x52DCE729) & MASK
        h2 ^= rotate(k2 * C2 & MASK, 33) * C1 & MASK
        h2 = ((rotate(h2, 31) + h1) * 5 + 0x38495AB5) & MASK
    tail = data[whole:]
    h2 ^= rotate(int.from_bytes(tail[8:], "little") * C2 & MASK, 33) * C1 & MASK
    h1 ^= rotate(int.from_bytes(tail[:8], "little") * C1 & MASK, 31) * C2 & MASK
    h1, h2 = h1 ^ len(data), h2 ^ len(data)
    h1 = (h1 + h2) & MASK
    h2 = (h2 + h1) & MASK
    return (finish(h1) + finish(h2)) & MASK


@given(st.binary(max_size=200))
def test_hash_equals_the_reference_for_any_bytes(data):
    assert hash64(data) == reference(data)


def test_hash_is_of_the_bytes_whatever_holds_them():
    assert hash64(b"name") == hash64(bytearray(b"name")) == hash64(memoryview(b"name"))


def test_hash_of_nothing_is_zero():
    assert hash64(b"") == 0
