"""Batches: replaced values, deletions and new values that take effect together."""

import random
import threading
from zlib import crc32

import pytest

from blkdev import format as fmt
from blkdev.batch import batch_size_max_bytes, cost_bytes
from blkdev.errors import KeyNotFound, KeyTooLarge, StoreFull, StoreReadOnly, ValueTooLarge
from blkdev.index import fingerprint_of
from blkdev.store import Store
from tests.blkdev.devices import (
    SMALL_SEGMENT_BYTES,
    assert_holds,
    assert_sound,
    block,
    blocks,
    contents,
    copied,
    new_store,
    put,
)

VALUE_MAX_BYTES = SMALL_SEGMENT_BYTES // 2


@pytest.fixture
def opened():
    return new_store()


@pytest.fixture
def store(opened):
    return opened[0]


def written(store: Store) -> int:
    stats = store.stats()
    return stats.written_bytes + stats.staged_bytes


# ------------------------------------------------------------------------------ replacing


@pytest.mark.parametrize("committed", [False, True], ids=["staged", "committed"])
@pytest.mark.parametrize("size_bytes", [0, 1, 300, 5000, VALUE_MAX_BYTES])
def test_replaced_value_is_seen_by_every_kind_of_read(store, committed, size_bytes):
    put(store, [(b"key", b"old value"), *blocks(0, 5)])
    if committed:
        store.commit()
    value = random.Random(1).randbytes(size_bytes)
    store.apply({b"key": value})
    assert store.get(b"key") == value
    assert store.get_part(b"key", 1, 100) == value[1:101]
    assert store.size_of(b"key") == size_bytes
    with store.view(b"key") as view:
        assert view == value
    assert list(store.keys()).count(b"key") == 1
    assert store.stats().keys == 6
    assert_sound(store)


def test_replaced_value_is_still_replaced_after_reopen(opened):
    store, device = opened
    put(store, [(b"key", b"old")])
    store.commit()
    store.apply({b"key": b"new"})
    store.close()
    again = Store.open(device)
    assert contents(again) == {b"key": b"new"}
    assert_sound(again)


def test_value_replaced_a_thousand_times_is_one_key_and_the_rest_is_reclaimed(opened):
    store, device = opened
    put(store, blocks(0, 20))
    for number in range(1000):
        store.apply({b"key": b"%d" % number * 60})
    store.commit()
    before = store.stats()
    assert before.keys == 21
    assert store.compact().segments_freed
    after = store.stats()
    assert after.live_bytes <= before.live_bytes
    assert after.used_bytes < before.used_bytes / 2
    crashed = Store.open(copied(device))
    for each in (store, crashed):
        assert each.get(b"key") == b"999" * 60
        assert_holds(each, blocks(0, 20))
        assert_sound(each)


def test_value_that_is_stored_already_writes_nothing(store):
    items = blocks(0, 3)
    put(store, items)
    store.commit()
    before = written(store)
    store.apply(dict(items))
    assert written(store) == before
    assert_holds(store, items)


def test_unchanged_value_among_changed_ones_is_not_written_again(store):
    unchanged, changed = block(0, 20_000), block(1)
    put(store, [unchanged, changed])
    before = written(store)
    store.apply({unchanged[0]: unchanged[1], changed[0]: b"new"})
    assert written(store) - before < 1000
    assert_holds(store, [unchanged, (changed[0], b"new")])


def test_value_with_the_checksum_of_the_stored_one_is_told_apart(store):
    first, second = b"plumless", b"buckeroo"
    assert crc32(first) == crc32(second)
    store.apply({b"key": first})
    store.apply({b"key": second})
    assert store.get(b"key") == second


def test_damaged_value_is_healed_by_putting_it_again(opened):
    store, device = opened
    key, value = block(0, 3000)
    put(store, [(key, value)])
    store.commit()
    page = next(page for page, data in device.pages.items() if value[:200] in data)
    device.pages[page] = device.pages[page].replace(value[:200], bytes(200))
    store.apply({key: value})
    assert store.get(key) == value
    assert_sound(store)


def test_record_with_a_damaged_header_gives_way(opened):
    store, device = opened
    key, value = block(0)
    put(store, [(key, value)])
    store.commit()
    page = next(page for page, data in device.pages.items() if key in data)
    device.pages[page] = device.pages[page].replace(key, bytes(len(key)))
    store.apply({key: b"new"})
    assert store.get(key) == b"new"
    assert store.stats().keys == 1


def test_key_with_the_same_fingerprint_is_left_alone(store, monkeypatch):
    for module in ("store", "batch", "reader", "segment"):
        monkeypatch.setattr(f"blkdev.{module}.fingerprint_of", lambda key, salt: 7)
    store.apply({b"one": b"1", b"two": b"2"})
    store.apply({b"one": b"3"})
    assert contents(store) == {b"one": b"3", b"two": b"2"}
    store.apply({b"two": None})
    assert contents(store) == {b"one": b"3"}


def test_view_of_a_replaced_value_stays_as_it_was(store):
    key, value = block(0, 20_000)
    put(store, [(key, value)])
    store.commit()
    with store.view(key) as view:
        store.apply({key: b"new"})
        store.commit()
        store.compact()
        assert view == value
    assert store.get(key) == b"new"


# -------------------------------------------------------------------------------- batches


def test_batch_puts_replaces_and_deletes(store):
    put(store, [(b"replaced", b"old"), (b"deleted", b"x"), (b"kept", b"y")])
    store.apply({b"replaced": b"new", b"deleted": None, b"added": b"z", b"missing": None})
    assert contents(store) == {b"replaced": b"new", b"kept": b"y", b"added": b"z"}
    assert_sound(store)


def test_empty_batch_and_deletion_of_what_is_not_there_write_nothing(store):
    before = written(store)
    store.apply({})
    store.apply({b"missing": None})
    assert written(store) == before


def test_batch_is_one_group(opened):
    store, device = opened
    put(store, blocks(0, 50))
    store.commit()
    device.events.clear()
    store.apply({key: b"new" for key, _ in blocks(0, 50)})
    store.commit()
    assert [event.kind for event in device.events] == ["write", "sync"]


def test_batch_of_the_most_changes_fits_the_smallest_segment(store):
    """Many records need a long summary: it has its room too."""
    most = batch_size_max_bytes(VALUE_MAX_BYTES)
    tiny = most // cost_bytes(b"1234", b"")
    for value in (b"", b"1234"):
        changes = {number.to_bytes(4, "big"): value for number in range(tiny)}
        store.apply(changes)
        assert contents(store) == changes
    store.apply(dict.fromkeys(changes))
    assert contents(store) == {}
    assert_sound(store)


def test_batch_above_the_limit_is_refused_whole(store):
    half = bytes(VALUE_MAX_BYTES // 2)
    changes = {b"1": half, b"2": half, b"3": half}
    with pytest.raises(ValueTooLarge, match="3 changes at once"):
        store.apply(changes)
    assert contents(store) == {}


def test_one_value_of_the_largest_size_fits_whatever_its_key(store):
    store.apply({b"k" * fmt.KEY_SIZE_MAX_BYTES: bytes(VALUE_MAX_BYTES)})
    store.apply({b"k" * fmt.KEY_SIZE_MAX_BYTES: b"1" * VALUE_MAX_BYTES})
    assert store.get(b"k" * fmt.KEY_SIZE_MAX_BYTES) == b"1" * VALUE_MAX_BYTES


@pytest.mark.parametrize("key", [b"", b"k" * (fmt.KEY_SIZE_MAX_BYTES + 1)])
def test_key_outside_the_limits_refuses_the_whole_batch(store, key):
    with pytest.raises(KeyTooLarge):
        store.apply({b"good": b"value", key: b"value"})
    assert contents(store) == {}


def test_value_above_the_limit_refuses_the_whole_batch(store):
    with pytest.raises(ValueTooLarge, match="this store takes"):
        store.apply({b"good": b"value", b"bad": bytes(VALUE_MAX_BYTES + 1)})
    assert contents(store) == {}


def test_value_changed_after_apply_is_stored_as_it_was(store):
    value = bytearray(b"before")
    store.apply({b"key": value})
    value[:] = b"after!"
    assert store.get(b"key") == b"before"


def test_read_only_store_refuses_a_batch(opened):
    store, device = opened
    store.close()
    with pytest.raises(StoreReadOnly):
        Store.open(device, read_only=True).apply({b"key": b"value"})


def test_full_store_refuses_a_batch_whole_and_still_deletes(opened):
    store, _ = opened
    number = 0
    with pytest.raises(StoreFull):
        while True:
            store.apply({b"%d" % number: random.Random(number).randbytes(VALUE_MAX_BYTES)})
            number += 1
    before = contents(store)
    with pytest.raises(StoreFull):
        store.apply({b"0": None, b"1": b"other" * 6000})
    assert contents(store) == before
    store.apply({b"%d" % at: None for at in range(4)})
    store.apply({b"4": b"other" * 6000})
    assert store.get(b"4") == b"other" * 6000
    assert len(contents(store)) == number - 4
    assert_sound(store)


def test_missing_key_is_not_found_after_a_batch_deleted_it(store):
    put(store, [(b"key", b"value")])
    store.apply({b"key": None})
    with pytest.raises(KeyNotFound):
        store.get(b"key")


# ----------------------------------------------------------------------------- concurrency


def test_key_replaced_while_it_is_read_is_never_missing(store):
    """Compaction runs as well, so the reader meets every way a record can move."""
    values = [bytes([number]) * 2000 for number in range(256)]
    store.apply({b"key": values[0]})
    done = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not done.is_set():
                assert store.get(b"key") in values
                assert store.has(b"key")
                assert b"key" in list(store.keys())
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(1500):
        store.apply({b"key": values[number % 256], b"%d" % (number % 7): values[-1]})
        if number % 100 == 0:
            store.commit()
            store.compact()
    done.set()
    for reader in readers:
        reader.join()
    assert not failures, failures[0]
    assert_sound(store)


def test_keys_replaced_during_a_listing_are_listed_once(store):
    items = blocks(0, 300)
    put(store, items)
    listing = store.keys()
    seen = [next(listing)]
    store.apply({key: b"new" for key, _ in items[:150]})
    store.commit()
    store.compact()
    store.apply({key: b"newer" for key, _ in items[100:200]})
    seen += listing
    assert sorted(seen) == sorted(key for key, _ in items)


def test_two_threads_that_replace_the_same_keys_leave_one_record_each(store):
    keys = [b"%d" % number for number in range(20)]

    def replace(mark: bytes) -> None:
        for number in range(200):
            store.apply(dict.fromkeys(keys, mark + b"%d" % number))

    threads = [threading.Thread(target=replace, args=(mark,)) for mark in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = contents(store)
    assert set(found) == set(keys)
    assert len(set(found.values())) == 1, "a batch was torn by the other thread's"
    assert_sound(store)


def test_fingerprints_of_a_batch_are_those_of_the_index(store):
    store.apply({b"key": b"value"})
    fingerprint = fingerprint_of(b"key", store._volume.index_salt)
    assert [entry[0] for entry in store._catalog.index.entries()] == [fingerprint]
