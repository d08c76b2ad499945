"""A store that is full, one that never stops changing, and shortcuts that are lost."""

import contextlib
import random

import pytest

from blkdev import superblock
from blkdev.device import RamDevice
from blkdev.devices.file import FileDevice
from blkdev.errors import StoreFull
from blkdev.format import NO_SLOT, PAGE_SIZE_BYTES
from blkdev.store import Store
from tests.blkdev.devices import (
    MIB,
    SIZE_BYTES,
    FaultyDevice,
    assert_holds,
    assert_sound,
    block,
    blocks,
    contents,
    copied,
    digest,
    new_store,
    put,
)

SIZE_OF_BLOCK = 3000


def fill(store: Store, first: int = 0, size_bytes: int = SIZE_OF_BLOCK) -> int:
    """Put blocks until there is no room; the number after the last."""
    number = first
    with contextlib.suppress(StoreFull):
        while True:
            put(store, [block(number, size_bytes)])
            number += 1
    return number


@pytest.fixture
def full():
    """(store, device, its blocks) with no room for another value."""
    store, device = new_store()
    count = fill(store)
    store.commit()
    return store, device, blocks(0, count, SIZE_OF_BLOCK)


# --------------------------------------------------------------------------------- full


def test_full_store_keeps_everything_readable(full):
    store, device, items = full
    used = sum(len(value) for _, value in items)
    assert used > 0.85 * store.stats().capacity_bytes
    with pytest.raises(StoreFull, match="delete something"):
        store.put_many([block(99_999, SIZE_OF_BLOCK)])
    assert_holds(store, items)
    assert_sound(store)
    assert not store.stats().latched
    assert contents(Store.open(copied(device))) == dict(items)


def test_put_of_a_stored_key_works_on_a_full_store(full):
    store, _, items = full
    assert store.put_many(items) == 0


def test_items_before_the_one_that_finds_the_store_full_are_stored():
    store, _ = new_store()
    many = blocks(0, 3000, SIZE_OF_BLOCK)
    with pytest.raises(StoreFull):
        store.put_many(many)
    stored = store.stats().keys
    assert 0 < stored < len(many)
    assert_holds(store, many[:stored])
    assert not store.has(many[stored][0])


def test_deletes_names_and_trims_work_on_a_full_store():
    store, device = new_store()
    journal = store.journal(1)
    positions = [journal.append(b"record") for _ in range(3)]
    count = fill(store)
    with pytest.raises(StoreFull):
        journal.append(bytes(30_000))
    store.set_name(b"root", b"value")
    journal.trim(positions[1])
    store.commit()
    keys = [key for key, _ in blocks(0, count, SIZE_OF_BLOCK)]
    assert store.delete_many(keys[:10]) == 10
    store.commit()
    recovered = Store.open(copied(device))
    assert recovered.names() == [(b"root", b"value")]
    assert [record for _, record in recovered.journal(1).replay()] == [b"record"]
    assert recovered.stats().keys == count - 10
    assert_sound(recovered)


def test_values_do_not_take_the_room_that_a_name_on_a_full_store_was_given():
    """It was given one of the last segments, and that has room for some values, too."""
    store, _ = new_store()
    count = fill(store, size_bytes=20_000)
    fill(store, 10_000, 300)
    for round_ in range(40):
        store.set_name(b"name", b"%d" % round_)
        fill(store, 20_000 + 1000 * round_, 300)
    for key, _ in blocks(0, count, 20_000):
        assert store.delete_many([key]) == 1
    store.commit()
    assert fill(store, 100_000, 20_000) - 100_000 > 0.9 * count
    assert_sound(store)


def test_deleting_everything_makes_a_full_store_take_as_much_again(full):
    store, device, items = full
    assert store.delete_many(key for key, _ in items) == len(items)
    again = fill(store, 50_000)
    assert again - 50_000 >= 0.95 * len(items)
    store.commit()
    assert_holds(Store.open(copied(device)), blocks(50_000, again - 50_000, SIZE_OF_BLOCK))


def test_full_store_reopened_after_a_crash_can_still_delete_and_refill(full):
    _, device, items = full
    store = Store.open(copied(device))
    assert store.delete_many(key for key, _ in items[::2]) == len(items[::2])
    assert fill(store, 50_000) - 50_000 > len(items) // 3
    assert_holds(store, items[1::2])
    assert_sound(store)


def test_scattered_deletes_on_a_full_store_give_their_space_to_new_values(full):
    store, _, items = full
    rng = random.Random(1)
    gone = rng.sample(items, len(items) // 2)
    store.delete_many(key for key, _ in gone)
    kept = dict(items)
    for key, _ in gone:
        del kept[key]
    added = fill(store, 50_000) - 50_000
    assert added >= 0.8 * len(gone)
    assert_holds(store, list(kept.items()))
    assert_sound(store)


def test_names_rewritten_without_end_never_fill_a_store():
    store, _ = new_store()
    put(store, blocks(0, 50, SIZE_OF_BLOCK))
    for number in range(1500):
        store.set_name(b"root", b"%d" % number * 1000)
        store.commit()
    assert store.name(b"root") == b"1499" * 1000
    assert_holds(store, blocks(0, 50, SIZE_OF_BLOCK))
    assert_sound(store)


def test_journal_appended_and_trimmed_without_end_never_fills_a_store():
    store, _ = new_store()
    journal = store.journal(1)
    for number in range(600):
        position = journal.append(b"%d" % number * 4000)
        journal.trim(position - 1)
    assert [record for _, record in journal.replay()] == [b"599" * 4000]
    assert_sound(store)


# ------------------------------------------------------------------------------- compact


def test_compact_gives_back_nearly_all_dead_bytes():
    store, device = new_store()
    items = blocks(0, 1000, SIZE_OF_BLOCK)
    put(store, items)
    store.delete_many(key for key, _ in items if key[5] % 4)
    before = store.stats()
    report = store.compact()
    after = store.stats()
    kept = [item for item in items if not item[0][5] % 4]
    assert report.segments_freed > 10
    assert after.free_bytes - before.free_bytes >= 0.9 * before.dead_bytes
    assert after.keys == len(kept)
    assert_sound(store)
    assert contents(Store.open(copied(device))) == dict(kept)


def test_compact_of_a_store_without_dead_bytes_copies_nothing():
    store, _ = new_store()
    put(store, blocks(0, 500, SIZE_OF_BLOCK))
    store.commit()
    report = store.compact()
    assert (report.segments_freed, report.copied_bytes) == (0, 0)


def test_compact_stops_soon_after_its_budget():
    store, _ = new_store()
    items = blocks(0, 1000, SIZE_OF_BLOCK)
    put(store, items)
    store.delete_many(key for key, _ in items[::2])
    few = store.compact(100_000)
    assert 0 < few.copied_bytes <= 16 * (64 << 10)
    assert store.compact().segments_freed
    assert_holds(store, items[1::2])


def test_tombstones_do_not_outlive_what_they_bury():
    store, device = new_store()
    for number in range(30):
        items = blocks(number * 100, 100, 500)
        put(store, items)
        store.delete_many(key for key, _ in items)
        store.compact()
    store.commit()
    store.compact()
    stats = store.stats()
    assert stats.keys == 0
    assert stats.live_bytes <= 2 * 100 * 24, "what is left belongs to the newest segments"
    assert list(Store.open(copied(device)).keys()) == []


def test_open_views_keep_their_bytes_through_compaction_and_reuse(tmp_path):
    device = FileDevice(tmp_path / "store", create_size_bytes=40 * MIB)
    Store.format(device, segment_size_bytes=512 << 10)
    with Store.open(device) as store, contextlib.ExitStack() as stack:
        items = blocks(0, 20, 100_000)
        put(store, items)
        store.commit()
        views = [stack.enter_context(store.view(key)) for key, _ in items[:3]]
        store.delete_many(key for key, _ in items)
        for round_ in range(6):
            others = blocks(1000 + round_ * 8, 8, 100_000)
            put(store, others)
            store.commit()
            store.delete_many(key for key, _ in others)
            store.compact()
            for view, (_, value) in zip(views, items[:3], strict=True):
                assert view == value
        stack.close()
        assert store.compact().segments_freed
        assert store.stats().keys == 0
        assert store.stats().dead_bytes < 3 * (512 << 10)
        assert_sound(store)


def test_open_view_does_not_make_a_store_full_that_has_dead_segments():
    store, _ = new_store()
    put(store, blocks(0, 10, SIZE_OF_BLOCK))
    count = fill(store, 10)
    with store.view(block(0, SIZE_OF_BLOCK)[0]) as view:
        store.delete_many(key for key, _ in blocks(0, count, SIZE_OF_BLOCK))
        assert fill(store, 50_000) - 50_000 > count // 2
        assert view == block(0, SIZE_OF_BLOCK)[1]


@pytest.mark.parametrize("seed", range(2))
def test_churn_of_many_times_the_capacity_loses_nothing(seed):
    rng = random.Random(seed)
    store, device = new_store()
    alive: dict[bytes, bytes] = {}
    number = 0
    capacity = store.stats().capacity_bytes
    written = 0
    while written < 6 * capacity:
        items = blocks(number, 40, rng.choice((200, 3000, 9000)))
        number += 40
        if sum(map(len, alive.values())) > 0.5 * capacity:
            gone = rng.sample(sorted(alive), len(alive) // 2)
            store.delete_many(gone)
            for key in gone:
                del alive[key]
        put(store, items)
        store.commit()
        alive.update(items)
        written += sum(len(value) for _, value in items)
        if rng.random() < 0.05:
            store = Store.open(device)
    assert contents(store) == alive
    assert_sound(store)


# ------------------------------------------------------------------- checkpoints, the log


def checkpointed() -> tuple[FaultyDevice, dict[bytes, bytes]]:
    """A killed store with a checkpoint, records in front of it and records after it."""
    store, device = new_store()
    items = blocks(0, 500, 1000)
    put(store, items)
    store.set_names({b"a": b"1", b"b": b"2"})
    store.journal(1).append(b"before")
    store.delete_many(key for key, _ in items[:100])
    assert store.checkpoint()
    later = blocks(1000, 200, 1000)
    put(store, later)
    store.set_name(b"a", None)
    store.journal(1).append(b"after")
    store.delete_many(key for key, _ in items[100:120])
    store.commit()
    return device, dict(items[120:] + later)


def checkpoint_pages(device: RamDevice) -> tuple[int, int]:
    """First page of the checkpoint, and of the slot after it."""
    block_ = superblock.load(device)
    assert block_.checkpoint_slot != NO_SLOT
    geometry = superblock.Geometry.of(block_)
    first = geometry.segment_offset(block_.checkpoint_slot) // PAGE_SIZE_BYTES
    return first, first + geometry.segment_size_bytes // PAGE_SIZE_BYTES


def assert_content(store: Store, expected: dict[bytes, bytes]) -> None:
    assert contents(store) == expected
    assert store.names() == [(b"b", b"2")]
    assert [record for _, record in store.journal(1).replay()] == [b"before", b"after"]
    assert_sound(store)


def test_crash_after_a_checkpoint_replays_only_what_follows_it():
    device, expected = checkpointed()
    store = Store.open(copied(device))
    assert store.recovery.from_checkpoint
    assert store.recovery.bytes_replayed < 600 << 10
    assert_content(store, expected)


@pytest.mark.parametrize("page", range(6))
def test_damaged_checkpoint_costs_time_and_no_data(page):
    device, expected = checkpointed()
    first, _ = checkpoint_pages(device)
    at = first + page
    broken = bytearray(device.pages[at])
    broken[40] ^= 4
    device.pages[at] = bytes(broken)
    store = Store.open(copied(device))
    assert not store.recovery.from_checkpoint
    assert_content(store, expected)


def test_unreadable_or_missing_checkpoint_costs_no_data():
    device, expected = checkpointed()
    first, end = checkpoint_pages(device)
    unreadable = FaultyDevice(SIZE_BYTES, pages=dict(device.pages))
    unreadable.bad = set(range(first, end))
    missing = copied(device)
    for page in range(first, end):
        missing.pages.pop(page, None)
    store = Store.open(missing)
    assert not store.recovery.from_checkpoint
    assert_content(store, expected)
    store = Store.open(unreadable)
    assert not store.recovery.from_checkpoint
    assert store.recovery.damaged_slots, "its segments are set aside"
    assert contents(store) == expected
    assert store.check().ok


def test_damaged_checkpoint_of_a_closed_store_costs_no_data():
    device, expected = checkpointed()
    closing = copied(device)
    Store.open(closing).close()
    first, _ = checkpoint_pages(closing)
    closing.pages[first + 1] = bytes(PAGE_SIZE_BYTES)
    assert_content(Store.open(closing), expected)


@pytest.mark.parametrize("damage", ["newest", "older", "both"])
def test_either_of_two_checkpoints_or_none_gives_the_same_content(damage):
    """The older one is superseded: whatever is left of it must not matter."""
    store, device = new_store()
    put(store, blocks(0, 300, 1000))
    assert store.checkpoint()
    older, _ = checkpoint_pages(device)
    leftover = {page: device.pages[page] for page in range(older, older + 3)}
    put(store, blocks(300, 300, 1000))
    store.delete_many(key for key, _ in blocks(0, 100, 1000))
    assert store.checkpoint()
    newest, _ = checkpoint_pages(device)
    assert newest != older
    image = copied(device)
    if damage != "older":
        image.pages[newest + 1] = bytes(PAGE_SIZE_BYTES)
    for page, content in leftover.items():
        image.pages[page] = content
        if damage != "newest":
            image.pages[page] = bytes(PAGE_SIZE_BYTES)
    opened = Store.open(image)
    assert opened.recovery.from_checkpoint is (damage == "older")
    assert contents(opened) == dict(blocks(100, 500, 1000))
    assert_sound(opened)


def test_checkpoint_on_a_full_store_is_left_out():
    store, device = new_store()
    count = fill(store)
    assert not store.checkpoint()
    store.close()
    assert_holds(Store.open(device), blocks(0, count, SIZE_OF_BLOCK))


def test_log_after_a_stale_checkpoint_of_freed_segments_is_used_instead():
    """A crash may leave the superblock at a checkpoint whose segments are gone."""
    store, device = new_store()
    items = blocks(0, 500, 1000)
    put(store, items)
    assert store.checkpoint()
    offsets = superblock.Geometry.of(superblock.load(device)).copy_offsets
    stale = {at // PAGE_SIZE_BYTES: device.pages[at // PAGE_SIZE_BYTES] for at in offsets}
    store.delete_many(key for key, _ in items[:400])
    assert store.compact().segments_freed
    store.commit()
    image = copied(device)
    image.pages.update(stale)
    assert contents(Store.open(image)) == dict(items[400:])


@pytest.mark.slow
def test_index_grows_to_100_000_small_keys_and_comes_back_from_log_and_checkpoint():
    store, device = new_store(32 * MIB, 512 << 10)
    count = 100_000  # the size at which every shard has grown about 15 times
    values = [b"%d" % number for number in range(count)]
    items = [(digest(value), value) for value in values]
    for first in range(0, count, 10_000):
        put(store, items[first : first + 10_000])
        assert store.stats().keys == first + 10_000
    store.commit()
    assert store.stats().index_bytes <= 24 * count
    sample = items[:: count // 2000]
    replayed = Store.open(copied(device))
    assert not replayed.recovery.from_checkpoint
    store.close()
    loaded = Store.open(device)
    assert loaded.recovery.from_checkpoint
    for opened in (replayed, loaded):
        assert opened.stats().keys == count
        assert_holds(opened, sample)
        assert not any(opened.has_many(digest(b"no %d" % number) for number in range(2000)))
    assert set(loaded.keys()) == {key for key, _ in items}


def test_space_over_payload_of_small_records_is_at_most_64_bytes():
    store, device = new_store(32 * MIB, 512 << 10)
    values = [b"%300d" % number for number in range(20_000)]
    put(store, [(digest(value), value) for value in values])
    store.commit()
    written = sum(len(event.data) for event in device.events if event.kind == "write")
    # 16 bytes of summary and 34 of key are part of it.
    assert written / len(values) - 300 <= 64 + 34
