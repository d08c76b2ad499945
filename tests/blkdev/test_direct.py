"""Large writes past the page cache: the same bytes as through it, for every kind of reader."""

import errno
import mmap
import os
import random
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blkdev.devices import direct
from blkdev.devices import file as files
from blkdev.devices.direct import MEMORY_SIZE_BYTES, DirectWriter
from blkdev.devices.file import BlockDevice, FileDevice
from blkdev.errors import StoreReadOnly
from blkdev.store import Store
from tests.blkdev import loops

pytestmark = pytest.mark.slow

PAGE = 4096
MEBIBYTE = 1 << 20
SIZE_BYTES = 64 * MEBIBYTE
STREAM = files._STREAM_BYTES
RANDOM = random.Random(20)


@pytest.fixture
def device(tmp_path):
    made = FileDevice(tmp_path / "disk", create_size_bytes=SIZE_BYTES)
    yield made
    made.close()


@pytest.fixture
def direct_writes(monkeypatch):
    """(offset, bytes written) of every direct write."""
    seen = []
    write = DirectWriter.write

    def spy(self, offset, buffers):
        written = write(self, offset, buffers)
        seen.append((offset, written))
        return written

    monkeypatch.setattr(DirectWriter, "write", spy)
    return seen


def same(found, expected):
    """Without the difference, which would be mebibytes of it."""
    return found == expected


def stream(device, begin=0, size_bytes=STREAM):
    """Makes the device see a stream; what it has written."""
    data = RANDOM.randbytes(size_bytes)
    for at in range(0, size_bytes, MEBIBYTE):
        device.write(begin + at, [data[at : at + MEBIBYTE]])
    return data


def test_only_large_writes_of_a_stream_are_direct(device, direct_writes):
    stream(device)
    assert direct_writes == []
    device.write(STREAM, [bytes(MEBIBYTE)])
    device.write(STREAM + MEBIBYTE, [bytes(MEBIBYTE - PAGE)])
    assert direct_writes == [(STREAM, MEBIBYTE)]


def test_stream_goes_on_over_syncs_of_large_writes(device, direct_writes):
    """As of somebody who commits each batch."""
    for at in range(0, 2 * STREAM, 2 * MEBIBYTE):
        device.write(at, [bytes(2 * MEBIBYTE)])
        device.sync()
    assert [offset for offset, _ in direct_writes] == list(range(STREAM, 2 * STREAM, 2 * MEBIBYTE))


def test_stream_ends_with_many_syncs_of_small_writes(device, direct_writes):
    stream(device, size_bytes=2 * STREAM)
    direct_writes.clear()
    for _ in range(STREAM // MEBIBYTE - 1):
        device.write(0, [bytes(PAGE)])
        device.sync()
    device.write(0, [bytes(MEBIBYTE)])
    assert len(direct_writes) == 1, "a checkpoint between two batches is no end"
    for _ in range(STREAM // MEBIBYTE + 1):
        device.sync()
    device.write(0, [bytes(MEBIBYTE)])
    assert len(direct_writes) == 1


def test_sync_after_a_large_write_takes_nothing_off_and_the_next_one_does(device, direct_writes):
    stream(device)
    device.sync()
    device.sync()
    device.write(0, [bytes(MEBIBYTE)])
    assert direct_writes == []
    device.write(0, [bytes(MEBIBYTE)])
    assert len(direct_writes) == 1


@pytest.mark.parametrize(
    ("size_bytes", "pieces"),
    [
        (MEBIBYTE, [MEBIBYTE]),
        (MEMORY_SIZE_BYTES, [MEMORY_SIZE_BYTES]),
        (4 * MEBIBYTE + PAGE, [2 * MEBIBYTE + PAGE, 2 * MEBIBYTE]),
        (4 * MEBIBYTE + 2 * PAGE, [2 * MEBIBYTE + PAGE, 2 * MEBIBYTE + PAGE]),
        (MEMORY_SIZE_BYTES + PAGE, [MEMORY_SIZE_BYTES // 2 + PAGE, MEMORY_SIZE_BYTES // 2]),
    ],
)
def test_a_write_goes_in_few_pieces_that_are_about_as_large(
    device, monkeypatch, size_bytes, pieces
):
    really_write = os.pwrite
    seen = []

    def spy(descriptor, data, offset):
        seen.append(len(data))
        return really_write(descriptor, data, offset)

    monkeypatch.setattr(direct.os, "pwrite", spy)
    data = RANDOM.randbytes(size_bytes)
    assert same(device._direct.write(0, [data[:17], data[17:]]), size_bytes)
    monkeypatch.undo()
    assert seen == pieces
    assert same(device.read(0, size_bytes), data)


def test_what_was_written_directly_is_read_by_every_way(device, direct_writes, tmp_path):
    stream(device)
    data = RANDOM.randbytes(5 * MEBIBYTE)
    device.write(STREAM, [data[:10], data[10:MEBIBYTE], memoryview(data)[MEBIBYTE:]])
    assert direct_writes == [(STREAM, len(data))]
    assert same(device.read(STREAM, len(data)), data)
    assert same(device.view(STREAM + 100, 3 * MEBIBYTE), data[100 : 100 + 3 * MEBIBYTE])
    device.sync()
    assert same((tmp_path / "disk").read_bytes()[STREAM : STREAM + len(data)], data)


def test_cached_and_mapped_pages_below_a_direct_write_are_replaced(device, direct_writes):
    old = stream(device)
    view = device.view(0, 4 * MEBIBYTE)
    assert same(view, old[: 4 * MEBIBYTE])
    new = RANDOM.randbytes(2 * MEBIBYTE)
    device.write(MEBIBYTE, [new])
    assert direct_writes, "else nothing is tested"
    assert same(device.read(MEBIBYTE, len(new)), new)
    whole = old[:MEBIBYTE] + new + old[3 * MEBIBYTE : 4 * MEBIBYTE]
    assert same(device.view(0, 4 * MEBIBYTE), whole)
    # A view that is a map follows; one that is a copy (without the C helper) stays.
    assert bytes(view) in (whole, old[: 4 * MEBIBYTE])


def test_dirty_pages_around_and_below_a_direct_write_keep_their_turn(device, direct_writes):
    stream(device)
    for _ in range(20):
        below, around, new = (RANDOM.randbytes(size) for size in (2 * PAGE, PAGE, MEBIBYTE))
        device.write(32 * MEBIBYTE, [below])
        device.write(32 * MEBIBYTE - PAGE, [around])
        device.write(33 * MEBIBYTE, [around])
        device.write(32 * MEBIBYTE, [new])
        device.write(32 * MEBIBYTE + PAGE, [below])
        whole = around + new[:PAGE] + below + new[3 * PAGE :] + around
        assert same(device.read(32 * MEBIBYTE - PAGE, len(whole)), whole)
        assert same(device.view(32 * MEBIBYTE - PAGE, len(whole)), whole)
    assert len(direct_writes) == 20
    device.sync()
    os.posix_fadvise(device.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    assert same(device.read(32 * MEBIBYTE - PAGE, len(whole)), whole)


def test_readers_beside_direct_writes_see_old_or_new_pages_and_new_ones_in_the_end(device):
    stream(device)
    ended = threading.Event()
    faults = []

    def read():
        while not ended.is_set():
            page = bytes(device.view(20 * MEBIBYTE + RANDOM.randrange(512) * PAGE, PAGE))
            if page.count(page[0]) != PAGE:
                faults.append(page)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for value in range(1, 200):
            device.write(20 * MEBIBYTE, [bytes([value]) * (2 * MEBIBYTE)])
            assert device.read(21 * MEBIBYTE, 1) == bytes([value])
    finally:
        ended.set()
        reader.join()
    assert faults == []
    device.sync()


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 3 * MEBIBYTE), min_size=1, max_size=12),
    kinds=st.lists(st.sampled_from([bytes, bytearray, memoryview]), min_size=12, max_size=12),
    seed=st.integers(0, 1000),
)
def test_any_buffers_arrive_in_order(tmp_path_factory, sizes, kinds, seed):
    data = random.Random(seed).randbytes(sum(sizes))
    data += bytes(-len(data) % PAGE)
    cuts = [sum(sizes[:number]) for number in range(len(sizes))] + [len(data)]
    parts = [data[begin:end] for begin, end in pairwise(cuts)]
    buffers = [kind(part) for kind, part in zip(kinds, parts, strict=False)]
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(bytes(40 * MEBIBYTE))
    with path.open("rb+") as file:
        writer = DirectWriter(file.fileno())
        assert writer.write(PAGE, buffers) == len(data)
        writer.close()
        assert same(os.pread(file.fileno(), len(data) + PAGE, PAGE), data + bytes(PAGE))


def refusing(number):
    def pwrite(*_):
        raise OSError(number, os.strerror(number))

    return pwrite


def test_a_file_that_takes_no_direct_writes_is_written_through_the_cache(device, monkeypatch):
    stream(device)
    monkeypatch.setattr(direct.os, "pwrite", refusing(errno.EINVAL))
    data = RANDOM.randbytes(3 * MEBIBYTE)
    device.write(STREAM, [data])
    monkeypatch.undo()
    assert same(device.read(STREAM, len(data)), data)
    assert device._direct.write(STREAM, [data]) == 0, "asked once"


def test_a_file_system_that_opens_no_direct_files_is_written_through_the_cache(device, monkeypatch):
    stream(device)
    really_open = os.open

    def without_direct(path, flags, *more):
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no direct files here")
        return really_open(path, flags, *more)

    monkeypatch.setattr(direct.os, "open", without_direct)
    data = RANDOM.randbytes(MEBIBYTE)
    device.write(STREAM, [data])
    assert same(device.read(STREAM, len(data)), data)


def test_what_is_refused_whole_goes_through_the_cache_as_it_came(device, monkeypatch):
    """A file system without direct writes must not pay for a copy of every large group."""
    stream(device)
    monkeypatch.setattr(DirectWriter, "write", lambda *_: 0)
    passed = []
    cached = FileDevice._write_cached
    monkeypatch.setattr(
        FileDevice, "_write_cached", lambda *given: (passed.append(given[2]), cached(*given))
    )
    buffers = [bytes(MEBIBYTE), RANDOM.randbytes(MEBIBYTE)]
    device.write(STREAM, buffers)
    assert passed[0] is buffers
    assert same(device.read(STREAM, 2 * MEBIBYTE), b"".join(buffers))


@pytest.mark.parametrize("cut", [0, 512, PAGE, MEBIBYTE + 512, MEMORY_SIZE_BYTES])
def test_a_write_cut_short_goes_on_through_the_cache(device, monkeypatch, cut):
    stream(device)
    really_write = os.pwrite
    calls = []

    def short(descriptor, data, offset):
        calls.append(offset)
        return really_write(descriptor, data[:cut], offset) if cut else 0

    monkeypatch.setattr(direct.os, "pwrite", short)
    data = RANDOM.randbytes(3 * MEBIBYTE)
    device.write(STREAM, [data[:100], data[100:]])
    monkeypatch.undo()
    assert calls
    assert same(device.read(STREAM, len(data)), data)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_direct_write_that_fails_latches_the_store(device, monkeypatch, number):
    Store.format(device)
    store = Store.open(device)
    store.put_many([(b"before", b"durable")])
    store.commit()
    monkeypatch.setattr(direct.os, "pwrite", refusing(number))
    with pytest.raises(StoreReadOnly, match=os.strerror(number)):
        store.put_many((b"%d" % i, RANDOM.randbytes(MEBIBYTE)) for i in range(24))
    with pytest.raises(StoreReadOnly):
        store.commit()
    assert store.get(b"before") == b"durable"
    store.close()


def test_what_was_streamed_is_there_after_a_reopen(tmp_path, direct_writes):
    values = {b"%d" % i: RANDOM.randbytes(700_000) for i in range(48)}
    device = FileDevice(tmp_path / "disk", create_size_bytes=SIZE_BYTES)
    Store.format(device)
    with Store.open(device) as store:
        store.put_many(values.items())
    assert direct_writes
    with Store.open(FileDevice(tmp_path / "disk")) as store:
        assert {key: store.get(key) for key in values} == values
        assert same(store.check().findings, [])


@pytest.mark.needs_root
def test_a_block_device_takes_direct_writes_beside_its_exclusive_open(tmp_path, direct_writes):
    with loops.attached(tmp_path / "disk", SIZE_BYTES) as name:
        device = BlockDevice(name)
        try:
            stream(device)
            data = RANDOM.randbytes(4 * MEBIBYTE)
            device.write(STREAM, [data])
            assert direct_writes == [(STREAM, len(data))]
            assert same(device.read(STREAM, len(data)), data)
        finally:
            device.close()


def test_nothing_of_the_writer_is_left_open(device):
    before = open_descriptors()
    stream(device)
    device.write(STREAM, [bytes(MEBIBYTE)])
    assert open_descriptors() == before + 1
    device.close()
    assert open_descriptors() == before - 1
    device.close()


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_memory_is_whole_pages():
    assert MEMORY_SIZE_BYTES % mmap.PAGESIZE == 0
