"""Fuzzing of parsers: mutate valid inputs, and accept nothing but the layer's typed errors."""

import os
import random
from collections.abc import Callable, Sequence

from ipld.errors import IpldError

ROUNDS = 10_000
INTERESTING = (b"\x00", b"\x01", b"\x7f", b"\x80", b"\xff", b"\xff\xff\xff\xff", b"\x80" * 10)


def mutate(rng: random.Random, data: bytes) -> bytes:
    """One to four small damages: flipped bits, cuts, repeats, insertions of telling bytes."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(6):
            case 0 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(out):
                out[at] = rng.randrange(256)
            case 2:
                del out[at : at + rng.randint(1, 9)]
            case 3:
                out[at:at] = rng.choice(INTERESTING)
            case 4:
                out[at:at] = out[at : at + rng.randint(1, 60)]
            case _:
                del out[at:]
    return bytes(out)


def fuzz(parse: Callable[[bytes], object], corpus: Sequence[bytes], rounds: int = ROUNDS) -> int:
    """Feed mutated inputs; returns how many were accepted. Any foreign exception fails, with the
    seed and the input that repeat it."""
    seed = int(os.environ.get("FUZZ_SEED", "20260101"))
    print(f"FUZZ_SEED={seed}")
    rng = random.Random(seed)
    accepted = 0
    for index in range(rounds):
        data = mutate(rng, rng.choice(corpus))
        try:
            parse(data)
            accepted += 1
        except IpldError:
            pass
        except Exception as error:
            raise AssertionError(
                f"{type(error).__name__}: {error}; FUZZ_SEED={seed}, input {index}: {data.hex()}"
            ) from error
    return accepted
