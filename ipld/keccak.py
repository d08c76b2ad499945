"""Keccak as it was before NIST changed its padding; the standard library has only the later SHA-3.

Plain Python, about a millisecond per 4 KiB: it is here so that such blocks can be read and checked,
not for bulk work. Source: the Keccak reference, version 3, with rate 200 - 2 * digest size.
"""

from __future__ import annotations

from ipld.varint import BytesLike

_MASK = (1 << 64) - 1
_LANE_COUNT = 25
_ROUND_COUNT = 24


def _round_constants() -> tuple[int, ...]:
    register, constants = 1, []
    for _ in range(_ROUND_COUNT):
        constant = 0
        for bit in range(7):
            if register & 1:
                constant |= 1 << ((1 << bit) - 1)
            register = (register << 1) ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    return tuple(constants)


def _steps() -> tuple[tuple[int, int], ...]:
    """The walk of rho and pi over the lanes: (target lane, left rotation), starting from lane 1."""
    x, y, steps = 1, 0, []
    for step in range(_LANE_COUNT - 1):
        x, y = y, (2 * x + 3 * y) % 5
        steps.append((x + 5 * y, (step + 1) * (step + 2) // 2 % 64))
    return tuple(steps)


_CONSTANTS = _round_constants()
_STEPS = _steps()


def _permute(lanes: list[int]) -> None:
    for constant in _CONSTANTS:
        column = [
            lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20]
            for x in range(5)
        ]
        for x in range(5):
            right = column[(x + 1) % 5]
            mixed = column[x - 1] ^ ((right << 1 | right >> 63) & _MASK)
            for lane in range(x, _LANE_COUNT, 5):
                lanes[lane] ^= mixed
        current = lanes[1]
        for target, rotation in _STEPS:
            rotated = (current << rotation | current >> (64 - rotation)) & _MASK
            current, lanes[target] = lanes[target], rotated
        for y in range(0, _LANE_COUNT, 5):
            row = lanes[y : y + 5]
            for x in range(5):
                lanes[y + x] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5])
        lanes[0] ^= constant


def digest(data: BytesLike, size_bytes: int) -> bytes:
    """Keccak-(8 * size_bytes) of `data`; `size_bytes` is 28, 32, 48 or 64."""
    rate = 200 - 2 * size_bytes
    padded = bytearray(data)
    padded += bytes(rate - len(padded) % rate)
    padded[len(data)] |= 0x01
    padded[-1] |= 0x80
    lanes = [0] * _LANE_COUNT
    for block in range(0, len(padded), rate):
        for lane in range(rate // 8):
            start = block + lane * 8
            lanes[lane] ^= int.from_bytes(padded[start : start + 8], "little")
        _permute(lanes)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes)[:size_bytes]
