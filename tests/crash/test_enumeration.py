"""Recovery from every state that a power cut leaves, for all sequences of up to three operations.

`CRASH_SEED` replays a run: it decides the stores' identities and every sampled state. Every first
operation has a store of its own identity, so no two of these tests can count the same state.
"""

import itertools

import pytest

from blkdev import log
from tests.crash.enumeration import ENUMERATED_STATES_MIN, SEED, Explorer, Run, State
from tests.crash.workload import (
    OPERATIONS,
    SIZE_BYTES,
    Operation,
    commit,
    compact,
    delete_old,
    fill_up,
    grow_index,
    journal,
    kill,
    named,
    perform,
    prepared,
    put_large,
    put_small,
    set_names,
    write_out,
)

pytestmark = pytest.mark.slow  # tens of thousands of recoveries

FULL = (put_large, delete_old, set_names, journal, commit, compact)


@pytest.fixture(scope="module")
def past():
    print(f"CRASH_SEED={SEED}")
    return prepared(SEED)


def run_of(past, operations: tuple[Operation, ...]) -> tuple[Run, int]:
    run = Run(SIZE_BYTES, *past)
    return run, perform(run, operations)


@pytest.mark.parametrize("first", OPERATIONS, ids=named)
def test_every_cut_of_up_to_three_operations_recovers(first):
    seed = SEED + OPERATIONS.index(first)
    print(f"CRASH_SEED={SEED}")
    past = prepared(seed)
    explorer = Explorer(SIZE_BYTES, seed, again=0.03, torn=3)
    for count in (0, 1, 2):
        for rest in itertools.product(OPERATIONS, repeat=count):
            explorer.explore(*run_of(past, (first, *rest)))
    assert len(explorer.seen) >= ENUMERATED_STATES_MIN / len(OPERATIONS), len(explorer.seen)


def test_every_cut_on_a_full_store_recovers():
    """Deleting makes room that only compaction into the reserve can give back."""
    full = prepared(SEED, old=6, fill=True)
    explorer = Explorer(SIZE_BYTES, SEED, again=0.02, torn=1)
    for rest in itertools.product(FULL, repeat=2):
        explorer.explore(*run_of(full, (delete_old, *rest)))
    assert len(explorer.seen) > 60


def test_a_second_life_after_a_cut_recovers_from_its_own_cut(past):
    """The dropped tail of the first life lies where the second one writes."""
    explorer = Explorer(SIZE_BYTES, SEED, again=1.0, torn=6)
    for operations in ((put_small, write_out, put_small, write_out), (put_large, put_large)):
        explorer.explore(*run_of(past, operations))
    lives = explorer.survivors[:]
    explorer.again = 0.0
    for image, state in lives[:: max(1, len(lives) // 40)]:
        for operations in ((put_small, commit), (put_small, write_out), (put_large, kill)):
            run, _ = run_of((image, state), operations)
            explorer.explore(run)
    assert len(lives) > 20


def test_the_index_grew_and_the_checkpoint_was_written_meanwhile(past):
    run = Run(SIZE_BYTES, *past)
    before = run.store.stats()
    grow_index(run)
    assert run.store.stats().index_bytes > before.index_bytes
    assert run.store.stats().segments_checkpoint
    assert run.acknowledged == 3


def test_the_full_store_was_full():
    full = prepared(SEED, old=6, fill=True)
    run = Run(SIZE_BYTES, *full)
    before = len(run.state.blocks)
    fill_up(run)
    assert len(run.state.blocks) - before <= 3
    assert run.store.stats().segments_free <= log.DATA


def test_states_are_compared_by_value():
    assert State({b"k": b"v"}) == State({b"k": b"v"}) != State({b"k": b"w"})
