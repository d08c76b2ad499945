"""The engine against LevelDB, LMDB and flat files: the same blocks, durable after each batch."""

import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from benchmarks import limits
from benchmarks.race import Round, race
from benchmarks.rivals.devices import Ext4, LoopDevice, can_loop
from benchmarks.rivals.stores import STORES, Blkdev, KeyValueStore
from benchmarks.workloads import BLOCKS, SINGLE_PUT, BlockWorkload

GETS_PER_ROUND = 2000
DISK_SIZE_BYTES = 1536 << 20
PER_WORKLOAD = pytest.mark.parametrize("workload", BLOCKS, ids=lambda workload: workload.name)


@pytest.fixture(scope="module")
def stores(bench_folder) -> Iterator[dict[str, KeyValueStore]]:
    """Every store on a disk of its own: ours on the raw device, the rivals on an ext4 on theirs.

    Without the right to make loop devices all of them share the folder's file system.
    """
    with ExitStack() as undo:
        folder = bench_folder / "stores"
        undo.callback(shutil.rmtree, folder)
        opened: dict[str, KeyValueStore] = {}
        for name, kind in STORES.items():
            place: Path = folder / name
            place.mkdir(parents=True)
            disk: LoopDevice | Ext4 | None = None
            if can_loop():
                disk = (
                    LoopDevice(place / "disk.img", DISK_SIZE_BYTES)
                    if kind is Blkdev
                    else Ext4(place, DISK_SIZE_BYTES)
                )
                undo.callback(disk.close)
                place = Path(disk.path) if isinstance(disk, LoopDevice) else disk.folder
            opened[name] = kind(place)
            undo.callback(opened[name].close)
            if isinstance(disk, LoopDevice):
                disk.fill()
        yield opened


def put_round(store: KeyValueStore, workload: BlockWorkload):
    batches = workload.batches_of_items()

    def run() -> float:
        for batch in batches:
            store.put_batch(batch)
        return workload.blocks

    return run


def get_round(store: KeyValueStore, keys: list[bytes]):
    def run() -> float:
        get = store.get
        for key in keys:
            get(key)
        return len(keys)

    return run


@PER_WORKLOAD
def test_put(benchmark, stores, results, disk, workload):
    contestants: dict[str, Round] = {
        name: partial(put_round, store, workload) for name, store in stores.items()
    }
    total = workload.blocks * workload.size_bytes
    contestants["limit: sha2-256"] = lambda: limits.sha256(workload.size_bytes, total)
    contestants["limit: disk write"] = disk.sequential_write
    rates = race(benchmark, "blkdev", contestants)
    for name, values in rates.items():
        megabytes = [value * workload.size_bytes / 1e6 for value in values]
        if name.startswith("limit"):
            results.add(f"put {workload.name}", name, "MB/s", values)
        elif workload.size_bytes >= 1 << 17:
            results.add(f"put {workload.name}", name, "MB/s", megabytes)
        else:
            results.add(f"put {workload.name}", name, "/s", values)


@PER_WORKLOAD
def test_get(benchmark, stores, results, workload):
    batches = workload.batches_of_items()
    for store in stores.values():
        for batch in batches:
            store.put_batch(batch)
    keys = [key for batch in batches for key, _ in batch]
    rng = random.Random(1)
    contestants = {
        name: partial(get_round, store, rng.choices(keys, k=GETS_PER_ROUND))
        for name, store in stores.items()
    }
    for name, values in race(benchmark, "blkdev", contestants).items():
        results.add(f"get {workload.name}", name, "/s", values)


def test_single_durable_put(benchmark, stores, results, disk):
    contestants: dict[str, Round] = {
        name: partial(put_round, store, SINGLE_PUT) for name, store in stores.items()
    }
    contestants["limit: 4 KiB + flush"] = lambda: disk.flushed_pages(SINGLE_PUT.batches)
    for name, values in race(benchmark, "blkdev", contestants).items():
        results.add("single durable put", name, "/s", values)
