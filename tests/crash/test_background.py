"""Recovery from power cuts while segments that were emptied in the background wait to be freed.

They and their copies are both there, for any number of operations in between; and a crash, a
checkpoint or a close may come at any of them.
"""

import itertools

import pytest

from blkdev.compaction.compact import Compactor
from blkdev.errors import StoreError
from tests.crash.enumeration import SEED, Explorer, Run, contents
from tests.crash.workload import (
    SIZE_BYTES,
    Operation,
    checkpoint,
    commit,
    compact,
    delete,
    delete_old,
    journal,
    kill,
    perform,
    prepared,
    put,
    put_large,
    put_small,
    reopen,
    set_names,
)

pytestmark = pytest.mark.slow  # thousands of recoveries


def compact_behind(run: Run) -> None:
    """One step: a segment is emptied, and freed when some have come together."""
    if run.store.compact(1, background=True).copied_bytes:
        run.acknowledge()


def delete_kept(run: Run) -> None:
    """What was copied dies; its older record lies in a segment that waits."""
    delete(run, [key for key in run.state.blocks if key.startswith(b"kept")][:3])


def put_back(run: Run) -> None:
    put(run, b"kept 0", 3000)
    put(run, b"kept 1", 3000)


BETWEEN: tuple[Operation, ...] = (
    put_large, put_back, delete_old, delete_kept, set_names, journal, commit, compact_behind,
    compact, checkpoint, reopen, kill,
)  # fmt: skip


@pytest.fixture(scope="module")
def past():
    """Some of each segment is dead already, so that there is something to empty."""
    print(f"CRASH_SEED={SEED}")
    image, state = prepared(SEED)
    run = Run(SIZE_BYTES, image, state)
    for number in range(4):
        put(run, b"wide %d" % number, 20_000)
    delete(run, [key for key in run.state.blocks if key.startswith(b"old")][:6])
    run.store.close()
    return run.device.pages, run.state


def test_a_step_leaves_a_segment_waiting(past):
    run = Run(SIZE_BYTES, *past)
    compact_behind(run)
    compact_behind(run)
    assert run.store._compactor._emptied
    assert contents(run.store) == run.state


@pytest.mark.parametrize("first", BETWEEN, ids=lambda operation: operation.__name__)
def test_every_cut_while_emptied_segments_wait_recovers(past, first):
    explorer = Explorer(SIZE_BYTES, SEED + 1, again=0.02, torn=1)
    for second in BETWEEN:
        run = Run(SIZE_BYTES, *past)
        perform(run, (compact_behind, compact_behind, first, second, put_small, commit))
        explorer.explore(run)
    assert len(explorer.seen) > 100, len(explorer.seen)


def test_defect_copies_emptied_again_while_their_sources_wait_is_found(past, monkeypatch):
    """Their tombstones are then forgotten before the older records are gone."""
    fresh = Compactor._choose

    def any_age(self, limit_bytes, beyond):
        waiting, self._emptied = self._emptied, []
        try:
            return fresh(self, limit_bytes, beyond)
        finally:
            self._emptied = waiting

    monkeypatch.setattr(Compactor, "_choose", any_age)
    lives = itertools.product((delete_kept, delete_old), (put_large, compact_behind), repeat=2)
    explorer = Explorer(SIZE_BYTES, SEED + 1, again=0.0, torn=0)
    with pytest.raises((AssertionError, StoreError, KeyError)):
        for life in lives:
            run = Run(SIZE_BYTES, *past)
            perform(run, (compact_behind, *life, *[compact_behind] * 4, commit))
            explorer.explore(run)
