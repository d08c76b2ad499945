"""What only our own engine is asked: parallel ingest, opening after a crash, churn, compaction.

python -m benchmarks.engine PATH SIZE     the process that crashes: puts a tail, never closes
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path

from benchmarks.race import Round
from benchmarks.workloads import KIBIBYTE, MEBIBYTE, Blocks, BlockWorkload
from blkdev.device import open_device
from blkdev.devices.file import FileDevice
from blkdev.store import Store
from ipld import multihash as multihashes

STORE_SIZE_BYTES = 4 << 30
TAIL_BYTES = 60 * MEBIBYTE
"""Of payload: with its headers a little less than what makes the store write a checkpoint."""
CHURN_DISK_BYTES = 512 * MEBIBYTE
_CHURN_SIZE_BYTES = 16 * KIBIBYTE
_CHURN_BATCH = 64


def ingest(store: Store, workload: BlockWorkload, *, threads: int) -> Round:
    """MB of blocks hashed and put, every batch durable before the next one is acknowledged.

    So many threads hash the next batches while one is stored and the one before that committed; a
    single thread does all of it, one after the other.
    """
    numbers = count()

    def hashed(batch: list[bytes]) -> list[tuple[bytes, bytes]]:
        digest = multihashes.digest_multihash
        return [(digest(multihashes.SHA2_256, value), value) for value in batch]

    def prepare() -> Callable[[], float]:
        batches = Blocks(f"ingest/{threads}/{next(numbers)}", workload).batches()
        values = [[bytes(value) for _, value in batch] for batch in batches]

        def in_turn() -> float:
            for batch in values:
                store.put_many(hashed(batch))
                store.commit()
            return workload.total_bytes / 1e6

        def at_once() -> float:
            with ThreadPoolExecutor(threads) as hashing, ThreadPoolExecutor(1) as committing:
                acknowledged = []
                for batch in hashing.map(hashed, values):
                    store.put_many(batch)
                    acknowledged.append(committing.submit(store.commit))
                for commit in acknowledged:
                    commit.result()
            return workload.total_bytes / 1e6

        return at_once if threads > 1 else in_turn

    return prepare


def new_store(path: Path) -> Path:
    """A formatted sparse file."""
    device = FileDevice(path, create_size_bytes=STORE_SIZE_BYTES)
    Store.format(device, force=True)
    device.close()
    return path


def open_and_close(path: Path) -> float:
    """Recover and let go again without leaving a clean store behind; amount 1."""
    store = Store.open(open_device(path), verify_reads=False)
    replayed = store.recovery.bytes_replayed
    store.device.close()
    if replayed < TAIL_BYTES:
        raise AssertionError(f"only {replayed} bytes were after the last checkpoint")
    return 1


def crash(path: Path, size_bytes: int) -> None:
    """Another process puts a tail of blocks after a checkpoint and ends without closing."""
    command = [sys.executable, "-m", "benchmarks.engine", str(path), str(size_bytes)]
    subprocess.run(command, check=True)


def _put_a_tail_and_die(path: Path, size_bytes: int) -> None:
    store = Store.open(open_device(path), verify_reads=False)
    store.compact()
    store.checkpoint()
    blocks = fresh(size_bytes)
    for _ in range(TAIL_BYTES // MEBIBYTE):
        store.put_many([next(blocks) for _ in range(-(-MEBIBYTE // size_bytes))])
    store.commit()
    os._exit(0)


def fresh(size_bytes: int) -> Iterator[tuple[bytes, bytes]]:
    """Blocks that nobody has, for ever; the keys are random and not hashes, which nobody checks."""
    rng = random.Random(os.urandom(8))
    while True:
        yield rng.randbytes(34), rng.randbytes(size_bytes)


def fill(store: Store, full: float) -> list[bytes]:
    """Put blocks until that share of the store is alive; their keys."""
    blocks = fresh(_CHURN_SIZE_BYTES)
    keys: list[bytes] = []
    while store.stats().live_bytes < full * store.stats().capacity_bytes:
        batch = [next(blocks) for _ in range(_CHURN_BATCH)]
        store.put_many(batch)
        keys += [key for key, _ in batch]
    store.commit()
    return keys


def replace(store: Store, keys: list[bytes]) -> int:
    """Replace random ones of these blocks until as much was put as the store can hold; the bytes
    that were put. Done once, every segment has been through compaction."""
    rng, blocks = random.Random(3), fresh(_CHURN_SIZE_BYTES)
    turns = store.stats().capacity_bytes // (_CHURN_BATCH * _CHURN_SIZE_BYTES)
    for _ in range(turns):
        places = rng.sample(range(len(keys)), _CHURN_BATCH)
        store.delete_many([keys[place] for place in places])
        batch = [next(blocks) for _ in range(_CHURN_BATCH)]
        store.put_many(batch)
        store.commit()
        for place, (key, _) in zip(places, batch, strict=True):
            keys[place] = key
    return turns * _CHURN_BATCH * _CHURN_SIZE_BYTES


@dataclass
class SpaceBack:
    """What compaction gave back, and how long each put with its commit took meanwhile."""

    reclaimed_percent: float = 0.0
    waits_s: list[float] = field(default_factory=list)


def space_back(store: Store) -> SpaceBack:
    """Delete every other of many blocks, then compact while another thread puts and commits."""
    blocks = fresh(_CHURN_SIZE_BYTES)
    wanted = CHURN_DISK_BYTES // 2 // _CHURN_SIZE_BYTES
    keys = []
    for _ in range(wanted // _CHURN_BATCH):
        batch = [next(blocks) for _ in range(_CHURN_BATCH)]
        store.put_many(batch)
        keys += [key for key, _ in batch]
    store.delete_many(keys[::2])
    store.commit()
    dead = store.stats().dead_bytes
    result, ended = SpaceBack(), threading.Event()

    def write() -> None:
        for item in islice(blocks, wanted // 4):
            if ended.is_set():
                break
            started = time.perf_counter()
            store.put_many([item])
            store.commit()
            result.waits_s.append(time.perf_counter() - started)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        store.compact()
    finally:
        ended.set()
        writer.join()
    result.reclaimed_percent = 100 * (1 - store.stats().dead_bytes / dead)
    return result


if __name__ == "__main__":
    _put_a_tail_and_die(Path(sys.argv[1]), int(sys.argv[2]))
