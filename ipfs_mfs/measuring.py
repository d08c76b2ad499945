"""How fast a store is, beside what its device and this machine can do at best.

Limits and rows are measured in one run, so a row is compared with a limit that saw the same disk,
the same processor and the same neighbours. Where a row says "put", each batch ends in a commit.

Invariants
- What is stored here is random, and deleted at the end whatever happens; nothing else is touched.
- The device is written beside the store only in a free segment, and only with what was there.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from ipfs_mfs.errors import NoRoom
from ipfs_mfs.sizes import size_text
from ipld import cid as cids
from ipld import multihash as multihashes
from repo.blocks_blkdev import BlkdevBlocks

if TYPE_CHECKING:
    from blkdev.store import Store

ROOM_MIN_BYTES = 128 << 20
PUT_MAX_BYTES = 256 << 20
"""What one row stores at most, however long it may run."""
LARGE_BYTES = 256 << 10
PAGE_BYTES = 4 << 10
SMALL_BYTES = 300
LARGE_BATCH = 16
SMALL_BATCH = 128
_SOURCE_BYTES = 4 << 20
_LOOKS = 256
"""Reads between two looks at the clock."""

Item = tuple[bytes, bytes]
Step = Callable[[], float]
"""Does some work and returns how much; 0 ends the row early."""


class Limit(NamedTuple):
    """What the machine can do: `value` in `unit`."""

    name: str
    value: float
    unit: str


class Row(NamedTuple):
    """What the store does. `ratio` is its share of `limit`, None where nothing limits it in that
    unit; percentiles are of a batch with its commit, or None."""

    name: str
    value: float
    unit: str
    limit: str
    ratio: float | None
    p50_ms: float | None
    p99_ms: float | None


class Measured(NamedTuple):
    """One run. `blocks` is how many were stored, and deleted again."""

    store: str
    device_bytes: int
    cores: int
    seconds: float
    blocks: int
    limits: tuple[Limit, ...]
    rows: tuple[Row, ...]


class Pace(NamedTuple):
    """Amount per second, and the seconds of every step."""

    rate: float
    seconds: list[float]

    def percentile_ms(self, percent: int) -> float:
        ordered = sorted(self.seconds)
        return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] * 1e3


def pace(step: Step, budget_s: float, prepare: Callable[[], object] = lambda: None) -> Pace:
    """Repeat until the time is used up; at least once. `prepare` is not timed."""
    amount, seconds = 0.0, list[float]()
    while not seconds or sum(seconds) < budget_s:
        prepare()
        started = time.perf_counter()
        done = step()
        seconds.append(time.perf_counter() - started)
        amount += done
        if not done:
            break
    return Pace(amount / max(sum(seconds), 1e-9), seconds)


class Measuring:
    """Measures one open store, which nobody else uses meanwhile."""

    def __init__(self, store: Store, seconds: float, progress: Callable[[int, int], None]) -> None:
        self._store = store
        self._blocks = BlkdevBlocks(store)
        self._seconds = seconds
        self._progress = progress
        self._cores = os.cpu_count() or 1
        self._source = os.urandom(_SOURCE_BYTES)
        self._count = 0
        self._stored: list[bytes] = []
        self._limits: list[Limit] = []
        self._rows: list[Row] = []

    def run(self) -> Measured:
        """Everything, in about the seconds asked for. Raises NoRoom and the engine's errors."""
        free = self._store.stats().free_bytes
        if free < ROOM_MIN_BYTES:
            raise NoRoom(
                f"{self._store.device.name} has {size_text(free)} free; measuring takes "
                f"{size_text(ROOM_MIN_BYTES)}",
                "make room with gc and compact, or measure another store",
            )
        self._put_max_bytes = min(free // 8, PUT_MAX_BYTES)
        parts = (
            self._hashing, self._copying, self._device, self._large, self._cold, self._small,
            self._reads, self._looks,
        )  # fmt: skip
        self._budget_s = self._seconds / 18
        started = time.perf_counter()
        try:
            for number, part in enumerate(parts):
                self._progress(number, len(parts))
                part()
            blocks = len(self._stored)
            self._deletes()
        finally:
            self._clean_up()
        return Measured(
            store=self._store.device.name,
            device_bytes=self._store.device.size_bytes,
            cores=self._cores,
            seconds=round(time.perf_counter() - started, 3),
            blocks=blocks,
            limits=tuple(self._limits),
            rows=tuple(self._rows),
        )

    # Limits

    def _hashing(self) -> None:
        def hashes(size_bytes: int) -> Step:
            data = self._source[:size_bytes]

            def step() -> float:
                for _ in range(_LOOKS):
                    hashlib.sha256(data).digest()
                return _LOOKS * size_bytes / 1e6

            return step

        self._limit("SHA-256, one core, 256 KiB", hashes(LARGE_BYTES), "MB/s")
        self._limit("SHA-256, one core, 4 KiB", hashes(PAGE_BYTES), "MB/s")
        one = hashes(LARGE_BYTES)
        with ThreadPoolExecutor(self._cores) as pool:
            everywhere = range(self._cores)
            self._limit(
                "SHA-256, all cores", lambda: sum(pool.map(lambda _: one(), everywhere)), "MB/s"
            )

    def _copying(self) -> None:
        source = memoryview(self._source)

        def copies() -> float:
            for at in range(0, _SOURCE_BYTES, LARGE_BYTES):
                bytes(source[at : at + LARGE_BYTES])
            return _SOURCE_BYTES / 1e6

        self._limit("memory copy, 256 KiB", copies, "MB/s")

    def _device(self) -> None:
        device, (offset, length) = self._store.device, self._store.spare_range()
        content = device.read(offset, length)
        chunk_bytes = min(length, 1 << 20)

        blank = not any(content)

        def as_it_was() -> None:
            # What was never written costs the disk below more than what was: so it does the store.
            if blank:
                device.discard(offset, length)

        def sequential() -> float:
            for at in range(0, length, chunk_bytes):
                device.write(offset + at, (memoryview(content)[at : at + chunk_bytes],))
            device.sync()
            return length / 1e6

        def page() -> float:
            device.write(offset, (content[:PAGE_BYTES],))
            device.sync()
            return 1

        self._limit("device write", sequential, "MB/s", as_it_was)
        self._limit("4 KiB write and flush", page, "/s")
        order = random.Random(length).sample(range(0, length, LARGE_BYTES), length // LARGE_BYTES)
        reads = iter(order)

        def cold() -> float:
            at = next(reads, None)
            return 0 if at is None else len(device.read(offset + at, LARGE_BYTES)) / 1e6

        if self._forget_cached():
            self._limit("device read, 256 KiB", cold, "MB/s")
        as_it_was()

    # Puts

    def _large(self) -> None:
        limits = ("SHA-256, all cores", "device write")
        with ThreadPoolExecutor(self._cores) as pool:

            def hashed(values: list[bytes]) -> int:
                items = [_item(value) for value in values]
                self._put(items)
                return sum(map(len, values))

            def ingest(batches: list[list[bytes]]) -> float:
                return sum(pool.map(hashed, batches)) / 1e6

            batches = self._fresh_values(LARGE_BYTES, LARGE_BATCH)
            several = iter(lambda: [next(batches) for _ in range(self._cores)], None)
            size = LARGE_BYTES * LARGE_BATCH * self._cores
            self._puts("hash and put 256 KiB", ingest, several, size, limits, "MB/s")

        def put(items: list[Item]) -> float:
            self._put(items)
            return len(items) * LARGE_BYTES / 1e6

        size = LARGE_BYTES * LARGE_BATCH
        made = self._fresh_items(LARGE_BYTES, LARGE_BATCH)
        self._puts("put 256 KiB", put, made, size, ("device write",), "MB/s")
        self._large_keys = self._stored.copy()

    def _small(self) -> None:
        def put(items: list[Item]) -> float:
            self._put(items)
            return len(items)

        for name, size_bytes in (("4 KiB", PAGE_BYTES), ("300 B", SMALL_BYTES)):
            made = self._fresh_items(size_bytes, SMALL_BATCH)
            before = len(self._stored)
            self._puts(f"put {name}, batches of 128", put, made, size_bytes * SMALL_BATCH, (), "/s")
            if size_bytes == PAGE_BYTES:
                self._page_keys = self._stored[before:]
        made = self._fresh_items(PAGE_BYTES, 1)
        limits = ("4 KiB write and flush",)
        self._puts("put 4 KiB, one by one", put, made, PAGE_BYTES, limits, "/s")

    def _puts(
        self,
        name: str,
        put: Callable[..., float],
        made: Iterator[Sequence[object]],
        size_bytes: int,
        limits: Sequence[str],
        unit: str,
    ) -> None:
        """A row of puts; what is put next is made before the clock runs."""
        ready: list[Sequence[object]] = []
        room = self._put_max_bytes

        def make() -> None:
            ready[:] = [next(made)]

        def step() -> float:
            nonlocal room
            if room < size_bytes:
                return 0
            room -= size_bytes
            return put(ready[0])

        self._row(name, pace(step, self._budget_s, make), limits, unit, percentiles=True)

    def _put(self, items: list[Item]) -> None:
        self._stored += [key for key, _ in items]
        self._store.put_many(items)
        self._store.commit()

    # Reads

    def _cold(self) -> None:
        keys = random.Random(1).sample(self._large_keys, min(_LOOKS, len(self._large_keys)))
        waiting = iter(keys)

        def read() -> float:
            key = next(waiting, None)
            return 0 if key is None else len(self._store.get(key)) / 1e6

        if self._forget_cached():
            self._row("get 256 KiB, cold", pace(read, self._budget_s), _READ, "MB/s")

    def _reads(self) -> None:
        for name, keys, size_bytes in (
            ("256 KiB", self._large_keys, LARGE_BYTES),
            ("4 KiB", self._page_keys, PAGE_BYTES),
        ):
            named = [cids.make(1, cids.RAW, key) for key in _some(keys)]

            def verified(named: list[bytes] = named, size_bytes: int = size_bytes) -> float:
                self._blocks.forget_verified()
                for cid in named:
                    with self._blocks.view(cid):
                        pass
                return len(named) * size_bytes / 1e6

            verified()
            limits = (f"SHA-256, one core, {name}",)
            timed = pace(verified, self._budget_s)
            self._row(f"get {name}, verified", timed, limits, "MB/s")

        def copied() -> float:
            for key in keys:
                self._store.get(key)
            return len(keys) * LARGE_BYTES / 1e6

        keys = _some(self._large_keys)
        self._row("get 256 KiB", pace(copied, self._budget_s), ("memory copy, 256 KiB",), "MB/s")

    def _looks(self) -> None:
        store, keys = self._store, _some(self._page_keys)
        absent = [_item(b"absent" + key)[0] for key in keys]

        def views() -> float:
            for key in keys:
                with store.view(key):
                    pass
            return len(keys)

        for name, step in (
            ("view 4 KiB without a copy", views),
            ("has, there", lambda: len(store.has_many(keys))),
            ("has, not there", lambda: len(store.has_many(absent))),
        ):
            self._row(name, pace(step, self._budget_s), (), "/s")

    # Deletes

    def _deletes(self) -> None:
        def delete() -> float:
            batch, self._stored = self._stored[:SMALL_BATCH], self._stored[SMALL_BATCH:]
            self._store.delete_many(batch)
            self._store.commit()
            return len(batch)

        self._row("delete, batches of 128", pace(delete, self._budget_s), (), "/s")

    def _clean_up(self) -> None:
        self._store.delete_many(self._stored)
        self._stored = []
        self._store.commit()
        self._store.compact()

    # What all of them use

    def _fresh_values(self, size_bytes: int, count: int) -> Iterator[list[bytes]]:
        """Batches of values that nobody has, for ever."""
        while True:
            batch = []
            for _ in range(count):
                self._count += 1
                at = self._count * 4099 % (_SOURCE_BYTES - size_bytes)
                stamp = self._count.to_bytes(8, "little")
                batch.append(stamp + self._source[at : at + size_bytes - len(stamp)])
            yield batch

    def _fresh_items(self, size_bytes: int, count: int) -> Iterator[list[Item]]:
        return (
            [_item(value) for value in batch] for batch in self._fresh_values(size_bytes, count)
        )

    def _forget_cached(self) -> bool:
        """Ask the system to read from the device what is read next; False where it cannot be."""
        descriptor = self._store.device.descriptor
        if descriptor is None:
            return False
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return True

    def _limit(
        self, name: str, step: Step, unit: str, prepare: Callable[[], object] = lambda: None
    ) -> None:
        rate = pace(step, self._budget_s, prepare).rate
        self._limits.append(Limit(name, _rounded(rate), unit))

    def _row(
        self, name: str, timed: Pace, limits: Sequence[str], unit: str, *, percentiles: bool = False
    ) -> None:
        known = {limit.name: limit.value for limit in self._limits}
        lowest = min(
            (limit for limit in limits if limit in known), key=known.__getitem__, default=""
        )
        self._rows.append(
            Row(
                name=name,
                value=_rounded(timed.rate),
                unit=unit,
                limit=lowest,
                ratio=round(timed.rate / known[lowest], 3) if lowest else None,
                p50_ms=round(timed.percentile_ms(50), 3) if percentiles else None,
                p99_ms=round(timed.percentile_ms(99), 3) if percentiles else None,
            )
        )


_READ = ("device read, 256 KiB",)


def _item(value: bytes) -> Item:
    return multihashes.digest_multihash(multihashes.SHA2_256, value), value


def _some(keys: list[bytes]) -> list[bytes]:
    return random.Random(2).choices(keys, k=_LOOKS)


def _rounded(value: float) -> float:
    """Four significant digits: more would be noise."""
    return float(f"{value:.4g}")
