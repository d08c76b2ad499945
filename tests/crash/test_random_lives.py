"""Recovery from the power cuts of random lives: more operations than can be enumerated.

Every life is a random sequence of operations on a store with a past, cut after every event; those
states make up, with test_enumeration.py, the 100,000 of a run of CI. `CRASH_SEED` replays a run.
A life that fails is named by its operations and its seed.
"""

import random

import pytest

from tests.crash.enumeration import ENUMERATED_STATES_MIN, SEED, Explorer, Run
from tests.crash.workload import OPERATIONS, SIZE_BYTES, Operation, named, perform, prepared

# The whole file takes some minutes; one test of it under two, on a machine with nothing else to do.
pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

STATES_MIN = 100_000 - ENUMERATED_STATES_MIN
LIVES_MAX = 400
OPERATIONS_MIN, OPERATIONS_MAX = 4, 9


def explore_lives(explorer: Explorer, rng: random.Random, first: Operation, wanted: int) -> int:
    """Cut lives that begin with `first` until so many states were seen; how many lives it took."""
    pasts = [prepared(explorer.seed), prepared(explorer.seed, old=6, fill=True)]
    for life in range(LIVES_MAX):
        if len(explorer.seen) >= wanted:
            return life
        more = rng.choices(OPERATIONS, k=rng.randrange(OPERATIONS_MIN, OPERATIONS_MAX) - 1)
        operations = (first, *more)
        # On a full store every put compacts: events by the hundred, so seldom.
        run = Run(SIZE_BYTES, *pasts[life % 8 == 7])
        try:
            perform(run, operations)
            explorer.explore(run)
        except Exception as error:
            names = ", ".join(map(named, operations))
            raise AssertionError(f"CRASH_SEED={SEED}, life {life}: {names}") from error
    return LIVES_MAX


@pytest.mark.parametrize("first", OPERATIONS, ids=named)
def test_every_cut_of_random_lives_recovers(first):
    # Identities that test_enumeration.py does not use: no state is counted twice.
    seed = SEED + 1000 + OPERATIONS.index(first)
    print(f"CRASH_SEED={SEED}")
    explorer = Explorer(SIZE_BYTES, seed, again=0.02, torn=3)
    wanted = -(-STATES_MIN // len(OPERATIONS))
    lives = explore_lives(explorer, random.Random(seed), first, wanted)
    assert len(explorer.seen) >= wanted, (len(explorer.seen), lives)
