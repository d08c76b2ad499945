"""Batches: replaced values, deletions and new values that take effect together."""

import random
import threading
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blkdev import format as fmt
from blkdev import log
from blkdev.batch import batch_size_max_bytes, cost_bytes
from blkdev.catalog import Catalog
from blkdev.devices.file import FileDevice
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
    # The helper has fingerprints of its own.
    monkeypatch.setattr("blkdev.log.native_stage", None)
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


# ---------------------------------------------------------------------- with and without helper


def valued(value):
    return bytes(value) if isinstance(value, int) else value


changes = st.lists(
    st.dictionaries(
        st.sampled_from([b"key %d" % number for number in range(12)]),
        st.one_of(
            st.none(),
            st.binary(max_size=40),
            st.sampled_from([500, 1000, 2000, 4000]),
            st.binary(max_size=9).map(bytearray),
        ),
        max_size=8,
    ),
    max_size=8,
)


@given(changes, st.sets(st.integers(0, 11)))
def test_batches_leave_the_same_bytes_with_and_without_the_helper(batches, commits):
    images = []
    for native in (log.native_stage, None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(log, "native_stage", native)
            store, device = new_store()
            expected: dict[bytes, bytes] = {}
            for number, drawn in enumerate(batches):
                batch = {key: valued(value) for key, value in drawn.items()}
                store.apply(batch)
                expected |= {key: value for key, value in batch.items() if value is not None}
                for key in [key for key, value in batch.items() if value is None]:
                    expected.pop(key, None)
                assert contents(store) == expected
                if number in commits:
                    store.commit()
            assert_sound(store)
            store.commit()
            log_pages = device.pages.items()
            images.append({at: page for at, page in log_pages if not page.startswith(b"ipfs-mfs")})
    assert images[0] == images[1]


def test_new_small_values_are_staged_by_the_helper_alone(store, monkeypatch):
    put(store, [(b"first", b"opens a segment")])
    if log.native_stage is not None:
        monkeypatch.setattr(store._log, "append", None)
    store.apply({b"%d" % number: b"value" for number in range(100)})
    assert store.stats().keys == 101


@pytest.mark.parametrize(
    "other",
    [{b"first": b"replaced"}, {b"first": None}, {b"view": bytearray(3)}],
    ids=["replaced", "deleted", "no bytes"],
)
def test_batch_with_anything_else_in_it_is_staged_as_before_and_in_one_group(opened, other):
    store, device = opened
    put(store, [(b"first", b"opens a segment")])
    store.commit()
    group = store._log.written_group
    before = store.stats().keys
    store.apply({b"%d" % number: b"value" for number in range(100)} | other)
    store.commit()
    assert store._log.written_group == group + 1
    assert store.stats().keys >= before + 99
    assert_sound(store)
    assert contents(Store.open(copied(device))) == contents(store)


def test_batch_that_does_not_fit_the_group_is_staged_as_before(store):
    """Never half of it in one group and half in the next."""
    most = store._log.staged_size_max_bytes
    put(store, [(b"first", b"opens a segment")])
    store.apply({b"a%d" % number: bytes(1000) for number in range(most // 2 // 1100)})
    items = [(b"b%d" % number, bytes(1000)) for number in range(most * 3 // 4 // 1100)]
    assert store._log.append_plain(items, together=True) == (0, 0)
    staged = store.stats().staged_bytes
    store.apply(dict(items))
    assert store.stats().staged_bytes == 0 or store.stats().staged_bytes > staged
    assert all(store.get(key) == value for key, value in items)
    assert_sound(store)


SPREAD_SUM = 0xD6E8FEB86659FD93
"""Of `fingerprint_of`: the checksum's factor."""


def same_fingerprint(salt):
    """Two keys that have one, made as only who knows the salt can: the second key's tail makes up
    for its checksum, which four bytes before it give it."""
    mask = (1 << 64) - 1
    first, checksum = b"one key.", 12345
    spread = int.from_bytes(first, "little") ^ salt
    tail = (spread + (crc32(first) - checksum) * SPREAD_SUM & mask) ^ salt
    behind = tail.to_bytes(8, "little")
    return first, forged(checksum, behind) + behind


def forged(checksum, behind):
    """Four bytes after which `behind` ends in that CRC-32: the register is run backwards."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
        table.append(value)
    by_top = {value >> 24: number for number, value in enumerate(table)}
    register = checksum ^ 0xFFFFFFFF
    for byte in reversed(bytes(4) + behind):
        number = by_top[register >> 24]
        register = (register ^ table[number]) << 8 & 0xFFFFFFFF | number ^ byte
    return (register ^ 0xFFFFFFFF).to_bytes(4, "little")


def test_keys_of_one_fingerprint_in_a_batch_are_both_stored(store):
    """The helper looks for fingerprints that are there before it stages any: these are not."""
    salt = store._volume.index_salt
    keys = same_fingerprint(salt)
    assert fingerprint_of(keys[0], salt) == fingerprint_of(keys[1], salt)
    put(store, [(b"first", b"opens a segment")])
    store.apply({key: key * 2 for key in keys})
    assert [store.get(key) for key in keys] == [key * 2 for key in keys]
    store.commit()
    assert [store.get(key) for key in keys] == [key * 2 for key in keys]
    assert_sound(store)


def test_batch_during_which_memory_runs_out_is_never_written(opened, monkeypatch):
    store, device = opened
    put(store, [(b"first", b"there")])
    store.commit()

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(log, "native_stage", fail)
    with pytest.raises(MemoryError):
        store.apply({b"second": b"half"})
    with pytest.raises(StoreReadOnly):
        store.commit()
    assert contents(Store.open(copied(device))) == {b"first": b"there"}


@pytest.mark.needs_helper
def test_the_helper_that_takes_no_lock_never_finds_a_replaced_key_missing(tmp_path, monkeypatch):
    """It may look between any two changes of the catalog."""
    device = FileDevice(tmp_path / "store", create_size_bytes=64 << 20)
    Store.format(device)
    store = Store.open(device)
    store.apply({b"key": b"old", b"other": b"old"})
    store.commit()
    seen = []

    def watched(name):
        really = getattr(Catalog, name)

        def changed(self, *given):
            seen.append(store._reader._finder.has(b"key"))
            really(self, *given)
            seen.append(store._reader._finder.has(b"key"))

        monkeypatch.setattr(Catalog, name, changed)

    watched("enter")
    watched("put_block")
    store.apply({b"key": b"new", b"other": b"new"})
    assert len(seen) >= 6
    assert False not in seen
    assert store.get(b"key") == b"new"
    store.close()
