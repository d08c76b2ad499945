"""The two deterministic byte streams that other projects' test vectors are made of."""

import hashlib
from collections.abc import Iterator

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

_LANES = 16
"""ChaCha blocks computed side by side: all that one key of Go's generator gives."""
_LANE_BITS = 64
_SLOTS = sum(1 << (lane * _LANE_BITS) for lane in range(_LANES))
_LOW_32 = _SLOTS * 0xFFFFFFFF
_CONSTANTS = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)
_COLUMNS_AND_DIAGONALS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip


def chacha20(seed: str, size_bytes: int) -> bytes:
    """The stream of Kubo's profile tests: key SHA-256(seed), nonce and counter zero."""
    key = hashlib.sha256(seed.encode()).digest()
    encryptor = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
    return encryptor.update(bytes(size_bytes))


def go_random_data(seed: str, size_bytes: int) -> bytes:
    """What `random-data -seed=SEED -size=SIZE` of ipfs/go-test writes.

    Go's math/rand/v2 ChaCha8 (specified in C2SP chacha8rand), keyed with SHA-256(seed).
    """
    out = bytearray()
    for piece in _chacha8rand(hashlib.sha256(seed.encode()).digest()):
        out += piece
        if len(out) >= size_bytes:
            return bytes(out[:size_bytes])
    raise AssertionError("the generator does not end")


def _chacha8rand(key: bytes) -> Iterator[bytes]:
    """1024 bytes for each key; the last 32 of them are not given out but are the next key."""
    while True:
        block = _sixteen_blocks(key)
        yield block[:-32]
        key = block[-32:]


def _sixteen_blocks(key: bytes) -> bytes:
    """Sixteen 8-round blocks at once: one integer holds the same word of every block."""
    words = [int.from_bytes(key[i : i + 4], "little") * _SLOTS for i in range(0, 32, 4)]
    counters = sum(lane << (lane * _LANE_BITS) for lane in range(_LANES))
    state = [*(word * _SLOTS for word in _CONSTANTS), *words, counters, 0, 0, 0]
    for _ in range(4):
        for a, b, c, d in _COLUMNS_AND_DIAGONALS:
            for rotation_d, rotation_b in ((16, 12), (8, 7)):
                state[a] = (state[a] + state[b]) & _LOW_32
                state[d] = _rotated(state[d] ^ state[a], rotation_d)
                state[c] = (state[c] + state[d]) & _LOW_32
                state[b] = _rotated(state[b] ^ state[c], rotation_b)
    # Unlike ChaCha20, only the key is added back: the other words hold no secret.
    for index, word in enumerate(words, start=4):
        state[index] = (state[index] + word) & _LOW_32
    # Four blocks at a time, word by word: the order of four-lane vector instructions.
    lanes = [memoryview(word.to_bytes(_LANES * 8, "little")).cast("I")[::2] for word in state]
    return b"".join(
        word[group + lane].to_bytes(4, "little")
        for group in range(0, _LANES, 4)
        for word in lanes
        for lane in range(4)
    )


def _rotated(lanes: int, bits: int) -> int:
    return (lanes << bits | lanes >> (32 - bits)) & _LOW_32
