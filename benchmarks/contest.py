"""Contestants of a race about blocks, each on a disk of its own: ours on the raw device, the
rivals on an ext4 on theirs. Without the right to make loop devices all of them share the folder's
file system, and what the kernel counts of a device is not known.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from benchmarks import counters, machine
from benchmarks.counters import Counters
from benchmarks.race import Timed
from benchmarks.rivals import go_datastores
from benchmarks.rivals.devices import Ext4, LoopDevice, can_loop
from benchmarks.rivals.go_datastores import GoDatastore
from benchmarks.rivals.stores import STORES, Blkdev, KeyValueStore
from benchmarks.workloads import Blocks, absent_key

OWN = "blkdev"
ON_BOARD = (OWN, "leveldb", "lmdb", "go-ds-flatfs", "go-ds-flatfs, no sync")
"""Those that a goal names: each flush of a board's disk costs what thousands do elsewhere."""


class Contestant(Protocol):
    """A store that times its own work on the blocks that were prepared last."""

    def prepare(self, blocks: Blocks) -> None: ...

    def put(self) -> Timed:
        """All blocks, batch by batch, durable after each."""

    def get(self, order: Sequence[int], *, each: bool = False) -> Timed:
        """The values of these blocks, by number; `each` times every one by itself."""

    def has(self, order: Sequence[int], *, absent: bool = False) -> Timed:
        """Whether these blocks are there; `absent` asks for as many that are not."""

    def delete(self) -> Timed:
        """All blocks, batch by batch, durable after each."""

    def reopen(self) -> None:
        """Close and open the store, so that it has nothing in memory but its index."""

    def close(self) -> None: ...


class InProcess:
    """A key-value store of this process as a contestant."""

    def __init__(self, store: KeyValueStore) -> None:
        self.store = store
        self._blocks: Blocks | None = None

    def prepare(self, blocks: Blocks) -> None:
        self._blocks = blocks
        blocks.batches()

    def put(self) -> Timed:
        done = Timed(0, [])
        for batch in self._prepared().batches():
            started = time.perf_counter()
            self.store.put_batch(batch)
            done = _and(done, len(batch), started)
        return done

    def get(self, order: Sequence[int], *, each: bool = False) -> Timed:
        keys = self._keys(order)
        get, clock = self.store.get, time.perf_counter
        if each:
            times = [(clock(), get(key), clock()) for key in keys]
            return Timed(len(keys), [ended - began for began, _, ended in times])
        started = clock()
        for key in keys:
            get(key)
        return _and(Timed(0, []), len(keys), started)

    def has(self, order: Sequence[int], *, absent: bool = False) -> Timed:
        keys = [absent_key(number) for number in order] if absent else self._keys(order)
        has = self.store.has
        started = time.perf_counter()
        found = [has(key) for key in keys]
        done = _and(Timed(0, []), len(keys), started)
        if found != [not absent] * len(keys):
            raise AssertionError(f"has found {sum(found)} of {len(keys)}")
        return done

    def delete(self) -> Timed:
        done = Timed(0, [])
        for batch in self._prepared().batches():
            keys = [key for key, _ in batch]
            started = time.perf_counter()
            self.store.delete_batch(keys)
            done = _and(done, len(keys), started)
        return done

    def reopen(self) -> None:
        self.store.reopen()

    def close(self) -> None:
        self.store.close()

    def _prepared(self) -> Blocks:
        assert self._blocks is not None, "prepare comes first"
        return self._blocks

    def _keys(self, order: Sequence[int]) -> list[bytes]:
        keys = self._prepared().keys()
        return [keys[number] for number in order]


def _and(done: Timed, count: int, started: float) -> Timed:
    return Timed(done.amount + count, [*done.seconds, time.perf_counter() - started])


class Contest:
    """All contestants that are installed, or those named, until `close`."""

    def __init__(self, folder: Path, disk_size_bytes: int, names: Sequence[str] = ()) -> None:
        self.contestants: dict[str, Contestant] = {}
        self.devices: dict[str, str] = {}
        """Paths of their block devices; none where there are no loop devices."""
        self.stored: set[Blocks] = set()
        """What every contestant has, noted by who put it."""
        self._folders: dict[str, Path] = {}
        with ExitStack() as undo:
            for name in names or contestants_here():
                place = folder / name.replace(", ", "-").replace(" ", "-")
                place.mkdir(parents=True)
                undo.callback(shutil.rmtree, place)
                self._add(name, place, disk_size_bytes, undo)
            self._undo = undo.pop_all()

    def _add(self, name: str, place: Path, disk_size_bytes: int, undo: ExitStack) -> None:
        disk: LoopDevice | Ext4 | None = None
        if can_loop():
            if name == OWN:
                disk = LoopDevice(place / "disk.img", disk_size_bytes)
            else:
                disk = Ext4(place, disk_size_bytes)
            undo.callback(disk.close)
            self.devices[name] = disk.path
        where = place if disk is None else Path(disk.path) if name == OWN else disk.folder
        self._folders[name] = where
        if name in go_datastores.KINDS:
            kind, synced = go_datastores.KINDS[name]
            self.contestants[name] = GoDatastore(kind, where, synced=synced)
        else:
            self.contestants[name] = InProcess(STORES[name](where))
        undo.callback(self.contestants[name].close)
        if isinstance(disk, LoopDevice):
            # Making the store discarded the device.
            disk.fill()

    def close(self) -> None:
        self._undo.close()

    @property
    def own(self) -> Blkdev:
        contestant = self.contestants[OWN]
        assert isinstance(contestant, InProcess)
        assert isinstance(contestant.store, Blkdev)
        return contestant.store

    def counters(self, name: str) -> Counters:
        """What its device has done so far."""
        return counters.of(self.devices[name])

    def settled(self) -> dict[str, Counters]:
        """What all devices have done, with all that file systems still held back."""
        os.sync()
        return {name: counters.of(device) for name, device in self.devices.items()}

    def used_bytes(self, name: str) -> int:
        """Of its disk: by ours and its own count, by the others and their file system's."""
        if name == OWN:
            return self.own.store.stats().used_bytes
        os.sync()
        status = os.statvfs(self._folders[name])
        return (status.f_blocks - status.f_bfree) * status.f_frsize


def contestants_here() -> list[str]:
    """All that are installed, or those of a board."""
    known = [*STORES, *go_contestants()]
    return [name for name in known if name in ON_BOARD] if machine.on_board() else known


def go_contestants() -> list[str]:
    """Kubo's datastores, where `make peers` has built them."""
    return list(go_datastores.KINDS) if go_datastores.program().exists() else []
