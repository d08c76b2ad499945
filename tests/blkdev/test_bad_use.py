"""Callers, machines and clocks that do what they should not: typed errors, and nothing lost."""

import contextlib
import os
import random
import resource
import subprocess
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from blkdev.compaction.compact import Compactor
from blkdev.device import RamDevice, open_device
from blkdev.devices.file import FileDevice
from blkdev.errors import BlockDamaged, DeviceBusy, StoreClosed, StoreReadOnly
from blkdev.log import Log
from blkdev.store import Store
from tests.blkdev import loops
from tests.blkdev.devices import (
    MIB,
    SIZE_BYTES,
    SMALL_SEGMENT_BYTES,
    FaultyDevice,
    assert_holds,
    assert_sound,
    block,
    blocks,
    contents,
    copied,
    new_store,
    put,
)
from tests.blkdev.holder import held

ITEMS = blocks(0, 60, 3000)
LARGE = blocks(300, 8, 100_000)


@pytest.fixture
def path(tmp_path) -> Path:
    """A plain file with an empty store of large segments."""
    device = FileDevice(tmp_path / "store", create_size_bytes=SIZE_BYTES)
    with contextlib.closing(device):
        Store.format(device, segment_size_bytes=512 << 10)
    return tmp_path / "store"


# ------------------------------------------------------------- in the middle of a compaction


def compacted_with(monkeypatch, interfere) -> tuple[Store, FaultyDevice, int]:
    """A store whose compaction is interfered with before each record that it looks at."""
    store, device = new_store()
    put(store, ITEMS)
    store.delete_many(key for key, _ in ITEMS[::2])
    store.commit()
    copy, met = Compactor.copy, []

    def copy_later(self, victim, some, names):
        for _, record in some:
            if record.key in dict(ITEMS):
                met.append(record.key)
                interfere(store, record.key, record.value)
        return copy(self, victim, some, names)

    monkeypatch.setattr(Compactor, "copy", copy_later)
    assert store.compact().segments_freed
    monkeypatch.undo()
    return store, device, len(met)


def expect(store: Store, device: FaultyDevice, expected: dict[bytes, bytes]) -> None:
    assert contents(store) == expected
    assert_sound(store)
    store.commit()
    again = Store.open(copied(device))
    assert contents(again) == expected
    assert_sound(again)


def test_put_of_a_key_that_compaction_is_copying_stores_it_once(monkeypatch):
    def interfere(store, key, value):
        assert store.put_many([(key, value)]) == 0

    store, device, met = compacted_with(monkeypatch, interfere)
    assert met > 20
    expect(store, device, dict(ITEMS[1::2]))


def test_key_deleted_and_put_again_while_compaction_copies_it_stays(monkeypatch):
    def interfere(store, key, value):
        assert store.delete_many([key]) == 1
        assert store.put_many([(key, value)]) == 1

    store, device, met = compacted_with(monkeypatch, interfere)
    assert met > 20
    expect(store, device, dict(ITEMS[1::2]))


def test_key_deleted_while_compaction_copies_it_stays_away(monkeypatch):
    def interfere(store, key, value):
        assert store.delete_many([key]) == 1

    store, device, met = compacted_with(monkeypatch, interfere)
    gone = 30 - len(contents(store))
    assert gone == met
    left = {key: value for key, value in ITEMS[1::2] if store.has(key)}
    expect(store, device, left)


def test_puts_and_deletes_beside_compactions_agree_with_the_last_word():
    store, device = new_store()
    ended = threading.Event()

    def compact() -> None:
        while not ended.is_set():
            store.compact()

    compactor = threading.Thread(target=compact)
    compactor.start()
    try:
        rng = random.Random(5)
        alive: dict[bytes, bytes] = {}
        for _ in range(600):
            key, value = rng.choice(ITEMS)
            if key in alive:
                assert store.delete_many([key]) == 1
                del alive[key]
            else:
                put(store, [(key, value)])
                alive[key] = value
    finally:
        ended.set()
        compactor.join(60)
    expect(store, device, alive)


# -------------------------------------------------------------------------------- open views


def test_value_deleted_while_a_view_is_open_stays_in_the_view(path):
    with Store.open(open_device(path)) as store:
        put(store, LARGE)
        key, value = LARGE[2]
        with store.view(key) as view:
            store.delete_many(key for key, _ in LARGE)
            store.commit()
            store.compact()
            put(store, blocks(900, 15, 100_000))
            store.commit()
            assert not store.has(key)
            assert view == value
        store.delete_many(key for key, _ in blocks(900, 15, 100_000))
        store.compact()
        assert store.stats().live_bytes < 10_000
        assert_sound(store)


def test_store_closed_while_views_are_open_keeps_their_bytes(path):
    store = Store.open(open_device(path))
    put(store, LARGE)
    store.commit()
    with store.view(LARGE[0][0]) as first, store.view(LARGE[1][0]) as second:
        store.close()
        assert first == LARGE[0][1]
        assert second == LARGE[1][1]
        with pytest.raises(StoreClosed):
            store.get(LARGE[0][0])
    del first, second
    with Store.open(open_device(path)) as store:
        assert contents(store) == dict(LARGE)


# ------------------------------------------------------------------------- forks and closing


def in_fork(action) -> str:
    """What the action returned or raised in a fork of this process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                answer = repr(action())
            except BaseException as error:
                answer = type(error).__name__
            os.write(writer, answer.encode())
        finally:
            os._exit(0)
    os.close(writer)
    answer = os.read(reader, 1000).decode()
    os.close(reader)
    os.waitpid(child, 0)
    return answer


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "locks held by another thread"])
def test_fork_of_the_owner_can_neither_write_nor_read_nor_harm(path, busy):
    store = Store.open(open_device(path))
    put(store, ITEMS)
    writes = [
        lambda: store.put_many([block(1000)]),
        lambda: store.delete_many([ITEMS[0][0]]),
        lambda: store.set_name(b"n", b"v"),
        lambda: store.journal(1).append(b"r"),
        store.commit,
        store.write_out,
        store.compact,
        store.checkpoint,
        store.check,
        lambda: list(store.keys()),
        lambda: store.get(ITEMS[0][0]),
        lambda: store.view(ITEMS[0][0]).__enter__(),
    ]
    taken, ended = threading.Event(), threading.Event()

    def hold() -> None:
        with store._maintenance_lock, store._log.write_lock, store._log.state_lock:
            taken.set()
            ended.wait(60)

    holder = threading.Thread(target=hold)
    if busy:
        holder.start()
        assert taken.wait(60)
    try:
        assert {in_fork(write) for write in writes} == {"StoreClosed"}
        assert in_fork(store.close) == "None"
    finally:
        ended.set()
        if busy:
            holder.join(60)
    put(store, blocks(2000, 5))
    store.close()
    with Store.open(open_device(path)) as again:
        assert contents(again) == dict(ITEMS + blocks(2000, 5))
        assert_sound(again)


def test_fork_that_outlives_the_owner_does_not_keep_the_store(path):
    store = Store.open(open_device(path))
    put(store, LARGE)
    store.commit()
    with store.view(LARGE[0][0]):
        pass
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    try:
        store.close()
        with Store.open(open_device(path)) as again:
            assert_holds(again, LARGE)
    finally:
        os.close(writer)
        os.waitpid(child, 0)


def test_many_threads_closing_at_once_close_once(path, monkeypatch):
    closed = []
    close = FileDevice.close
    monkeypatch.setattr(FileDevice, "close", lambda self: (closed.append(self), close(self)))
    for round_ in range(10):
        store = Store.open(open_device(path))
        put(store, blocks(100 * round_, 20))
        start = threading.Barrier(6)
        errors: list[BaseException] = []

        def work(store=store, start=start, errors=errors) -> None:
            start.wait(60)
            try:
                store.close()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert errors == []
    assert len(closed) == len(set(closed)) == 10
    with Store.open(open_device(path)) as store:
        assert store.recovery.from_checkpoint
        assert store.stats().keys == 200


def test_calls_under_way_while_the_store_is_closed_get_typed_errors(path):
    store = Store.open(open_device(path))
    put(store, ITEMS)
    acknowledged: list[int] = []
    errors: list[BaseException] = []

    def write(thread: int) -> None:
        with contextlib.suppress(StoreClosed, StoreReadOnly):
            for number in range(100_000 * thread, 100_000 * thread + 5000):
                store.put_many([block(number)])
                store.commit()
                acknowledged.append(number)

    def read() -> None:
        with contextlib.suppress(StoreClosed):
            while True:
                assert_holds(store, ITEMS)

    def guarded(work) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    works = [partial(write, 1), partial(write, 2), read, read]
    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 20:
        time.sleep(0.001)
    store.close()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert errors == []
    with Store.open(open_device(path)) as again:
        assert_holds(again, [block(number) for number in acknowledged])
        assert_sound(again)


# ------------------------------------------------------------------- devices that are changed


def test_device_swapped_under_an_open_store_never_gives_the_other_ones_bytes():
    """Same size, same keys, another store: its checksums start from another identity."""
    store, device = new_store()
    put(store, ITEMS)
    store.commit()
    other = RamDevice(SIZE_BYTES)
    Store.format(other, segment_size_bytes=SMALL_SEGMENT_BYTES)
    with Store.open(other) as stranger:
        for key, value in ITEMS:
            stranger.put_many([(key, bytes(len(value)))])
    device.pages.clear()
    device.pages.update(other.pages)
    for key, _ in ITEMS:
        with pytest.raises(BlockDamaged):
            store.get(key)
    assert not store.check().ok
    with Store.open(copied(other)) as whole:
        assert_sound(whole)


def test_file_replaced_under_an_open_store_is_not_touched(path, tmp_path):
    with Store.open(open_device(path)) as store:
        put(store, ITEMS)
        fresh = tmp_path / "fresh"
        with contextlib.closing(FileDevice(fresh, create_size_bytes=SIZE_BYTES)) as device:
            Store.format(device, segment_size_bytes=512 << 10)
        before = fresh.read_bytes()
        fresh.rename(path)
        put(store, LARGE)
        store.commit()
        assert_holds(store, ITEMS + LARGE)
    assert path.read_bytes() == before


@pytest.mark.needs_root
def test_loop_device_that_shrank_under_an_open_store_is_damage_and_not_the_end(tmp_path):
    with loops.attached(tmp_path / "disk", SIZE_BYTES) as name:
        with contextlib.closing(open_device(name)) as device:
            Store.format(device, segment_size_bytes=512 << 10)
        with held(name) as holder:
            holder.must("put(store, blocks(0, 16, 100_000)); store.commit()")
            os.truncate(tmp_path / "disk", 9 * MIB)
            subprocess.run(["losetup", "--set-capacity", name], check=True)
            holder.must("import os; os.posix_fadvise(store.device._descriptor, 0, 0, 4)")
            answers = {
                holder.ask(f"store.get(block({number}, 100_000)[0]) == block({number}, 100_000)[1]")
                for number in range(16)
            }
            kinds = {answer.split(":")[0] for answer in answers}
            assert kinds <= {"= True", "! BlockDamaged"}
            assert "! BlockDamaged" in kinds
            holder.ask("put(store, blocks(100, 10, 100_000))")
            assert holder.ask("store.commit()").startswith("! StoreReadOnly")


# --------------------------------------------------------------------- clocks, memory, signals


@pytest.mark.parametrize("now_ns", [0, -(10**18), (1 << 64) - 1])
def test_clock_that_goes_backwards_changes_nothing(monkeypatch, now_ns):
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    device = RamDevice(SIZE_BYTES)
    Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES)
    for round_ in range(3):
        monkeypatch.setattr(time, "time_ns", lambda at=now_ns - round_ * 10**9: at)
        with Store.open(device) as store:
            put(store, blocks(100 * round_, 50))
            store.delete_many([blocks(100 * round_, 1)[0][0]])
            store.checkpoint()
            store.compact()
    with Store.open(device) as store:
        assert store.stats().keys == 3 * 49
        assert_sound(store)


def test_value_is_read_where_no_address_space_is_left_for_a_map(path):
    with Store.open(open_device(path)) as store:
        put(store, LARGE)
    with held(path) as holder:
        used = "int(open('/proc/self/statm').read().split()[0]) * 4096 + (8 << 20)"
        holder.must(f"import resource; limit = {used}")
        holder.must("resource.setrlimit(resource.RLIMIT_AS, (limit, limit))")
        holder.must("assert_holds(store, blocks(300, 8, 100_000))")
        for number in range(300, 308):
            view = f"store.view(block({number}, 100_000)[0]).__enter__()"
            assert holder.must(f"{view} == block({number}, 100_000)[1]") == "True"
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


def test_memory_that_runs_out_ends_a_put_and_harms_nothing(path):
    with held(path) as holder:
        holder.must("put(store, blocks(0, 60, 3000)); store.commit()")
        used = "int(open('/proc/self/statm').read().split()[0]) * 4096 + (24 << 20)"
        holder.must(f"import resource; limit = {used}")
        holder.must("resource.setrlimit(resource.RLIMIT_AS, (limit, limit))")
        fill = "[store.put_many([(b'%d' % n, bytes(200_000) + b'%d' % n)]) for n in range(999)]"
        hoard = f"hoard = []; [hoard.append(bytes(1 << 18)) for _ in range(999)]; {fill}"
        assert holder.ask(hoard).startswith(("! MemoryError", "! StoreReadOnly"))
        holder.ask("del hoard")
        after = holder.ask("put(store, blocks(500, 3)); store.commit()")
        assert after.startswith(("= None", "! StoreReadOnly", "! MemoryError"))
        acknowledged = ITEMS + (blocks(500, 3) if after == "= None" else [])
        assert holder.must("store.close()") == "None"
    with Store.open(open_device(path)) as store:
        assert_holds(store, acknowledged)
        assert_sound(store)


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()], ids=["memory", "signal"])
@pytest.mark.parametrize("at", range(3))
def test_change_that_ends_halfway_is_never_written(monkeypatch, error, at):
    """The second of three names is not staged: the first must not come alone, or damage others."""
    store, device = new_store()
    put(store, ITEMS)
    store.commit()
    put(store, blocks(500, 3))
    stage, calls = Log._stage, []

    def stage_or_fail(self, draft):
        calls.append(draft)
        if len(calls) > at:
            raise error
        return stage(self, draft)

    monkeypatch.setattr(Log, "_stage", stage_or_fail)
    with pytest.raises(type(error)):
        store.set_names({b"a": b"1", b"b": b"2", b"c": b"3"})
    monkeypatch.undo()
    for write in (store.commit, lambda: store.put_many([block(900)])):
        with pytest.raises(StoreReadOnly, match="interrupted by"):
            write()
    assert_holds(store, ITEMS)
    store.close()
    with Store.open(copied(device)) as again:
        assert contents(again) == dict(ITEMS)
        assert again.names() == []
        assert_sound(again)


def test_storm_of_signals_interrupts_no_call(path):
    with held(path) as holder:
        holder.must("import signal; storm = []; signal.signal(14, lambda *_: storm.append(1))")
        holder.must("signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)")
        for first in range(1000, 1400, 40):
            holder.must(f"put(store, blocks({first}, 40)); store.commit()")
            holder.must(f"assert_holds(store, blocks({first}, 40))")
        holder.must("put(store, blocks(300, 8, 100_000)); store.commit()")
        holder.must("store.delete_many([key for key, _ in blocks(1000, 100)]); store.compact()")
        holder.must("store.checkpoint(); assert_holds(store, blocks(300, 8, 100_000))")
        holder.must("signal.setitimer(signal.ITIMER_REAL, 0)")
        assert int(holder.must("len(storm)")) > 10
        holder.must("store.close()")
    with Store.open(open_device(path)) as store:
        assert contents(store) == dict(blocks(1100, 300) + LARGE)
        assert_sound(store)


def test_second_opening_in_the_same_process_is_busy(path):
    with Store.open(open_device(path)) as store:
        with pytest.raises(DeviceBusy) as caught:
            open_device(path)
        assert caught.value.pid == os.getpid()
        put(store, ITEMS)
    with contextlib.closing(open_device(path)):
        pass
