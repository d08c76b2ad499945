"""Scrub and repair on a disk with bad sectors, behind a real kernel and its cache."""

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from blkdev.care.medium import Source
from blkdev.device import open_device
from blkdev.devices.file import FileDevice
from blkdev.errors import BlockDamaged, StoreReadOnly
from blkdev.store import Store
from tests.blkdev.devices import MIB, SMALL_SEGMENT_BYTES, assert_sound, block, blocks, put
from tests.blkdev.test_kernel import Disk

ITEMS = blocks(0, 60, 20_000)


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    mountpoint = tmp_path / "faults"
    mountpoint.mkdir()
    made = Disk(mountpoint)
    yield made
    made.close()


def place_of(store: Store, key: bytes) -> int:
    found = store._reader.find(key)
    assert found is not None
    return store._volume.device_offset(found.location)


@pytest.mark.needs_root
@pytest.mark.needs_fuse
def test_scrub_sees_a_bad_sector_that_the_cache_hides_and_repair_leaves_it_alone(disk):
    device = open_device(disk.device)
    Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES)
    with Store.open(device) as store:
        put(store, ITEMS)
        store.commit()
        key, value = block(17, 20_000)
        begin = place_of(store, key) + 9000 & -4096
        disk.set(unreadable=[(begin, begin + 4096)])
        assert store.get(key) == value, "the cache has it"
        report = store.scrub()
        assert [f.key for f in report.findings if f.lost] == [key]
        assert all("cannot read" in f.what for f in report.findings if f.lost)
        disk.set(unwritable=[(begin, begin + 4096)])
        repaired = store.repair()
        assert repaired.ok
        assert (repaired.segments_retired, repaired.lost) == (1, []), "saved from the cache"
        assert_sound(store)
        for number in range(100, 160):
            put(store, [block(number, 20_000)])
            store.delete_many([block(number, 20_000)[0]])
            store.commit()
        assert dict(ITEMS) == {key: store.get(key) for key, _ in ITEMS}
    with Store.open(open_device(disk.device)) as store:
        assert dict(ITEMS) == {key: store.get(key) for key, _ in ITEMS}
        assert_sound(store)


@pytest.mark.needs_root
@pytest.mark.needs_fuse
def test_segment_whose_header_cannot_be_read_or_written_is_emptied_and_left(disk):
    device = open_device(disk.device)
    Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES)
    with Store.open(device) as store:
        put(store, ITEMS)
        store.commit()
        begin = store._volume.geometry.segment_offset(2)
        bad = [(begin, begin + 4096)]
        disk.set(unreadable=bad, unwritable=bad)
        report = store.repair()
        assert report.ok
        assert report.lost == []
        assert report.segments_retired == 1
    with Store.open(open_device(disk.device)) as store:
        assert dict(ITEMS) == {key: store.get(key) for key, _ in ITEMS}
        assert store.repair().ok


@pytest.mark.needs_root
@pytest.mark.needs_fuse
def test_power_cut_after_a_repair_of_a_dying_disk_keeps_what_it_kept(disk):
    device = open_device(disk.device)
    Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES)
    with Store.open(device) as store:
        put(store, ITEMS)
        places = [place_of(store, key) + 4096 & -4096 for key, _ in ITEMS[5:50:9]]
    disk.unplug()  # and with it goes what is cached
    disk.set(unreadable=[(begin, begin + 512) for begin in places])
    disk.plug()
    with (
        contextlib.suppress(StoreReadOnly),  # the close finds the disk gone
        Store.open(open_device(disk.device)) as store,
    ):
        assert len(store.check().lost) == len(places)
        lost = {finding.key for finding in store.repair().lost}
        assert len(lost) == len(places)
        disk.set(unplugged=True)
    disk.unplug()
    disk.ask("cut")
    disk.set(unplugged=False)
    disk.plug()
    with Store.open(open_device(disk.device)) as store:
        for key, value in ITEMS:
            assert store.has(key) is (key not in lost)
            assert key in lost or store.get(key) == value
        assert_sound(store)


@pytest.mark.parametrize("folder", ["tmp_path", "/dev/shm"])
def test_reads_through_are_what_plain_reads_are(tmp_path, folder):
    """Also where the file system has no way past its cache."""
    base = tmp_path if folder == "tmp_path" else Path(folder)
    path = base / f"care-{os.getpid()}"
    size = 3 * MIB + 123
    path.write_bytes(random.Random(1).randbytes(size))
    device = FileDevice(path)
    source = Source(device)
    try:
        rng = random.Random(2)
        places = [(0, 1), (0, size), (size - 1, 1), (size - 123, 123), (4095, 2), (4096, 4096)]
        places += [(at := rng.randrange(size), rng.randrange(1, size - at + 1)) for _ in range(50)]
        for offset, length in places:
            for room in (length, size - offset):
                source.forget()
                assert source.read(offset, length, room) == device.read(offset, length)
        source.forget()
        with pytest.raises(OSError, match="ends at"):
            source.read(size - 10, 20, 20)
        device.write(0, [bytes(8192)])
        assert source.read(100, 5000, 5000) == bytes(5000), "what was written just now"
    finally:
        source.close()
        device.close()
        path.unlink()


def test_closed_device_is_an_error_and_no_other_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(8192))
    device = FileDevice(path)
    device.close()
    with pytest.raises(OSError):  # whatever the system says of it
        Source(device).read(0, 100, 100)


def test_scrub_reads_a_file_of_many_small_groups_in_large_pieces(tmp_path):
    path = tmp_path / "store"
    device = FileDevice(path, create_size_bytes=64 * MIB)
    Store.format(device)
    with Store.open(device) as store:
        for key, value in blocks(0, 400):
            store.put_many([(key, value)])
            store.commit()
        reads = []
        report = store.scrub(progress=lambda done, total: reads.append(done))
        assert report.finished
        assert len(reads) <= 4
        with pytest.raises(BlockDamaged):
            store.condemn(block(3)[0])
            store.get(block(3)[0])
