"""Dying disks behind a real kernel: the store's process lives, and keeps what it acknowledged.

The disk is a loop device over a file that tests/blkdev/faultdisk.py serves; the store is held by a
process of its own (tests/blkdev/holder.py), so that a SIGBUS would be its end and not ours.
"""

import contextlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from blkdev.device import open_device
from blkdev.store import Store
from tests.blkdev import loops
from tests.blkdev.devices import MIB, SIZE_BYTES, assert_sound, block, blocks, contents
from tests.blkdev.holder import ANSWER_S, Holder, held

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_fuse]

SEGMENT_SIZE_BYTES = 512 << 10
SEGMENTS = [(8 * MIB, SIZE_BYTES)]
"""Everything behind the first two copies of the superblock."""
ITEMS = blocks(0, 20, 100_000) + blocks(100, 40)


class Disk:
    """A loop device over the fault disk."""

    def __init__(self, mountpoint: Path) -> None:
        command = [sys.executable, "-m", "tests.blkdev.faultdisk", str(mountpoint), str(SIZE_BYTES)]
        self._mountpoint = mountpoint
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.device = ""
        assert json.loads(self._process.stdout.readline()) == "ready"
        self.plug()

    def ask(self, request: object) -> object:
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def set(self, **faults: object) -> None:
        assert self.ask(faults) is True

    def flushes(self) -> int:
        counts = self.ask("counts")
        assert isinstance(counts, dict)
        return int(counts["flushes"])

    def plug(self) -> None:
        self.device = loops.attach(self._mountpoint / "disk")

    def unplug(self) -> None:
        loops.detach(self.device)
        self.device = ""

    def power_cut(self, holder: Holder) -> None:
        """The machine goes down with its caches; afterwards the disk is as good as new."""
        self.set(unplugged=True)
        holder.kill()
        self.unplug()
        self.ask("cut")
        self.heal()
        self.plug()

    def heal(self) -> None:
        self.set(
            unreadable=[], unwritable=[], full=False, failing_flush=False, lying_flush=False,
            torn_at=-1, unplugged=False, delay_s=0.0,
        )  # fmt: skip

    def close(self) -> None:
        if self.device:
            self.heal()
            self.unplug()
        self._process.stdin.close()
        try:
            self._process.wait(ANSWER_S)
        finally:
            self._process.kill()
            self._process.stdout.close()


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    """A disk with a store of ITEMS, closed."""
    made = Disk(tmp_path)
    with contextlib.closing(made):
        device = open_device(made.device)
        Store.format(device, segment_size_bytes=SEGMENT_SIZE_BYTES)
        with Store.open(device) as store:
            store.put_many(ITEMS)
        yield made


def reopened(disk: Disk) -> dict[bytes, bytes]:
    """What a new process finds."""
    with Store.open(open_device(disk.device)) as store:
        assert_sound(store)
        return contents(store)


def test_each_commit_is_exactly_one_flush_of_the_disk(disk):
    with held(disk.device) as holder:
        holder.must("put(store, blocks(200, 1)); store.commit()")
        for batch in (1, 3, 100):
            before = disk.flushes()
            for first in range(1000 * batch, 1000 * batch + 5 * batch, batch):
                holder.must(f"put(store, blocks({first}, {batch}))")
                holder.must("store.set_name(b'root', b'value')")
                holder.must("store.commit()")
            assert disk.flushes() == before + 5
        before = disk.flushes()
        holder.must("store.commit()")
        assert disk.flushes() == before


def test_committers_that_meet_share_flushes_of_the_disk(disk):
    with held(disk.device) as holder:
        holder.must("put(store, blocks(200, 1)); store.commit()")
        disk.set(delay_s=0.02)
        before = disk.flushes()
        holder.must(
            "import threading; "
            "work = lambda n: [(store.put_many(blocks(n * 100 + i, 1)), store.commit())"
            " for i in range(5)]; "
            "threads = [threading.Thread(target=work, args=(n,)) for n in range(20, 28)]; "
            "[t.start() for t in threads]; [t.join() for t in threads]"
        )
        assert disk.flushes() - before < 8 * 5
        disk.power_cut(holder)
    found = reopened(disk)
    assert all(found.get(block(n * 100 + i)[0]) for n in range(20, 28) for i in range(5))


@pytest.mark.parametrize("read", ["get", "view", "part"])
@pytest.mark.parametrize("number", [3, 105], ids=["large", "small"])
def test_unreadable_sectors_are_damage_with_the_key_and_kill_nobody(disk, number, read):
    key = block(number, 100_000 if number < 100 else 300)[0]
    how = {
        "get": "store.get(key) == value",
        "view": "store.view(key).__enter__() == value",
        "part": "store.get_part(key, 1, 200) == value[1:201]",
    }[read]
    with held(disk.device) as holder:
        size = 100_000 if number < 100 else 300
        holder.must(f"key, value = block({number}, {size})")
        # What opening read is cached, and no fault of the disk.
        holder.must("import os; os.posix_fadvise(store.device._descriptor, 0, 0, 4)")
        disk.set(unreadable=SEGMENTS)
        # What the system has in memory it may serve, and that is right, too.
        Path("/proc/sys/vm/drop_caches").write_text("1")
        assert holder.ask(how).startswith(f"! BlockDamaged: key {key.hex()} at device offset")
        holder.must("put(store, blocks(500, 5)); store.commit()")
        holder.must("assert_holds(store, blocks(500, 5))")
        disk.heal()
        assert holder.must(how) == "True"
        holder.must("assert_holds(store, blocks(0, 20, 100_000)); assert_sound(store)")


def test_disk_that_became_unreadable_is_opened_as_far_as_it_can_be_read(disk):
    disk.set(unreadable=SEGMENTS)
    holder = Holder(disk.device)
    try:
        # The checkpoint cannot be read, so nothing in the log can be told: an answer, not a crash.
        assert holder.opened.startswith(("= ", "! "))
        assert "Error: " not in holder.opened
    finally:
        holder.kill()
    disk.heal()
    with Store.open(open_device(disk.device), read_only=True) as store:
        assert set(contents(store)) <= set(dict(ITEMS))


@pytest.mark.parametrize(
    "fault", [{"failing_flush": True}, {"unwritable": SEGMENTS}, {"full": True}],
    ids=["flush", "write", "no-space"],
)  # fmt: skip
def test_failed_flush_or_write_latches_and_what_was_acknowledged_stays(disk, fault):
    with held(disk.device) as holder:
        holder.must("put(store, blocks(200, 30)); store.commit()")
        disk.set(**fault)
        holder.must("put(store, blocks(300, 30))")
        answer = holder.ask("store.commit()")
        assert answer.startswith("! StoreReadOnly"), answer
        disk.heal()
        # The disk is well again, and asking it once more would say so: it must not be asked.
        flushes = disk.flushes()
        for write in ("store.commit()", "store.put_many(blocks(400, 1))", "store.compact()"):
            assert holder.ask(write).startswith("! StoreReadOnly")
        assert disk.flushes() == flushes
        holder.must("assert_holds(store, blocks(200, 30) + blocks(0, 20, 100_000))")
        assert holder.must("store.stats().latched") == "True"
        disk.power_cut(holder)
    found = reopened(disk)
    acknowledged = dict(ITEMS + blocks(200, 30))
    assert {key: found[key] for key in acknowledged} == acknowledged
    assert found.items() <= (acknowledged | dict(blocks(300, 30))).items()


def test_slow_disk_only_takes_longer(disk):
    disk.set(delay_s=0.01)
    with held(disk.device) as holder:
        holder.must("put(store, blocks(200, 30)); store.commit()")
        holder.must("store.delete_many([key for key, _ in blocks(0, 10, 100_000)])")
        holder.must("store.commit(); store.compact(); store.checkpoint()")
        holder.must("assert_holds(store, blocks(10, 10, 100_000)); assert_sound(store)")
        disk.power_cut(holder)
    assert reopened(disk) == dict(ITEMS[10:] + blocks(200, 30))


def test_unplugged_disk_gives_typed_errors_and_comes_back_whole(disk):
    with held(disk.device) as holder:
        holder.must("put(store, blocks(200, 30)); store.commit()")
        disk.set(unplugged=True)
        holder.must("put(store, blocks(300, 3))")
        assert holder.ask("store.commit()").startswith("! StoreReadOnly")
        for read in (
            "store.get(block(3, 100_000)[0])",
            "store.view(block(4, 100_000)[0]).__enter__()",
        ):
            assert holder.ask(read).startswith("! BlockDamaged"), read
        assert holder.must("store.has(b'a key that is not there')") == "False"
        report = holder.must("[finding.what for finding in store.check().findings][:1]")
        assert "damaged" in report
        assert holder.must("store.close()") == "None"
        # No error above keeps a map, and with it the device, beyond the close.
        assert holder.ask("opened(path)").startswith(("! NotAStore", "! OSError"))
        disk.power_cut(holder)
    assert reopened(disk) == dict(ITEMS + blocks(200, 30))


@pytest.mark.slow
def test_torn_writes_are_there_whole_or_not_at_all(disk):
    rng = random.Random(4)
    acknowledged = dict(ITEMS)
    for number, torn_at in enumerate(
        (0, 512, 1024, 4096, 8192, *rng.sample(range(0, 90_000, 512), 7))
    ):
        first = 1000 + 100 * number
        with held(disk.device) as holder:
            holder.must(f"put(store, blocks({first}, 10)); store.commit()")
            acknowledged |= dict(blocks(first, 10))
            disk.set(torn_at=torn_at)
            holder.must(f"put(store, blocks({first + 50}, 2, 40_000))")
            assert holder.ask("store.commit()").startswith("! StoreReadOnly")
            disk.power_cut(holder)
        found = reopened(disk)
        torn = dict(blocks(first + 50, 2, 40_000))
        assert {key: found[key] for key in acknowledged} == acknowledged
        assert found.items() - acknowledged.items() in (set(), set(torn.items()))
        acknowledged = found


def test_disk_that_lies_about_flushes_loses_the_newest_end_and_nothing_else(disk):
    with held(disk.device) as holder:
        holder.must("put(store, blocks(200, 30)); store.commit()")
        disk.set(lying_flush=True)
        for number in range(300, 310):
            holder.must(f"put(store, blocks({number}, 1)); store.commit()")
        disk.power_cut(holder)
    assert reopened(disk) == dict(ITEMS + blocks(200, 30))


def test_power_cut_while_nobody_commits_loses_only_what_nobody_acknowledged(disk):
    with held(disk.device) as holder:
        holder.must("put(store, blocks(200, 30)); store.commit()")
        holder.must("put(store, blocks(300, 30)); store.write_out()")
        disk.power_cut(holder)
    assert reopened(disk) == dict(ITEMS + blocks(200, 30))
