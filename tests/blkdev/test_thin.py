"""A sparse file on a file system that fills up: the store is full, never broken."""

import contextlib
import errno
import os
import random
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blkdev.device import RamDevice
from blkdev.devices import file as files
from blkdev.devices.file import FileDevice
from blkdev.errors import StoreFull
from blkdev.store import Store
from tests.blkdev.devices import SIZE_BYTES, SMALL_SEGMENT_BYTES, assert_sound, blocks, contents

PAGE = 4096
SEGMENT_PAGES = SMALL_SEGMENT_BYTES // PAGE


class ThinDevice(RamDevice):
    """Has room for so many more pages below; `others` can take it away and give it back."""

    def __init__(self, room_pages, size_bytes):
        super().__init__(size_bytes)
        self.allocated = set(self.pages)
        self.room_pages = room_pages

    def _allocate(self, pages):
        new = set(pages) - self.allocated
        if len(new) > self.room_pages:
            return False
        self.room_pages -= len(new)
        self.allocated |= new
        return True

    def reserve(self, offset, length):
        return self._allocate(range(offset // PAGE, (offset + length) // PAGE))

    def write(self, offset, buffers):
        length = sum(map(len, buffers))
        if not self._allocate(range(offset // PAGE, (offset + length) // PAGE)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(offset, buffers)

    def discard(self, offset, length):
        freed = self.allocated & set(range(offset // PAGE, (offset + length) // PAGE))
        self.allocated -= freed
        self.room_pages += len(freed)
        super().discard(offset, length)

    def backing_bytes(self):
        return min(self.size_bytes, (len(self.allocated) + self.room_pages) * PAGE)


def thin(segments, size_bytes=SIZE_BYTES):
    """A formatted device with room for so many segments."""
    device = ThinDevice(1 << 20, size_bytes)
    Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES)
    device.room_pages = segments * SEGMENT_PAGES
    return device


def fill(store, first=0, size_bytes=3000):
    """Puts until the store is full; the blocks that it took."""
    taken = []
    while True:
        item = blocks(first + len(taken), 1, size_bytes)[0]
        try:
            store.put_many([item])
        except StoreFull:
            store.commit()
            return taken
        taken.append(item)


@pytest.mark.parametrize("segments", [3, 4, 9, 20])
def test_a_full_file_system_makes_the_store_full_and_deletes_make_room(segments):
    device = thin(segments)
    with Store.open(device) as store:
        taken = fill(store)
        held = len(taken) * 3000
        assert held > (segments - 4) * SMALL_SEGMENT_BYTES * 0.8
        assert not store.stats().latched
        assert store.stats().free_bytes < SMALL_SEGMENT_BYTES
        store.set_name(b"name", b"value")
        assert store.delete_many(key for key, _ in taken[::2]) == len(taken[::2])
        store.commit()
        assert len(fill(store, 10_000)) >= len(taken) // 3
        assert_sound(store)
    with Store.open(device) as store:
        assert store.name(b"name") == b"value"
        assert set(contents(store)) >= {key for key, _ in taken[1::2]}


def test_without_room_for_the_reserve_nothing_is_taken_and_nothing_breaks():
    device = thin(2)
    with Store.open(device) as store:
        assert fill(store) == []
        store.set_name(b"name", b"value")
        store.commit()
        assert not store.stats().latched
    device.room_pages += 10 * SEGMENT_PAGES
    with Store.open(device) as store:
        assert store.name(b"name") == b"value"
        assert fill(store)


def test_a_store_found_on_a_full_file_system_can_delete_and_close():
    device = thin(12)
    with Store.open(device) as store:
        taken = fill(store)
        store.delete_many(key for key, _ in taken[:40])
        store.commit()
        store.compact()
    device.room_pages = 0
    with Store.open(device) as store:
        assert store.delete_many(key for key, _ in taken[40:]) == len(taken) - 40
        store.set_name(b"name", b"value")
        store.commit()
        store.compact()
        assert device.room_pages > 0, "what is dead goes back to the file system"
    with Store.open(device) as store:
        assert contents(store) == {}
        assert store.name(b"name") == b"value"
        assert_sound(store)


def test_room_that_others_give_back_is_used_without_opening_anew():
    device = thin(5)
    with Store.open(device) as store:
        taken = fill(store)
        device.room_pages += 8 * SEGMENT_PAGES
        assert len(fill(store, 10_000)) > len(taken)
        assert_sound(store)


def test_free_bytes_say_what_the_file_system_has_room_for():
    device = thin(10)
    with Store.open(device) as store:
        free = store.stats().free_bytes
        assert 6 * SMALL_SEGMENT_BYTES < free <= 8 * SMALL_SEGMENT_BYTES
        device.room_pages = 4 * SEGMENT_PAGES
        assert store.stats().free_bytes <= 2 * SMALL_SEGMENT_BYTES
        device.room_pages = 1 << 20
        assert store.stats().free_bytes > 40 * SMALL_SEGMENT_BYTES


def test_stats_ask_the_file_system_under_no_lock(monkeypatch):
    device = thin(6)
    with Store.open(device) as store:
        free = []

        def backing_bytes():
            lock = store._log.state_lock
            free.append(lock.acquire(blocking=False))
            lock.release()
            return device.size_bytes

        monkeypatch.setattr(device, "backing_bytes", backing_bytes)
        store.stats()
        assert free == [True]


def test_a_resize_forgets_no_slot_without_room_and_uses_none_that_is_gone():
    device = thin(6, SIZE_BYTES + (4 << 20))
    with Store.open(device) as store:
        fill(store)
        before = store.stats()
        device.room_pages = 0
        with pytest.raises(StoreFull):
            store.resize(SIZE_BYTES + (2 << 20))
        assert store.stats().segments == before.segments
        device.room_pages = 8
        store.resize(SIZE_BYTES + (2 << 20))
        after = store.stats()
        assert before.segments - after.segments >= 30
        device.room_pages = 1 << 20
        fill(store, 10_000)
        assert_sound(store)
        assert not store.stats().latched


@settings(max_examples=40, deadline=None)
@given(
    segments=st.integers(2, 20),
    steps=st.lists(
        st.sampled_from(["put", "delete", "name", "compact", "reopen", "take", "give"]), max_size=25
    ),
    seed=st.integers(0, 99),
)
def test_whatever_the_others_do_below_the_store_never_latches(segments, steps, seed):
    device, chance = thin(segments), random.Random(seed)
    held, names, number = {}, {}, 0
    store = Store.open(device)
    for step in [*steps, "check"]:
        if step == "put":
            number += 30
            for item in blocks(number, 30, chance.choice([100, 3000])):
                with contextlib.suppress(StoreFull):
                    store.put_many([item])
                    held[item[0]] = item[1]
        elif step == "delete":
            doomed = chance.sample(sorted(held), len(held) // 2)
            store.delete_many(doomed)
            held = {key: value for key, value in held.items() if key not in doomed}
        elif step == "name":
            with contextlib.suppress(StoreFull):
                store.set_name(b"n%d" % (number % 3), b"%d" % number)
                names[b"n%d" % (number % 3)] = b"%d" % number
        elif step == "compact":
            store.compact()
        elif step == "reopen":
            store.close()
            store = Store.open(device)
        elif step == "take":
            device.room_pages = chance.randrange(device.room_pages + 1)
        elif step == "give":
            device.room_pages += chance.randrange(3 * SEGMENT_PAGES)
        store.commit()
        assert not store.stats().latched
    assert contents(store) == held
    assert dict(store.names()) == names
    assert_sound(store)
    store.close()


# -------------------------------------------------------------------------- the real calls


@pytest.fixture
def full_disk(tmp_path):
    """A small file system of its own."""
    image, point = tmp_path / "image", tmp_path / "point"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    point.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=True)
    yield point
    subprocess.run(["umount", str(point)], check=True)


@pytest.mark.needs_root
def test_a_sparse_store_on_a_full_ext4_takes_deletes_and_gives_room_back(full_disk):
    device = FileDevice(full_disk / "store", create_size_bytes=1 << 30)
    Store.format(device, segment_size_bytes=4 << 20)
    with Store.open(device) as store:
        taken = fill(store, size_bytes=200_000)
        assert len(taken) > 100
        assert not store.stats().latched
        store.delete_many(key for key, _ in taken[: len(taken) // 2])
        store.commit()
        store.compact()
        assert len(fill(store, 10_000, 200_000)) > len(taken) // 4
        assert_sound(store)
    others = full_disk / "others"
    with contextlib.suppress(OSError), others.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 20))
    with Store.open(FileDevice(full_disk / "store")) as store:
        kept = dict(taken[len(taken) // 2 :])
        assert contents(store).items() >= kept.items()
        store.delete_many(kept)
        store.set_name(b"name", b"value")
        store.commit()
        assert_sound(store)


def test_where_nothing_can_be_allocated_ahead_there_is_room_until_a_write_says_no(
    tmp_path, monkeypatch
):
    def refusing(*_):
        files.ctypes.set_errno(errno.EOPNOTSUPP)
        return -1

    device = FileDevice(tmp_path / "store", create_size_bytes=SIZE_BYTES)
    monkeypatch.setattr(files, "_fallocate", refusing)
    assert device.reserve(0, SIZE_BYTES)
    device.close()


def test_reserving_keeps_what_is_there_and_the_size(tmp_path):
    device = FileDevice(tmp_path / "store", create_size_bytes=SIZE_BYTES)
    device.write(PAGE, [b"x" * PAGE])
    assert device.reserve(0, 1 << 20)
    assert device.read(0, 3 * PAGE) == bytes(PAGE) + b"x" * PAGE + bytes(PAGE)
    assert device.measure() == SIZE_BYTES
    assert (tmp_path / "store").stat().st_blocks * 512 >= 1 << 20
    assert device.backing_bytes() == SIZE_BYTES
    device.close()
