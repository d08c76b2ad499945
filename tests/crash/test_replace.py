"""Power cuts around batches: a replaced key has its old value or its new one, never none.

The same oracle as for the other operations (tests/crash/enumeration.py): a batch is one step.
"""

import itertools

import pytest

from blkdev.errors import StoreFull
from blkdev.log import Log
from tests.crash.enumeration import Explorer, Run, State
from tests.crash.test_enumeration import SEED, named
from tests.crash.workload import (
    SIZE_BYTES,
    Operation,
    checkpoint,
    commit,
    compact,
    delete_old,
    kill,
    perform,
    prepared,
    put_large,
    put_small,
    reopen,
    value_of,
    write_out,
)

pytestmark = pytest.mark.slow  # thousands of recoveries


def apply(run: Run, changes: dict[bytes, bytes | None]) -> None:
    """One step, or none where there is no room."""
    state = run.state
    changed = {**state.blocks, **changes}
    left = {key: value for key, value in changed.items() if value is not None}
    if left != state.blocks:
        run.step(State(left, state.names, state.journal))
    try:
        run.store.apply(changes)
    except StoreFull:
        run.states.pop()


def replace_one(run: Run) -> None:
    """Its old record lies in a sealed segment, or in one of the groups before."""
    apply(run, {b"kept 0": value_of(b"version %d" % len(run.states), 700)})


def replace_large(run: Run) -> None:
    """A new segment for the new value: old and new are in different ones."""
    apply(run, {b"old 2": value_of(b"version %d" % len(run.states), 30_000)})


def change_together(run: Run) -> None:
    value = value_of(b"version %d" % len(run.states), 300)
    apply(run, {b"kept 1": value, b"kept 2": value, b"both": value, b"old 3": None})


def put_same_again(run: Run) -> None:
    apply(run, {b"kept 3": run.state.blocks[b"kept 3"]})


def replace_and_delete(run: Run) -> None:
    """The tombstone of the deletion names the second record, not the first."""
    apply(run, {b"kept 4": value_of(b"version %d" % len(run.states), 300)})
    apply(run, {b"kept 4": None})


def two_batches(run: Run) -> None:
    """The second replaces what the first one left in the same group."""
    change_together(run)
    change_together(run)


BATCHES: tuple[Operation, ...] = (
    replace_one, replace_large, change_together, put_same_again, replace_and_delete, two_batches,
)  # fmt: skip
OTHERS: tuple[Operation, ...] = (
    commit, write_out, compact, checkpoint, reopen, kill, delete_old, put_small, put_large,
)  # fmt: skip


@pytest.fixture(scope="module")
def past():
    print(f"CRASH_SEED={SEED}")
    return prepared(SEED)


def run_of(past, operations: tuple[Operation, ...]) -> Run:
    run = Run(SIZE_BYTES, *past)
    perform(run, operations)
    return run


@pytest.mark.parametrize("first", BATCHES, ids=named)
def test_every_cut_around_a_batch_finds_all_of_it_or_nothing(past, first):
    explorer = Explorer(SIZE_BYTES, SEED, again=0.02, torn=2)
    for rest in itertools.product(BATCHES + OTHERS, repeat=2):
        explorer.explore(run_of(past, (first, *rest)))
    assert len(explorer.seen) > 300


@pytest.mark.parametrize("middle", BATCHES, ids=named)
def test_every_cut_after_compaction_of_replaced_records_recovers(past, middle):
    """What was replaced is compacted away, and replaced again before and after a checkpoint."""
    explorer = Explorer(SIZE_BYTES, SEED, again=0.1, torn=3)
    for before, after in itertools.product((commit, checkpoint, delete_old), (compact, kill)):
        operations = (replace_large, middle, before, compact, middle, after, replace_one, commit)
        explorer.explore(run_of(past, operations))
    assert len(explorer.seen) > 300


def test_every_cut_around_a_batch_on_a_full_store_recovers():
    full = prepared(SEED, old=6, fill=True)
    explorer = Explorer(SIZE_BYTES, SEED, again=0.02, torn=2)
    for rest in itertools.product((replace_large, change_together, commit, compact), repeat=2):
        explorer.explore(run_of(full, (delete_old, *rest)))
    assert len(explorer.seen) > 30


def test_a_second_life_after_a_cut_in_a_batch_recovers(past):
    """The dropped batch lies where the next life writes."""
    explorer = Explorer(SIZE_BYTES, SEED, again=1.0, torn=4)
    explorer.explore(run_of(past, (replace_one, write_out, change_together, write_out)))
    lives = explorer.survivors[:]
    explorer.again = 0.0
    for image, state in lives[:: max(1, len(lives) // 30)]:
        explorer.explore(run_of((image, state), (replace_one, commit)))
        explorer.explore(run_of((image, state), (change_together, write_out)))
    assert len(lives) > 20


def test_defect_batch_written_in_two_groups_is_found(past, monkeypatch):
    """Deleting and putting anew is what this engine does not do; the oracle would see it."""
    append = Log.append

    def one_by_one(self, drafts, right):
        position = self.position
        for draft in drafts:
            position = append(self, [draft], right)
            self.write_out()
        return position

    monkeypatch.setattr(Log, "append", one_by_one)
    explorer = Explorer(SIZE_BYTES, SEED, again=0.0, torn=4)
    with pytest.raises(AssertionError, match="missing"):
        explorer.explore(run_of(past, (replace_one, commit)))
