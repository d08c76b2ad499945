"""Names that collide in every bit of MurmurHash3: the hash is invertible, so they cost nothing."""

import random

from tests.ipld.test_murmur import C1, C2, MASK, rotate

_INVERSE_C1, _INVERSE_C2 = pow(C1, -1, 1 << 64), pow(C2, -1, 1 << 64)


def colliding_names(count: int) -> list[bytes]:
    """Names of 32 bytes: after any first half, the second half that leads to one common state."""
    rng = random.Random(7)
    names = []
    for _ in range(count):
        first = rng.randbytes(16)
        h1, h2 = _after_block(0, 0, first)
        wanted = rotate((0x1234 - h2) & MASK, 64 - 27)
        k1 = rotate((h1 ^ wanted) * _INVERSE_C2 & MASK, 64 - 31) * _INVERSE_C1 & MASK
        k2 = rotate((h2 ^ 0x5678) * _INVERSE_C1 & MASK, 64 - 33) * _INVERSE_C2 & MASK
        names.append(first + k1.to_bytes(8, "little") + k2.to_bytes(8, "little"))
    return names


def _after_block(h1: int, h2: int, block: bytes) -> tuple[int, int]:
    k1, k2 = int.from_bytes(block[:8], "little"), int.from_bytes(block[8:], "little")
    h1 ^= rotate(k1 * C1 & MASK, 31) * C2 & MASK
    h1 = ((rotate(h1, 27) + h2) * 5 + 0x52DCE729) & MASK
    h2 ^= rotate(k2 * C2 & MASK, 33) * C1 & MASK
    h2 = ((rotate(h2, 31) + h1) * 5 + 0x38495AB5) & MASK
    return h1, h2
