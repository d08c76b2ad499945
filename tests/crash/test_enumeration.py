"""Recovery from every state that a power cut leaves, for all sequences of up to three operations.

`CRASH_SEED` replays a run: it decides the store's identity and every sampled state.
"""

import itertools
import os

import pytest

from blkdev import format as fmt
from blkdev import log, recover, segment
from blkdev.care import past_damage
from blkdev.checkpoint import Checkpointer
from blkdev.log import Log
from tests.crash.enumeration import Explorer, Run, State
from tests.crash.workload import (
    OPERATIONS,
    SIZE_BYTES,
    Operation,
    commit,
    compact,
    delete_old,
    fill_up,
    journal,
    kill,
    perform,
    prepared,
    put_large,
    put_pair,
    put_small,
    set_names,
    write_out,
)

pytestmark = pytest.mark.slow  # tens of thousands of recoveries

SEED = int(os.environ.get("CRASH_SEED", "20261101"))
DISTINCT_STATES_MIN = 20_000
"""Over all first operations; each of them has to find its share, because they run in several
processes that do not see each other's states."""
FULL = (put_large, delete_old, set_names, journal, commit, compact)


@pytest.fixture(scope="module")
def past():
    print(f"CRASH_SEED={SEED}")
    return prepared(SEED)


def run_of(past, operations: tuple[Operation, ...]) -> tuple[Run, int]:
    run = Run(SIZE_BYTES, *past)
    return run, perform(run, operations)


def named(operation: Operation) -> str:
    return operation.__name__


@pytest.mark.parametrize("first", OPERATIONS, ids=named)
def test_every_cut_of_up_to_three_operations_recovers(past, first):
    explorer = Explorer(SIZE_BYTES, SEED, again=0.03, torn=3)
    for count in (0, 1, 2):
        for rest in itertools.product(OPERATIONS, repeat=count):
            explorer.explore(*run_of(past, (first, *rest)))
    assert len(explorer.seen) >= DISTINCT_STATES_MIN / len(OPERATIONS), len(explorer.seen)


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


def test_the_full_store_was_full():
    full = prepared(SEED, old=6, fill=True)
    run = Run(SIZE_BYTES, *full)
    before = len(run.state.blocks)
    fill_up(run)
    assert len(run.state.blocks) - before <= 3
    assert run.store.stats().segments_free <= log.DATA


# Defects planted on purpose: an oracle that does not see them is worth nothing.

ALL_PAIRS = tuple(itertools.product((put_small, put_large, journal, commit, write_out), repeat=2))


def must_go_red(past, sequences=ALL_PAIRS, *, lives: bool = False) -> None:
    explorer = Explorer(SIZE_BYTES, SEED, again=0.3 if lives else 0.0, torn=24)
    with pytest.raises(Exception):  # noqa: B017  # whatever way it shows
        for operations in sequences:
            explorer.explore(*run_of(past, operations))
            for image, state in explorer.survivors if lives else ():
                for more in ((put_small, commit), (put_small, write_out)):
                    explorer.explore(run_of((image, state), more)[0])


def test_defect_commit_without_flush_is_found(past, monkeypatch):
    monkeypatch.setattr(
        Log, "guarded", lambda self, write: None if "sync" in str(write) else write()
    )
    must_go_red(past)


def test_defect_group_accepted_without_checksums_is_found(past, monkeypatch):
    whole = segment.read_group

    def unchecked(volume, slot, offset, header, *, verify_values):
        return whole(volume, slot, offset, header, verify_values=False)

    monkeypatch.setattr(recover, "read_group", unchecked)
    must_go_red(past)


def test_defect_log_resumed_after_a_torn_group_is_found(past, monkeypatch):
    def gapless(volume, slot, sequence, start):
        whole = [
            found
            for found in past_damage.group_headers(volume, slot, sequence, start)
            if segment.read_group(volume, slot, *found, verify_values=True) is not None
        ]
        first = min((header.number for _, header in whole), default=0)
        for number, (offset, header) in enumerate(whole, min(first, 10)):
            yield offset, header._replace(number=number)

    monkeypatch.setattr(recover, "group_headers", gapless)
    must_go_red(past, [(put_pair, write_out, put_small, write_out)])


def test_defect_epoch_ignored_is_found(past, monkeypatch):
    """A dropped tail comes back when the next life's group has the length of a dropped one."""
    original = fmt.GROUP_HEADER.open

    def same_epoch(buffer, offset=0, seed=0):
        header = original(buffer, offset, seed)
        return header and header._replace(epoch=1)

    monkeypatch.setattr(fmt.GROUP_HEADER, "open", same_epoch)
    sequences = [(put_small, write_out, put_small, write_out)]
    must_go_red(past, sequences, lives=True)


def test_defect_segment_wiped_before_its_copies_are_durable_is_found(past, monkeypatch):
    # Dropping the checkpoint happens to sync, which hides the defect.
    monkeypatch.setattr(Checkpointer, "drop", lambda self: None)
    monkeypatch.setattr(Log, "commit", Log.write_out)
    must_go_red(past, [(delete_old, compact), (delete_old, compact, put_large)])


def test_states_are_compared_by_value():
    assert State({b"k": b"v"}) == State({b"k": b"v"}) != State({b"k": b"w"})
