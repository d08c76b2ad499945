"""A store that becomes larger or smaller: where things lie, what stays, what is refused."""

import contextlib
import os
import random
import subprocess
import threading
from pathlib import Path

import pytest

from blkdev import format as fmt
from blkdev import superblock
from blkdev.care.resize import resized
from blkdev.checkpoint import Checkpointer
from blkdev.device import RamDevice
from blkdev.devices.file import BlockDevice, FileDevice
from blkdev.errors import (
    DeviceTooSmall,
    SegmentDamaged,
    SizeTooSmall,
    StoreBusy,
    StoreClosed,
    StoreFull,
    StoreReadOnly,
    SuperblockDamaged,
)
from blkdev.log import DATA
from blkdev.store import Store
from blkdev.superblock import Geometry
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
    entropy,
    new_store,
    put,
)
from tests.blkdev.test_space import fill

pytestmark = pytest.mark.slow

LARGE_BYTES = 44 * MIB
SIZES = [20 * MIB, 22 * MIB, 28 * MIB, 36 * MIB + 4096, 44 * MIB]
SEGMENT_SIZES = [64 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20]


def test_resize_without_room_for_a_checkpoint_is_durable_all_the_same(monkeypatch):
    """The checkpoint at its end is what usually syncs the new length, and what was staged."""
    store, device = new_store(24 * MIB)
    put(store, blocks(0, 3))
    monkeypatch.setattr(Checkpointer, "write", lambda _self: False)
    store.resize(SIZE_BYTES)
    kinds = [event.kind for event in device.events]
    assert "sync" in kinds[len(kinds) - 1 - kinds[::-1].index("resize") :]
    assert "write" not in kinds[len(kinds) - 1 - kinds[::-1].index("sync") :]
    with Store.open(copied(device)) as again:
        assert_holds(again, blocks(0, 3))


def test_shrink_that_would_leave_no_room_for_deletes_is_refused():
    """Everything would fit, to the last segment."""
    store, device = new_store()
    fill(store)
    store.commit()
    store.resize(24 * MIB)
    refused = 0
    for number in range(40):
        put(store, [block(50_000 + number, 30_000)])
        store.commit()
        try:
            store.resize(SIZE_BYTES)
        except SizeTooSmall as error:
            refused += 1
            assert "delete something" in str(error)
            assert device.size_bytes == 24 * MIB
        else:
            assert len(store._catalog.free) >= DATA
            store.resize(24 * MIB)
        assert_sound(store)
    assert refused > 30
    store.set_name(b"name", b"value")
    keys = list(store.keys())
    assert store.delete_many(keys[:-20]) == len(keys) - 20
    store.resize(SIZE_BYTES)
    for number in range(3000):
        store.set_name(b"name", b"%d" % number)
    assert store.delete_many(keys) == 20
    assert_sound(store)


def test_full_store_that_grew_and_shrank_takes_deletes_names_and_trims():
    store, _ = new_store()
    fill(store)
    store.commit()
    for _ in range(3):
        store.resize(24 * MIB)
        store.journal(1).append(b"record")
        store.commit()
        with contextlib.suppress(SizeTooSmall):
            store.resize(SIZE_BYTES)
    store.set_name(b"name", b"value")
    store.journal(1).trim(store.position())
    keys = list(store.keys())
    assert store.delete_many(keys) == len(keys)
    assert_sound(store)


def reopened(store: Store, device: RamDevice) -> Store:
    """As after a restart; the store is sound and has the geometry that it had."""
    geometry = store.geometry
    store.close()
    again = Store.open(device)
    assert again.geometry == geometry
    assert_sound(again)
    return again


def assert_full_use(store: Store) -> None:
    """Every slot can be filled, and what is put stays readable."""
    count = fill(store, 500_000, 20_000) - 500_000
    assert store.stats().segments_free <= 2
    assert_holds(store, blocks(500_000, count, 20_000))
    assert_sound(store)
    store.delete_many(key for key, _ in blocks(500_000, count, 20_000))
    store.commit()


# ------------------------------------------------------------------------------ geometry


@pytest.mark.parametrize("segment_size_bytes", SEGMENT_SIZES)
def test_slots_that_both_sizes_have_keep_their_place(segment_size_bytes):
    rng = random.Random(segment_size_bytes)
    for _ in range(200):
        size = (rng.randrange(6, 200) * segment_size_bytes + 32 * MIB) & -4096
        geometry = Geometry.for_device(RamDevice(size), segment_size_bytes)
        for _ in range(6):
            size = (rng.randrange(8, 300) * segment_size_bytes + 32 * MIB) & -4096
            changed = resized(geometry, size, "x")
            assert changed.fits(size)
            both = range(min(geometry.segment_count, changed.segment_count))
            assert [*map(geometry.segment_offset, both)] == [*map(changed.segment_offset, both)]
            assert_no_overlap(changed, size)
            geometry = changed


def assert_no_overlap(geometry: Geometry, size_bytes: int) -> None:
    unit = fmt.ERASE_UNIT_SIZE_BYTES
    ranges = [(offset, offset + unit) for offset in geometry.copy_offsets]
    for slot in range(geometry.segment_count):
        offset = geometry.segment_offset(slot)
        ranges.append((offset, offset + geometry.segment_size_bytes))
    ranges.sort()
    ends = [0, *(end for _, end in ranges)]
    assert all(start >= end for (start, _), end in zip(ranges, ends[:-1], strict=True))
    assert ends[-1] <= size_bytes


def test_a_larger_size_gives_nearly_all_the_segments_that_a_new_store_has():
    for size in range(24 * MIB, 200 * MIB, 3 * MIB):
        small = Geometry.for_device(RamDevice(SIZE_BYTES), 64 << 10)
        new = Geometry.for_device(RamDevice(size), 64 << 10)
        assert resized(small, size, "x").segment_count >= new.segment_count - 64


def test_segments_beyond_the_formats_limit_are_left_unused():
    device = RamDevice(1 << 40)
    geometry = Geometry.for_device(device, 64 << 10)
    assert geometry.segment_count == fmt.SEGMENT_COUNT_MAX
    assert geometry.fits(device.size_bytes)
    grown = resized(Geometry.for_device(RamDevice(SIZE_BYTES), 64 << 10), 1 << 40, "x")
    assert grown.segment_count == fmt.SEGMENT_COUNT_MAX
    assert grown.fits(1 << 40)


@pytest.mark.parametrize("size_bytes", [0, 4096, 8 * MIB, 19 * MIB])
def test_a_size_that_no_store_fits_into_is_refused_with_the_least(size_bytes):
    store, _ = new_store()
    with pytest.raises(SizeTooSmall, match="needs 20971520"):
        store.resize(size_bytes)
    assert resized(store.geometry, 20_971_520, "x").segment_count == 64


# --------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("first", SIZES)
@pytest.mark.parametrize("second", SIZES)
def test_everything_is_there_after_each_of_two_resizes_and_every_slot_usable(first, second):
    store, device = new_store()
    items = blocks(0, 300, 3000)
    put(store, items)
    store.set_name(b"name", b"value")
    position = store.journal(1).append(b"record")
    for size in (first, second):
        report = store.resize(size)
        assert (report.device_size_bytes, report.segments) == (size, store.stats().segments)
        assert device.size_bytes == size
        assert_sound(store)
        assert contents(store) == dict(items)
        store = reopened(store, device)
        assert contents(store) == dict(items)
    assert store.names() == [(b"name", b"value")]
    assert list(store.journal(1).replay()) == [(position, b"record")]
    assert_full_use(store)


def test_shrinking_a_full_large_store_to_what_it_holds_keeps_all_of_it():
    store, device = new_store(LARGE_BYTES)
    count = fill(store)
    items = blocks(0, count, 3000)
    kept = random.Random(1).sample(items, count // 4)
    store.delete_many({key for key, _ in items} - {key for key, _ in kept})
    report = store.resize(SIZE_BYTES + 4 * MIB)
    assert report.moved_bytes > 0
    assert contents(store) == dict(kept)
    assert_sound(store)
    assert contents(reopened(store, device)) == dict(kept)


def test_resize_to_the_same_size_changes_nothing():
    store, device = new_store()
    put(store, blocks(0, 100))
    geometry = store.geometry
    report = store.resize()
    assert (report.segments, report.segments_before, report.moved_bytes) == (64, 64, 0)
    assert store.geometry == geometry
    assert_holds(reopened(store, device), blocks(0, 100))


def test_old_records_do_not_come_back_when_a_shrunk_store_grows_again():
    """With segments above 4 MiB the new slots lie across the old ones, whose groups are still
    whole records of this very store."""
    size = 220 * MIB
    device = RamDevice(size)
    Store.format(device, segment_size_bytes=8 * MIB, entropy=entropy)
    store = Store.open(device)
    items = blocks(0, 240, 600_000)
    put(store, items)
    store.commit()
    kept = items[:20]
    store.delete_many(key for key, _ in items[20:])
    before = dict(device.pages)
    store.resize(84 * MIB)
    # A device that is not cut, as a partition would be, still has what it had.
    device.pages.update({page: data for page, data in before.items() if page * 4096 >= 84 * MIB})
    store.resize(size)
    assert_sound(store)
    image = copied(device)
    checkpoint = store.geometry.segment_offset(superblock.load(image).checkpoint_slot)
    image.pages[checkpoint // 4096 + 1] = bytes(4096)
    killed = Store.open(image)
    assert not killed.recovery.from_checkpoint
    assert contents(killed) == dict(kept)
    assert_sound(killed)


def test_positions_are_never_given_twice_across_a_shrink_to_an_empty_store():
    store, device = new_store(LARGE_BYTES)
    put(store, blocks(0, 3000, 3000))
    store.delete_many(key for key, _ in blocks(0, 3000, 3000))
    store.resize(SIZE_BYTES)
    position = store.position()
    store = reopened(store, device)
    put(store, blocks(0, 1))
    assert store.position() > position


# -------------------------------------------------------------------------- the superblock


def copy_pages(geometry: Geometry) -> list[int]:
    return [offset // 4096 for offset in geometry.copy_offsets]


@pytest.mark.parametrize("size_bytes", [28 * MIB, 44 * MIB, 60 * MIB])
@pytest.mark.parametrize("left", [0, 1, 3])
def test_any_copy_but_the_middle_is_found_by_the_devices_size_alone(size_bytes, left):
    store, device = new_store(36 * MIB)
    put(store, blocks(0, 50))
    store.resize(size_bytes)
    store.close()
    for number, page in enumerate(copy_pages(store.geometry)):
        if number != left:
            device.pages[page] = bytes(4096)
    again = Store.open(device)
    assert again.geometry == store.geometry
    assert_holds(again, blocks(0, 50))


@pytest.mark.parametrize("size_bytes", [28 * MIB, 44 * MIB])
def test_copies_of_the_old_size_are_erased(size_bytes):
    store, device = new_store(36 * MIB)
    old = store.geometry
    store.resize(size_bytes)
    new = store.geometry
    for page in {*copy_pages(old)} - {*copy_pages(new)}:
        assert not any(device.pages.get(page, b""))
    found = [superblock.read_copy(device, offset)[0] for offset in new.copy_offsets]
    assert [copy.generation for copy in found] == [found[0].generation] * 4
    assert {copy.device_size_bytes for copy in found} == {size_bytes}


def test_a_value_that_looks_like_a_superblock_is_never_taken_for_one():
    """Where a new store of this size would have its middle copy, a grown one has values, and
    those come from strangers."""
    store, device = new_store()
    store.resize(60 * MIB)
    guessed = device.size_bytes // 2 & -fmt.ERASE_UNIT_SIZE_BYTES
    assert guessed not in store.geometry.copy_offsets
    put(store, blocks(0, 20))
    store.close()
    true = superblock.load(device)
    evil = true._replace(
        generation=10**9, copy=2, middle_offset=guessed, uuid=b"e" * 16, segment_count=6,
        segments_before_middle=6, end_offset=guessed + fmt.ERASE_UNIT_SIZE_BYTES,
    )  # fmt: skip
    device.pages[guessed // 4096] = fmt.SUPERBLOCK.seal(evil)
    assert superblock.load(device) == true
    device.pages[0] = bytes(4096)
    assert superblock.load(device).uuid == true.uuid
    device.pages[fmt.ERASE_UNIT_SIZE_BYTES // 4096] = bytes(4096)
    assert superblock.load(device).uuid == true.uuid, "the copy at the end says whose store it is"


@pytest.mark.parametrize("damaged", [(), (0,), (1, 2, 3), (0, 1), (2, 3), (0, 2, 3)])
def test_an_update_never_writes_to_the_last_good_copy_first(damaged):
    """Two power cuts in a row: the first left copies torn, the second tears all under way."""
    store, device = new_store()
    put(store, blocks(0, 10))
    store.commit()
    pages = copy_pages(store.geometry)
    for number in damaged:
        device.pages[pages[number]] = b"t" * 4096
    loaded = superblock.load(device)
    recording = RamDevice(SIZE_BYTES, pages=dict(device.pages), record=True)
    superblock.store(recording, loaded)
    torn: set[int] = set()
    image = copied(device)
    for event in recording.events:
        if event.kind == "sync":
            torn = set()
            continue
        torn.add(event.offset // 4096)
        image.poke(event.offset, event.data)
        cut = copied(image)
        for page in torn:
            cut.pages[page] = b"t" * 4096
        assert superblock.load(cut).generation in (loaded.generation, loaded.generation + 1)
        assert_holds(Store.open(cut), blocks(0, 10))


def test_a_misdirected_copy_counts_for_nothing():
    _, device = new_store()
    pages = copy_pages(Geometry.of(superblock.load(device)))
    lost = device.pages[pages[3]]
    for page in pages:
        device.pages[page] = bytes(4096)
    device.pages[pages[0]] = lost
    with pytest.raises(SuperblockDamaged):
        superblock.load(device)


def test_a_device_that_grew_opens_before_it_is_resized():
    store, device = new_store()
    put(store, blocks(0, 20))
    store.close()
    larger = RamDevice(LARGE_BYTES, pages=device.pages)
    store = Store.open(larger)
    assert store.stats().segments == 64
    report = store.resize()
    assert report.device_size_bytes == LARGE_BYTES
    assert store.stats().segments > 300
    assert_holds(reopened(store, larger), blocks(0, 20))


# -------------------------------------------------------------------------------- refused


def test_shrinking_below_what_is_stored_is_refused_and_changes_nothing():
    store, device = new_store(LARGE_BYTES)
    items = blocks(0, 2500, 3000)
    put(store, items)
    store.commit()
    written = store.stats().written_bytes
    with pytest.raises(SizeTooSmall, match="does not fit"):
        store.resize(SIZE_BYTES)
    assert store.stats().written_bytes == written, "nothing was moved"
    assert (store.stats().segments, device.size_bytes) == (448, LARGE_BYTES)
    assert contents(store) == dict(items)
    assert_full_use(store)


def test_shrinking_that_finds_no_room_on_the_way_leaves_a_whole_store_of_the_old_size(monkeypatch):
    monkeypatch.setattr("blkdev.care.resize.Resizer._refuse_if_full", lambda *_: None)
    store, device = new_store(LARGE_BYTES)
    items = blocks(0, 2500, 3000)
    put(store, items)
    store.commit()
    with pytest.raises(SizeTooSmall, match="does not fit"):
        store.resize(SIZE_BYTES)
    assert store.stats().segments == 448
    assert contents(store) == dict(items)
    assert_full_use(store)
    assert contents(reopened(store, device)) == dict(items)


def test_an_open_view_beyond_the_new_end_is_waited_for_then_the_resize_gives_up():
    store, device = new_store(LARGE_BYTES)
    count = fill(store)
    store.delete_many(key for key, _ in blocks(0, count - 200, 3000))
    key, value = block(count - 1, 3000)
    with store.view(key) as view:
        with pytest.raises(StoreBusy, match="close what reads it"):
            store.resize(SIZE_BYTES, wait_s=0)
        assert view == value
        assert store.stats().segments == 448
        assert_sound(store)
    report = store.resize(SIZE_BYTES, wait_s=0)
    assert report.segments == 64
    assert_holds(store, blocks(count - 200, 200, 3000))
    assert_sound(reopened(store, device))


def test_a_view_that_is_closed_in_time_lets_the_resize_end():
    store, _ = new_store(LARGE_BYTES)
    count = fill(store)
    store.delete_many(key for key, _ in blocks(0, count - 200, 3000))
    with contextlib.ExitStack() as views:
        views.enter_context(store.view(block(count - 1, 3000)[0]))
        report = store.resize(SIZE_BYTES, progress=lambda _done, _total: views.close())
    assert report.segments == 64
    assert_sound(store)


def test_a_damaged_segment_beyond_the_new_end_is_named_and_the_store_stays_as_it_is():
    store, device = new_store(LARGE_BYTES)
    put(store, blocks(0, 5000, 3000))
    store.commit()
    last = max(store._catalog.segments)
    store.delete_many(key for key, _ in blocks(0, 4000, 3000))
    page = store.geometry.segment_offset(last - 1) // 4096
    for number in range(page + 1, page + 15):
        device.pages[number] = bytes(4096)
    with pytest.raises(SegmentDamaged, match=f"byte {page * 4096} "):
        store.resize(SIZE_BYTES)
    assert store.stats().segments == 448
    store.commit()


def test_a_resize_that_is_interrupted_leaves_a_whole_store_of_the_old_size():
    store, device = new_store(LARGE_BYTES)
    put(store, blocks(0, 3000, 3000))
    store.delete_many(key for key, _ in blocks(0, 2500, 3000))

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.resize(SIZE_BYTES, progress=stop)
    assert store.stats().segments == 448
    assert_full_use(store)
    store.resize(SIZE_BYTES)
    assert contents(reopened(store, device)) == dict(blocks(2500, 500, 3000))


def test_a_second_resize_at_the_same_time_is_refused():
    store, _ = new_store(LARGE_BYTES)
    put(store, blocks(0, 4000, 3000))
    store.delete_many(key for key, _ in blocks(0, 3500, 3000))
    refused = []

    def again(_done: int, _total: int) -> None:
        with pytest.raises(StoreBusy, match="a resize is running") as caught:
            store.resize()
        refused.append(caught.value)

    store.resize(SIZE_BYTES, progress=again)
    assert refused
    store.resize(LARGE_BYTES)
    assert_sound(store)


def test_two_resizes_that_meet_leave_one_of_the_sizes_and_a_file_of_that_length(tmp_path):
    with file_store(tmp_path / "store") as store:
        items = blocks(0, 400, 3000)
        put(store, items)
        refused = []

        def resize(sizes: list[int]) -> None:
            for size in sizes:
                try:
                    store.resize(size)
                except StoreBusy as error:
                    refused.append(error)

        sizes = [28 * MIB, SIZE_BYTES, LARGE_BYTES, SIZE_BYTES] * 3
        threads = [threading.Thread(target=resize, args=(each,)) for each in (sizes, sizes[::-1])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) < 24
        geometry = store.geometry
        assert store.resize(superblock.load(store.device).device_size_bytes).cut
        assert store.geometry == geometry
        assert (tmp_path / "store").stat().st_size == store.device.size_bytes
        assert not store._catalog.is_withholding
        assert contents(store) == dict(items)
        assert_sound(store)


@pytest.mark.parametrize("segment_size_bytes", [64 << 10, 8 * MIB])
@pytest.mark.parametrize("shares", [(0.8,), (0.4,), (0.8, 0.35), (0.4, 0.9, 0.3)])
def test_bytes_out_of_use_beyond_the_end_stay_so_when_the_store_grows_again(
    segment_size_bytes, shares
):
    """Where the middle copy has moved, the same bytes have another number, or parts of two."""
    size = 600 * MIB if segment_size_bytes > MIB else 120 * MIB
    device = RamDevice(size)
    Store.format(device, segment_size_bytes=segment_size_bytes, entropy=entropy)
    store = Store.open(device)
    items = blocks(0, 50, 3000)
    put(store, items)
    store.commit()
    slot = store.stats().segments - 3
    begin = store.geometry.segment_offset(slot)
    store._catalog.free.remove(slot)
    store._catalog.bad_slots[slot] = True
    store._checkpointer.update_superblock()
    assert store.stats().segments_retired == 1
    for share in shares:
        store.resize(int(size * share) & -4096)
        store = reopened(store, device)
    store.resize(size)
    free = [store.geometry.segment_offset(slot) for slot in store._catalog.free]
    assert not [at for at in free if begin - segment_size_bytes < at < begin + segment_size_bytes]
    assert 1 <= store.stats().segments_retired <= 1 + len(shares)
    assert_holds(reopened(store, device), items)


def test_a_segment_out_of_use_below_the_new_end_stays_out_of_use():
    store, device = new_store(LARGE_BYTES)
    put(store, blocks(0, 3000, 3000))
    store.delete_many(key for key, _ in blocks(0, 2700, 3000))
    store.compact()
    slot = next(slot for slot in store._catalog.free if slot < 60)
    store._catalog.free.remove(slot)
    store._catalog.bad_slots[slot] = True
    store._checkpointer.update_superblock()
    store.resize(SIZE_BYTES)
    assert store.stats().segments_retired == 1
    assert_full_use(store)
    assert slot not in store._catalog.segments
    assert_holds(reopened(store, device), blocks(2700, 300, 3000))


def test_a_store_that_is_closed_meanwhile_ends_the_resize():
    store, device = new_store(LARGE_BYTES)
    put(store, blocks(0, 4000, 3000))
    store.delete_many(key for key, _ in blocks(0, 3500, 3000))
    with pytest.raises(StoreClosed):
        store.resize(SIZE_BYTES, progress=lambda _done, _total: store.close())
    again = Store.open(device)
    assert again.stats().segments == 448
    assert contents(again) == dict(blocks(3500, 500, 3000))
    assert_sound(again)


def test_a_store_that_is_read_only_or_closed_is_not_resized():
    store, device = new_store()
    store.close()
    with pytest.raises(StoreClosed):
        store.resize()
    with pytest.raises(StoreReadOnly):
        Store.open(device, read_only=True).resize()


@pytest.mark.parametrize("size_bytes", [SIZE_BYTES, 60 * MIB])
def test_a_write_or_sync_that_fails_anywhere_latches_and_loses_nothing(size_bytes):
    base, device = new_store(36 * MIB)
    items = blocks(0, 1500, 3000)
    put(base, items)
    base.delete_many(key for key, _ in items[:1000])
    base.commit()
    image = dict(device.pages)

    def attempt(fail_after: int | None) -> tuple[FaultyDevice, int]:
        faulty = FaultyDevice(36 * MIB, pages=dict(image))
        store = Store.open(faulty)
        before = sum(faulty.counts.values())
        faulty.fail_at = -1 if fail_after is None else before + fail_after
        try:
            store.resize(size_bytes)
        except (StoreReadOnly, SegmentDamaged):
            faulty.fail_at = -1
            assert store.stats().latched or size_bytes == SIZE_BYTES
        return faulty, sum(faulty.counts.values()) - before

    _, count = attempt(None)
    numbers = {*range(0, count, max(1, count // 12)), *range(count - 24, count)}
    for number in sorted(numbers):
        faulty, _ = attempt(number)
        again = Store.open(copied(faulty))
        assert again.geometry.segment_count in (320, 64, 704)
        assert contents(again) == dict(items[1000:])
        assert_sound(again)


# --------------------------------------------------------------------------------- online


def test_readers_and_writers_go_on_while_a_store_shrinks_and_grows():
    store, device = new_store(LARGE_BYTES)
    fixed = blocks(0, 600, 3000)
    put(store, fixed)
    put(store, blocks(600, 4000, 3000))
    store.delete_many(key for key, _ in blocks(600, 4000, 3000))
    stop = threading.Event()
    failures: list[BaseException] = []
    written: list[tuple[bytes, bytes]] = []

    def read() -> None:
        rng = random.Random(1)
        while not stop.is_set():
            key, value = rng.choice(fixed)
            assert store.get(key) == value
            with store.view(key) as view:
                assert view == value

    def write() -> None:
        number = 100_000
        while not stop.is_set():
            item = block(number, 300)
            put(store, [item])
            if number % 8 == 0:
                store.commit()
            if number % 3:
                store.delete_many([item[0]])
            else:
                written.append(item)
            number += 1

    def guarded(work) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (read, write)]
    for thread in threads:
        thread.start()
    try:
        for size in (SIZE_BYTES, LARGE_BYTES, 28 * MIB, 60 * MIB, SIZE_BYTES):
            assert store.resize(size).device_size_bytes == size
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert written
    assert_sound(store)
    assert contents(reopened(store, device)) == dict(fixed + written)


def test_writers_fill_the_store_while_it_shrinks_and_only_they_are_refused():
    store, device = new_store(LARGE_BYTES)
    items = blocks(0, 500, 3000)
    put(store, items)
    added: list[tuple[bytes, bytes]] = []

    def write(_done: int, _total: int) -> None:
        item = block(300_000 + len(added), 30_000)
        try:
            put(store, [item])
        except StoreFull:
            return
        added.append(item)

    fill(store, 600_000)
    store.delete_many(key for key, _ in blocks(600_000, 20_000, 3000))
    try:
        store.resize(SIZE_BYTES, progress=write)
    except SizeTooSmall:
        assert store.stats().segments == 448
    assert added
    assert contents(reopened(store, device)) == dict(items + added)


# ---------------------------------------------------------------------- files and devices


def file_store(path: Path, size_bytes: int = LARGE_BYTES) -> Store:
    device = FileDevice(path, create_size_bytes=size_bytes, windows=(64, MIB))
    Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES)
    return Store.open(device)


@pytest.mark.slow  # syncs that count
def test_a_plain_file_grows_and_is_cut_with_its_store(tmp_path):
    path = tmp_path / "store"
    with file_store(path, SIZE_BYTES) as store:
        put(store, blocks(0, 100, 3000))
        for size in (28 * MIB, SIZE_BYTES, 22 * MIB):
            assert store.resize(size).cut
            assert path.stat().st_size == size
            assert_full_use(store)
            assert_holds(store, blocks(0, 100, 3000))
    with Store.open(FileDevice(path)) as store:
        assert contents(store) == dict(blocks(0, 100, 3000))


def test_a_file_that_somebody_made_larger_is_used_whole(tmp_path):
    path = tmp_path / "store"
    with file_store(path, SIZE_BYTES) as store:
        put(store, blocks(0, 100, 3000))
        os.truncate(path, LARGE_BYTES)
        assert store.resize().device_size_bytes == LARGE_BYTES
        assert_full_use(store)


@pytest.mark.needs_helper
def test_an_open_view_of_a_map_that_reaches_beyond_the_new_end_delays_the_cut(tmp_path):
    """Cutting a file under a map that somebody reads would show zeros."""
    path = tmp_path / "store"
    device = FileDevice(path, create_size_bytes=LARGE_BYTES)
    Store.format(device, segment_size_bytes=512 << 10)
    with Store.open(device) as store:
        items = blocks(0, 20, 100_000)
        put(store, items)
        store.commit()
        with store.view(items[0][0]) as view:
            report = store.resize(28 * MIB)
            assert not report.cut
            assert path.stat().st_size == LARGE_BYTES
            assert view == items[0][1]
            assert contents(store) == dict(items)
        del view
        assert store.resize(28 * MIB).cut
        assert path.stat().st_size == 28 * MIB
        assert contents(store) == dict(items)
        assert_sound(store)


def test_large_values_are_read_while_the_file_under_their_maps_is_cut(tmp_path):
    path = tmp_path / "store"
    device = FileDevice(path, create_size_bytes=LARGE_BYTES, windows=(8, 4 * MIB))
    Store.format(device, segment_size_bytes=512 << 10)
    with Store.open(device) as store:
        items = blocks(0, 30, 200_000)
        stop = threading.Event()
        failures: list[BaseException] = []

        def read() -> None:
            rng = random.Random(2)
            try:
                while not stop.is_set():
                    key, value = rng.choice(items)
                    assert store.get(key) == value
            except BaseException as error:
                failures.append(error)

        fillers = blocks(5000, 60, 200_000)
        put(store, fillers)
        put(store, items)
        store.delete_many(key for key, _ in fillers)
        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(4):
                store.resize(28 * MIB)
                store.resize(LARGE_BYTES)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not failures
        assert contents(store) == dict(items)
        assert_sound(store)


def test_a_file_that_cannot_grow_that_far_is_refused_in_words(tmp_path):
    with file_store(tmp_path / "store", SIZE_BYTES) as store:
        with pytest.raises(DeviceTooSmall, match="cannot be made larger"):
            store.resize(1 << 62)
        assert store.device.size_bytes == SIZE_BYTES
        assert store.resize(LARGE_BYTES).segments == 448


@pytest.mark.needs_root
def test_a_block_device_is_used_as_far_as_it_goes_and_no_further(tmp_path):
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(SIZE_BYTES)
    command = ["losetup", "--find", "--show", str(image)]
    loop = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        device = BlockDevice(loop)
        Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES)
        with Store.open(device) as store:
            items = blocks(0, 200, 3000)
            put(store, items)
            with pytest.raises(DeviceTooSmall, match=f"has only {SIZE_BYTES} bytes"):
                store.resize(LARGE_BYTES)
            os.truncate(image, LARGE_BYTES)
            subprocess.run(["losetup", "--set-capacity", loop], check=True)
            assert store.resize().device_size_bytes == LARGE_BYTES
            assert_full_use(store)
            assert store.resize(28 * MIB).segments == 192
            assert_holds(store, items)
        with Store.open(BlockDevice(loop)) as store:
            assert store.stats().segments == 192
            assert contents(store) == dict(items)
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)
