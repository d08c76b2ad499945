"""Writes behind: one full group may be on its way to the device while the next is staged.

On a `LateDevice` such a write happens when somebody waits for it and not before, so whoever looks
at the device too early finds nothing there.
"""

import errno
import os
import random
import threading
import time

import pytest

from blkdev.devices import behind, direct
from blkdev.devices import file as files
from blkdev.devices.file import FileDevice
from blkdev.errors import StoreReadOnly
from blkdev.store import Store
from tests.blkdev.devices import (
    SIZE_BYTES,
    SMALL_SEGMENT_BYTES,
    FaultyDevice,
    assert_sound,
    block,
    blocks,
    contents,
    copied,
    formatted,
    new_store,
    put,
)

MEBIBYTE = 1 << 20
FULL_GROUP = blocks(0, 12, 3000)
"""A little more than the half of a small segment that makes a group full."""


def written_blocks(device):
    """Bytes of all writes that the device was given."""
    return b"".join(event.data for event in device.events if event.kind == "write")


@pytest.fixture
def store():
    made, _ = new_store()
    return made


def test_full_group_is_on_its_way_and_everything_reads_it_from_memory(store):
    put(store, FULL_GROUP)
    key, value = FULL_GROUP[0]
    assert value not in written_blocks(store.device), "else nothing is tested"
    for key, value in FULL_GROUP:
        assert store.get(key) == value
        assert store.has(key)
        assert store.size_of(key) == len(value)
        assert store.get_part(key, 100, 50) == value[100:150]
        with store.view(key) as view:
            assert view == value
    assert dict(store.get_many(key for key, _ in FULL_GROUP)) == dict(FULL_GROUP)
    assert contents(store) == dict(FULL_GROUP)


def test_bytes_on_their_way_count_as_staged_and_not_as_free(store):
    free_bytes = store.stats().free_bytes
    put(store, FULL_GROUP)
    size_bytes = sum(len(value) for _, value in FULL_GROUP)
    assert store.stats().staged_bytes >= size_bytes
    assert store.stats().free_bytes <= free_bytes - size_bytes
    store.write_out()
    assert store.stats().staged_bytes == 0


@pytest.mark.parametrize("call", [Store.commit, Store.write_out, Store.checkpoint, Store.check])
def test_whoever_needs_it_on_the_device_waits_for_it(store, call):
    put(store, FULL_GROUP)
    call(store)
    assert all(value in written_blocks(store.device) for _, value in FULL_GROUP)
    assert contents(Store.open(copied(store.device))) == dict(FULL_GROUP)


def test_what_was_committed_is_there_though_more_is_on_its_way(store):
    put(store, FULL_GROUP)
    store.commit()
    later = blocks(100, 12, 3000)
    put(store, later)
    assert later[0][1] not in written_blocks(store.device)
    assert contents(Store.open(copied(store.device))) == dict(FULL_GROUP)
    store.commit()
    assert contents(Store.open(copied(store.device))) == dict(FULL_GROUP + later)


def on_its_way(store):
    """Blocks are put until a group is, and not the first one; those blocks."""
    number = 0
    while store._log._flight is None or store._log._flight.number < 4:
        put(store, [block(number, 3000)])
        number += 1
    return blocks(0, number, 3000)


def test_the_next_group_waits_for_the_one_before(store):
    stored = on_its_way(store)
    flight = store._log._flight
    found = written_blocks(store.device)
    arrived = [value in found for _, value in stored]
    waiting = len(store._log.staged)
    assert flight.record_count <= waiting
    assert arrived == [True] * (len(stored) - waiting) + [False] * waiting
    assert store._log.written_group == flight.number - 1


def test_a_sync_meanwhile_does_not_promise_what_is_on_its_way(store):
    """As of somebody who frees segments, or commits, while others write."""
    on_its_way(store)
    flight = store._log._flight
    store._log.sync()
    assert store._log.durable_group == flight.number - 1
    store.commit()
    assert store._log.durable_group >= flight.number


def test_a_segment_is_sealed_when_its_last_group_has_arrived(store):
    """Compaction, check and scrub look at sealed segments on the device."""
    number = 0
    while store._log._flight is None or store._log._flight.summary is None:
        put(store, [block(number, 3000)])
        number += 1
    segment = store._log._flight.segment
    assert store._log.active is not segment
    assert not segment.sealed
    assert segment.sequence not in {s.sequence for s in store._catalog.candidates(1 << 40)}
    assert_sound(store)
    assert segment.sealed
    store.commit()
    report = Store.open(copied(store.device)).check()
    assert report.ok, report.findings
    assert contents(store) == dict(blocks(0, number, 3000))


def test_a_process_that_dies_with_a_group_on_its_way_loses_that_and_what_came_after(store):
    stored = on_its_way(store)
    lost = len(store._log.staged)
    put(store, [block(5000)])
    again = Store.open(copied(store.device))
    assert contents(again) == dict(stored[:-lost])
    assert_sound(again)


def test_compaction_beside_a_stream_moves_only_what_has_arrived(store):
    """Its candidates are sealed, and its copies go the same way as everybody's records."""
    stored = dict(blocks(0, 200, 3000))
    put(store, list(stored.items()))
    for at in range(0, 120, 2):
        store.delete_many([block(at, 3000)[0]])
        del stored[block(at, 3000)[0]]
    for at in range(300, 360):
        put(store, [block(at, 3000)])
        stored[block(at, 3000)[0]] = block(at, 3000)[1]
        if at % 10 == 0:
            store.compact(64 << 10)
    assert contents(store) == stored
    assert_sound(store)
    store.commit()
    assert contents(Store.open(copied(store.device))) == stored


@pytest.mark.parametrize("after", ["commit", "write_out", "stream", "close"])
def test_a_write_that_fails_on_its_way_latches_the_store_and_loses_nothing_promised(after):
    store, device = new_store()
    put(store, [block(900)])
    store.commit()
    put(store, FULL_GROUP)
    device.failing = {"write"}
    calls = {
        "commit": store.commit,
        "write_out": store.write_out,
        "stream": lambda: store.put_many(blocks(100, 40, 3000)),
        "close": store.close,
    }
    with pytest.raises(StoreReadOnly):
        calls[after]()
    device.failing = set()
    if after != "close":
        for call in (store.commit, lambda: store.put_many([block(901)])):
            with pytest.raises(StoreReadOnly):
                call()
        assert store.get(FULL_GROUP[0][0]) == FULL_GROUP[0][1], "it is in memory still"
        assert store.get(block(900)[0]) == block(900)[1]
    again = Store.open(copied(device))
    assert contents(again) == dict([block(900)])
    assert_sound(again)


def test_any_number_of_records_on_their_way_is_forgotten_exactly_when_they_arrived():
    """Those that were staged after them stay."""
    rng = random.Random(11)
    device = FaultyDevice(SIZE_BYTES, pages=formatted(SIZE_BYTES, SMALL_SEGMENT_BYTES))
    store = Store.open(device)
    stored = {}
    for number in range(1500):
        key, value = block(number, rng.choice((20, 300, 3000, 20_000)))
        store.put_many([(key, value)])
        stored[key] = value
        staged = store._log.staged
        flight = store._log._flight
        assert len(staged) == store._log._pending_count + (flight.record_count if flight else 0)
        if rng.random() < 0.05:
            store.delete_many(list(stored)[:20])
            stored = dict(list(stored.items())[20:])
        if store.stats().segments_free < 20:
            store.compact()
    assert contents(store) == stored
    assert_sound(store)


# ------------------------------------------------------------------------- on a real file


@pytest.fixture
def device(tmp_path):
    made = FileDevice(tmp_path / "disk", create_size_bytes=64 * MEBIBYTE)
    # As if a stream was under way.
    made._streamed_bytes = files._STREAM_BYTES
    yield made
    made.close()


class Gate:
    """Holds up direct writes until it is opened."""

    def __init__(self, monkeypatch) -> None:
        self.opened = threading.Event()
        self.waiting = threading.Semaphore(0)
        really = os.pwrite

        def pwrite(descriptor, data, offset):
            self.waiting.release()
            assert self.opened.wait(30)
            return really(descriptor, data, offset)

        monkeypatch.setattr(direct.os, "pwrite", pwrite)


def test_large_write_of_a_stream_goes_on_after_the_call(device, monkeypatch):
    gate = Gate(monkeypatch)
    data = random.Random(1).randbytes(MEBIBYTE)
    writing = device.write_behind(0, [data[:100], data[100:]])
    assert gate.waiting.acquire(timeout=30)
    assert not writing.is_over()
    gate.opened.set()
    writing.wait()
    assert writing.is_over()
    assert device.read(0, MEBIBYTE) == data


def test_two_writes_are_under_way_together_and_do_not_mix(device, monkeypatch):
    """While one is written, the next is gathered, in memory of its own."""
    gate = Gate(monkeypatch)
    datas = [random.Random(number).randbytes(2 * MEBIBYTE) for number in range(2)]
    writings = [device.write_behind(n * 2 * MEBIBYTE, [data]) for n, data in enumerate(datas)]
    for _ in datas:
        assert gate.waiting.acquire(timeout=30)
    gate.opened.set()
    for writing in writings:
        writing.wait()
    for number, data in enumerate(datas):
        assert device.read(number * 2 * MEBIBYTE, len(data)) == data


def test_what_is_small_or_no_stream_is_written_at_once(device):
    assert device.write_behind(0, [bytes(4096)]).is_over()
    device._streamed_bytes = 0
    assert device.write_behind(0, [b"x" * MEBIBYTE]).is_over()
    assert device.read(0, MEBIBYTE) == b"x" * MEBIBYTE


def test_without_a_thread_it_is_written_at_once(device, monkeypatch):
    def refuse(_self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(behind.threading.Thread, "start", refuse)
    writing = device.write_behind(0, [b"x" * MEBIBYTE])
    assert writing.is_over()
    writing.wait()
    assert device.read(0, MEBIBYTE) == b"x" * MEBIBYTE


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), MemoryError("none left")])
def test_an_error_is_raised_to_everybody_who_waits(device, monkeypatch, error):
    def pwrite(*_):
        raise error

    monkeypatch.setattr(direct.os, "pwrite", pwrite)
    writing = device.write_behind(0, [bytes(MEBIBYTE)])
    for _ in range(2):
        with pytest.raises(type(error)):
            writing.wait()


def test_close_waits_for_what_is_on_its_way(tmp_path, monkeypatch):
    """Else it would go on with a number that is another file's by then."""
    device = FileDevice(tmp_path / "disk", create_size_bytes=64 * MEBIBYTE)
    device._streamed_bytes = files._STREAM_BYTES
    gate = Gate(monkeypatch)
    data = random.Random(3).randbytes(MEBIBYTE)
    device.write_behind(0, [data])
    assert gate.waiting.acquire(timeout=30)
    closing = threading.Thread(target=device.close)
    closing.start()
    time.sleep(0.1)
    assert closing.is_alive()
    gate.opened.set()
    closing.join(30)
    assert (tmp_path / "disk").read_bytes()[:MEBIBYTE] == data


def test_a_fork_does_not_wait_for_what_its_parent_writes(tmp_path, monkeypatch):
    device = FileDevice(tmp_path / "disk", create_size_bytes=2048 * MEBIBYTE)
    Store.format(device)
    store = Store.open(device)
    device._streamed_bytes = files._STREAM_BYTES
    gate = Gate(monkeypatch)
    values = {b"%d" % number: random.Random(number).randbytes(MEBIBYTE) for number in range(5)}
    store.put_many(list(values.items()))
    assert gate.waiting.acquire(timeout=30), "a group is on its way"
    child = os.fork()
    if not child:
        # The fork's hook has closed the store of this process already.
        os._exit(0 if store._closed else 1)
    deadline_s = time.monotonic() + 30
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert ended == (child, 0)
    gate.opened.set()
    store.close()
    with Store.open(FileDevice(tmp_path / "disk")) as again:
        assert {key: again.get(key) for key in values} == values


@pytest.mark.slow
def test_a_stream_is_read_while_it_is_written(tmp_path):
    """Many readers of what was just put: from memory, in flight, or from the device."""
    device = FileDevice(tmp_path / "disk", create_size_bytes=128 * MEBIBYTE)
    Store.format(device)
    store = Store.open(device, verify_reads=True)
    rng = random.Random(5)
    stored: list[tuple[bytes, bytes]] = []
    ended = threading.Event()
    failures: list[BaseException] = []

    def read(seed: int) -> None:
        own = random.Random(seed)
        try:
            while not ended.is_set():
                if stored:
                    key, value = stored[-own.randrange(1, min(len(stored), 40) + 1)]
                    assert store.get(key) == value
                    with store.view(key) as view:
                        assert view == value
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(2)]
    for reader in readers:
        reader.start()
    try:
        for number in range(200):
            item = (b"%d" % number, rng.randbytes(rng.choice((5000, 256 << 10, 700_000))))
            store.put_many([item])
            stored.append(item)
    finally:
        ended.set()
        for reader in readers:
            reader.join(60)
    assert not failures
    assert device._behind, "else nothing is tested"
    store.commit()
    assert_sound(store)
    assert contents(store) == dict(stored)
    store.close()
