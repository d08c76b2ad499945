"""Recovery from the power cuts of random lives: more operations than can be enumerated.

Every life is a random sequence of operations on a store with a past, cut after every event; those
states make up, with test_enumeration.py, the 100,000 of a run of CI. `CRASH_SEED` replays a run.
A life that fails is named by its operations and its seed.
"""

import random

import pytest

from tests.crash.enumeration import ENUMERATED_STATES_MIN, SEED, Explorer, Run
from tests.crash.workload import (
    LIFE_OPERATIONS,
    SIZE_BYTES,
    SIZES,
    Operation,
    named,
    perform,
    prepared,
    shrink,
)

# The whole file takes some minutes; one test of it under two, on a machine with nothing else to do.
pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

STATES_MIN = 100_000 - ENUMERATED_STATES_MIN
LIVES_MAX = 400
OPERATIONS_MIN, OPERATIONS_MAX = 4, 9
WIDE = 66
"""More segments than the smallest size has, of half of what it could hold."""


def explore_lives(explorer: Explorer, rng: random.Random, first: Operation, wanted: int) -> int:
    """Cut lives that begin with `first` until so many states were seen; how many lives it took."""
    usual = (SIZE_BYTES, *prepared(explorer.seed))
    full = (SIZE_BYTES, *prepared(explorer.seed, old=6, fill=True))
    large = (SIZES[-1], *prepared(explorer.seed, size_bytes=SIZES[-1]))
    wide = (SIZES[1], *prepared(explorer.seed, old=2, size_bytes=SIZES[1], wide=WIDE))
    # On a full store every put compacts: events by the hundred, so seldom. In a wide one there is
    # much to read.
    pasts = (usual, large, *5 * (usual,), full, usual, large, usual, wide, *3 * (usual,), full)
    for life in range(LIVES_MAX):
        if len(explorer.seen) >= wanted:
            return life
        more = rng.choices(LIFE_OPERATIONS, k=rng.randrange(OPERATIONS_MIN, OPERATIONS_MAX) - 1)
        operations = (first, *more)
        run = Run(*pasts[life % len(pasts)])
        try:
            perform(run, operations)
            explorer.explore(run)
        except Exception as error:
            names = ", ".join(map(named, operations))
            raise AssertionError(f"CRASH_SEED={SEED}, life {life}: {names}") from error
    return LIVES_MAX


@pytest.mark.parametrize("first", LIFE_OPERATIONS, ids=named)
def test_every_cut_of_random_lives_recovers(first):
    # Identities that test_enumeration.py does not use: no state is counted twice.
    seed = SEED + 1000 + LIFE_OPERATIONS.index(first)
    print(f"CRASH_SEED={SEED}")
    explorer = Explorer(SIZE_BYTES, seed, again=0.02, torn=3)
    wanted = -(-STATES_MIN // len(LIFE_OPERATIONS))
    lives = explore_lives(explorer, random.Random(seed), first, wanted)
    assert len(explorer.seen) >= wanted, (len(explorer.seen), lives)


def test_wide_store_does_not_fit_and_is_told_so_half_way():
    """Else the lives that begin with it would not try what they are there for."""
    run = Run(SIZES[1], *prepared(SEED, old=2, size_bytes=SIZES[1], wide=WIDE))
    before, segments = len(run.device.events), run.store.geometry.segment_count
    shrink(run)
    assert run.store.geometry.segment_count == segments > WIDE
    assert len(run.device.events) > before + 4, "some of it was moved before"


def test_large_store_fits_and_is_cut():
    run = Run(SIZES[-1], *prepared(SEED, size_bytes=SIZES[-1]))
    shrink(run)
    assert run.device.size_bytes == SIZE_BYTES
    assert run.store.geometry.segment_count == 64
    assert run.acknowledged == len(run.states) - 1
