"""What an operation costs as the number of blocks grows: small records, in processes of their own,
so that the memory of one measurement is not that of another.

python -m benchmarks.growth grow PATH FROM TO     put records FROM to TO - 1
python -m benchmarks.growth look PATH COUNT       measure a store of COUNT records; prints JSON
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blkdev.device import open_device
from blkdev.store import Store

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
SIZES_DEFAULT = SIZES[:3]
ROUNDS = 5
VALUE_SIZE_BYTES = 32
_BATCH = 1024
_LOOKS = 10_000
_PUTS = (32, 128)
"""Batches of a round, and blocks in a batch."""
_OTHER = 1 << 60
"""Numbers from here on are those of records that no `grow` puts."""

OPERATIONS = ("get", "has, hit", "has, miss", "put, durable in batches of 128")
LIMIT = "limit: read of 64 B"
"""By the system, at random in as many bytes as the store has used: its caches, those of the
processor among them, serve few bytes sooner than many."""


def item(number: int) -> tuple[bytes, bytes]:
    """A record: a key of the form of a multihash, and a small value."""
    digest = hashlib.sha256(number.to_bytes(8, "little")).digest()
    return b"\x12\x20" + digest, digest[:VALUE_SIZE_BYTES]


def grow(path: Path, first: int, end: int) -> None:
    with _open(path) as store:
        for at in range(first, end, _BATCH):
            store.put_many([item(number) for number in range(at, min(end, at + _BATCH))])
            store.commit()


def look(path: Path, count: int) -> dict[str, Any]:
    """Microseconds of each operation in each round, milliseconds of opening, bytes of memory."""
    empty = resident_bytes()
    opened_ms = list[float]()
    store = _timed_open(path, opened_ms)
    rng = random.Random(count)
    there = [item(rng.randrange(count))[0] for _ in range(_LOOKS)]
    absent = [item(_OTHER + number)[0] for number in range(_LOOKS)]
    steps: dict[str, Callable[[], int]] = {
        "get": lambda: len([store.get(key) for key in there]),
        "has, hit": lambda: sum(store.has_many(there)),
        "has, miss": lambda: store.has_many(absent).count(False),
    }
    micros = {name: [_micros(step) for _ in range(ROUNDS)] for name, step in steps.items()}
    stats = store.stats()
    micros[LIMIT] = _reads(path, stats.used_bytes, rng)
    memory = resident_bytes() - empty
    numbers = iter(range(2 * _OTHER, 2 * _OTHER + ROUNDS * _PUTS[0] * _PUTS[1]))
    micros[OPERATIONS[3]] = [_puts(store, numbers) for _ in range(ROUNDS)]
    # Whatever was put to be timed is no part of the store that grows.
    store.delete_many(
        item(2 * _OTHER + number)[0] for number in range(ROUNDS * _PUTS[0] * _PUTS[1])
    )
    store.close()
    for _ in range(ROUNDS - 1):
        _timed_open(path, opened_ms).close()
    return {
        "us": micros,
        "open_ms": opened_ms,
        "index_bytes": stats.index_bytes,
        "keys": stats.keys,
        "memory_bytes": memory,
    }


def _timed_open(path: Path, milliseconds: list[float]) -> Store:
    started = time.perf_counter()
    store = _open(path)
    milliseconds.append((time.perf_counter() - started) * 1e3)
    return store


def _puts(store: Store, numbers: Any) -> float:
    spent = 0.0
    batches, count = _PUTS
    for _ in range(batches):
        batch = [item(next(numbers)) for _ in range(count)]
        started = time.perf_counter()
        store.put_many(batch)
        store.commit()
        spent += time.perf_counter() - started
    return spent / (batches * count) * 1e6


def _reads(path: Path, used_bytes: int, rng: random.Random) -> list[float]:
    places = [rng.randrange(used_bytes) & -64 for _ in range(_LOOKS)]
    with path.open("rb", buffering=0) as file:
        descriptor = file.fileno()
        return [
            _micros(lambda: len([os.pread(descriptor, 64, place) for place in places]))
            for _ in range(ROUNDS)
        ]


def _micros(step: Callable[[], int]) -> float:
    started = time.perf_counter()
    found = step()
    spent = time.perf_counter() - started
    if found != _LOOKS:
        raise AssertionError(f"{found} of {_LOOKS} as expected")
    return spent / _LOOKS * 1e6


def resident_bytes() -> int:
    """Memory of this process, without pages of files: the kernel takes those when it needs them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise AssertionError("the kernel does not say")


def _open(path: Path) -> Store:
    return Store.open(open_device(path), verify_reads=False)


def ask(*arguments: object) -> Any:
    """One of the two, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.growth", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return json.loads(done.stdout or "null")


if __name__ == "__main__":
    if sys.argv[1] == "grow":
        grow(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        print(json.dumps(look(Path(sys.argv[2]), int(sys.argv[3]))))
