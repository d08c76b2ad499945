"""Recovery from every state that a power cut leaves in the middle of a resize, as a plain file has
it, whose length is one more thing that may or may not have arrived.

A store found after the cut has the old size or the new one, holds what was promised, and can fill
every slot that it claims to have. `CRASH_SEED` replays a run.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from blkdev import superblock
from blkdev.care.resize import Resizer
from blkdev.catalog import Catalog
from blkdev.device import RamDevice
from blkdev.errors import StoreError
from blkdev.log import Log
from blkdev.store import Store
from tests.crash.enumeration import SEED, Explorer, Pages, Run, State
from tests.crash.workload import (
    Operation,
    commit,
    delete,
    delete_old,
    journal,
    kill,
    perform,
    put,
    put_large,
    put_small,
    reopen,
    set_names,
    value_of,
    write_out,
)

pytestmark = pytest.mark.slow  # thousands of recoveries

MIB = 1 << 20
SMALL_BYTES = 20 * MIB
MIDDLE_BYTES = 28 * MIB
LARGE_BYTES = 32 * MIB
"""The largest has 256 slots; the smallest has 64 of them, and lacks the largest's middle copy."""
SEGMENTS = {SMALL_BYTES: 64, MIDDLE_BYTES: 192, LARGE_BYTES: 256}
Past = tuple[int, Pages, State]


def resize_to(size_bytes: int) -> Operation:
    def operation(run: Run) -> None:
        run.store.resize(size_bytes)
        # The checkpoint at the end is durable, and with it all there was.
        run.acknowledge()

    operation.__name__ = f"resize_to_{size_bytes // MIB}"
    return operation


to_small, to_middle, to_large = map(resize_to, (SMALL_BYTES, MIDDLE_BYTES, LARGE_BYTES))
SEQUENCES = (
    (to_small,),
    (put_small, to_small, put_large, commit),
    (delete_old, write_out, to_small, delete_old, reopen),
    (to_middle, put_large, to_small),
    (to_small, put_large, to_middle, put_large, put_large, kill),
    (put_small, to_small, to_large, journal, set_names, write_out),
    (to_middle, to_large, to_small, put_small),
)


def with_past(size_bytes: int) -> Past:
    """A store with its records at the very end, where it is to be cut."""
    device = RamDevice(size_bytes)
    entropy = random.Random(SEED).randbytes
    Store.format(device, segment_size_bytes=64 << 10, entropy=entropy)
    run = Run(size_bytes, device.pages, State())
    dropped: list[bytes] = []
    while run.store.stats().segments_free > 10:
        dropped.append(b"dropped %d" % len(dropped))
        run.store.put_many([(dropped[-1], value_of(b"dropped", 30_000))])
    for number in range(5):
        put(run, b"old %d" % number, 18_000)
        put(run, b"kept %d" % number, 3000)
    set_names(run)
    journal(run)
    run.store.delete_many(dropped)
    delete(run, [b"old 1"])
    run.store.compact()
    run.store.commit()
    segments = run.store.stats().segments
    beyond = [slot for slot in run.store._catalog.segments if slot > segments - 12]
    assert len(beyond) >= 2
    return size_bytes, run.device.pages, run.state


@pytest.fixture(scope="module")
def large() -> Past:
    print(f"CRASH_SEED={SEED}")
    return with_past(LARGE_BYTES)


@pytest.fixture(scope="module")
def small() -> Past:
    return with_past(SMALL_BYTES)


class SizeExplorer(Explorer):
    """Cuts that leave a file as long as it was, or as long as it was to be."""

    def __init__(self, size_bytes: int, *, torn: int) -> None:
        super().__init__(size_bytes, SEED, again=0.02, torn=torn)
        self.found: set[int] = set()

    def check(self, store: Store) -> None:  # type: ignore[override]  # static there: it keeps nothing
        super().check(store)
        self.found.add(store.geometry.segment_count)
        if self.rng.random() < 0.02:
            free = store.stats().segments_free
            items = [(b"more %d" % each, value_of(b"more", 30_000)) for each in range(free - 3)]
            store.put_many(items)
            assert store.check().ok
            assert all(store.get(key) == value for key, value in items)
            size_bytes = store.device.size_bytes
            again = Store.open(RamDevice(size_bytes, pages=dict(store.device.pages)))
            super().check(again)


def explored(past: Past, operations: tuple[Operation, ...], torn: int = 2) -> SizeExplorer:
    size_bytes, pages, state = past
    run = Run(size_bytes, pages, state)
    perform(run, operations)
    explorer = SizeExplorer(size_bytes, torn=torn)
    explorer.explore(run)
    return explorer


def named(operations: object) -> str:
    return "-".join(each.__name__ for each in operations)


@pytest.mark.parametrize("operations", SEQUENCES, ids=named)
def test_every_cut_of_a_large_store_that_shrinks_leaves_the_old_or_the_new_one(large, operations):
    explorer = explored(large, operations)
    assert {SEGMENTS[LARGE_BYTES], SEGMENTS[SMALL_BYTES]} <= explorer.found
    assert explorer.found <= set(SEGMENTS.values())
    assert len(explorer.seen) > 100


@pytest.mark.parametrize(
    "operations",
    [
        (to_large,),
        (put_small, to_middle, put_large, commit, to_large, put_small, write_out),
        (to_large, put_large, put_large, to_small, delete_old),
        (delete_old, to_middle, journal, reopen),
    ],
    ids=named,
)
def test_every_cut_of_a_small_store_that_grows_leaves_the_old_or_the_new_one(small, operations):
    explorer = explored(small, operations)
    assert SEGMENTS[SMALL_BYTES] in explorer.found
    assert len(explorer.found) > 1
    assert len(explorer.seen) > 40


# Defects planted on purpose: an oracle that does not see them is worth nothing.


def superblock_before_the_segments_are_empty(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Resizer, "_beyond", lambda self, first_slot: [])


def superblock_before_the_file_is_longer(patch: pytest.MonkeyPatch) -> None:
    """Its length is then durable only by chance."""
    syncs = Log.sync

    def all_but_that(log: Log) -> None:
        events = log._volume.device.events
        if not events or events[-1].kind != "resize":
            syncs(log)

    patch.setattr(Log, "sync", all_but_that)
    written = superblock.store

    def early(device, block):
        block = block._replace(generation=block.generation + 1)
        offset = superblock.Geometry.of(block).copy_offsets
        device.write(offset[0], [superblock.fmt.SUPERBLOCK.seal(block._replace(copy=0))])
        return written(device, block)

    patch.setattr(superblock, "store", early)


def file_cut_before_the_superblock_says_so(patch: pytest.MonkeyPatch) -> None:
    switch = Resizer._switch

    def cut_first(self, old, new, report) -> None:
        self._volume.device.set_size(report.device_size_bytes)
        switch(self, old, new, report)

    patch.setattr(Resizer, "_switch", cut_first)


def slots_beyond_the_end_used_on(patch: pytest.MonkeyPatch) -> None:
    def forget(catalog: Catalog, _slot_count: int) -> None:
        catalog.free.extendleft(catalog.withheld)
        catalog.withheld = []

    patch.setattr(Catalog, "end_withholding", forget)


@dataclass(frozen=True)
class Defect:
    plant: Callable[[pytest.MonkeyPatch], None]
    operations: tuple[Operation, ...] = (to_small,)
    grows: bool = False


DEFECTS = {
    defect.plant.__name__: defect
    for defect in (
        Defect(superblock_before_the_segments_are_empty),
        Defect(superblock_before_the_file_is_longer, (to_large,), grows=True),
        Defect(file_cut_before_the_superblock_says_so),
        Defect(slots_beyond_the_end_used_on, (put_large, to_small, put_large, put_large)),
    )
}


@pytest.mark.parametrize("name", DEFECTS)
def test_defect_in_a_resize_is_found_by_cutting_the_power(large, small, monkeypatch, name):
    defect = DEFECTS[name]
    defect.plant(monkeypatch)
    with pytest.raises((AssertionError, StoreError, OSError, KeyError)):
        explored(small if defect.grows else large, defect.operations)
